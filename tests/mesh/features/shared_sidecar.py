"""A mesh that says it has sidecars, and has one proxy a node: what a check of sharing must not believe.

Each pod holds a container that is called its proxy and does nothing; the node's proxy, which says of itself that it is
none, carries everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from chaos.cluster.client import Cluster
from chaos.mesh.install import Mesh
from chaos.mesh.modes import MODES
from chaos.mesh.placement import read_placement
from chaos.mesh.proxyconfig import placebo
from chaos.names import ANNOTATION_PROXY_CONTAINER, IMAGE, LABEL_LAYER, LABEL_SCOPE

Object = dict[str, Any]


class SecretlySharedSidecar(Mesh):
    """Mode `node` in the clothes of mode `sidecar`."""

    def __init__(self, cluster: Cluster, *, run: str) -> None:
        super().__init__(cluster, "node", run=run)
        self.claimed = MODES["sidecar"]

    def system_manifests(self) -> list[Object]:
        found = super().system_manifests()
        for obj in found:
            if obj["kind"] == "DaemonSet":
                del obj["spec"]["template"]["metadata"]["annotations"][ANNOTATION_PROXY_CONTAINER]
        return found

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        found = super().inject(objects)
        for obj in found:
            if obj["kind"] == "Deployment":
                template = obj["spec"]["template"]
                template["metadata"]["annotations"] = {
                    ANNOTATION_PROXY_CONTAINER: "proxy", LABEL_LAYER: "l4-l7", LABEL_SCOPE: "pod"}
                template["spec"]["containers"].append({
                    "name": "proxy", "image": IMAGE, "command": ["envoy", "--config-yaml", json.dumps(placebo()), "--concurrency", "1",
                                                                 "--disable-hot-restart", "--log-level", "error"]})
        return found

    def placement(self, calls: Any = None) -> Any:
        return read_placement(self.cluster, self.claimed, run=self.run, calls=calls)
