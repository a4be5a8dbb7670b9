"""Meshes that are not what they say: what a scenario must not believe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from chaos.kube.client import Cluster
from chaos.kube.placement import read_placement
from chaos.mesh.budget import Budget
from chaos.mesh.capture import TABLE
from chaos.mesh.install import Mesh
from chaos.mesh.modes import mode_named
from chaos.mesh.mutations import Defect
from chaos.mesh.proxyconfig import placebo
from chaos.mesh.snapshot import Features
from chaos.model.placement import Placement
from chaos.names import ANNOTATION_PROXY_CONTAINER, IMAGE, LABEL_LAYER, LABEL_SCOPE, MARK_PROXY

Object = dict[str, Any]
BYPASS = (  # what an application sends from an odd port is marked, and let through where it arrives
    f"insert rule ip {TABLE} outbound meta mark != {MARK_PROXY} tcp sport & 1 == 1 ip dscp set cs1 return",
    f"insert rule ip {TABLE} inbound ip dscp cs1 return",
)


class Disguised(Mesh):
    """A mesh of mode `real` that says that it is of the mode it was asked for."""

    real: ClassVar[str]

    def __init__(self, cluster: Cluster, mode: str, *, run: str, budget: Budget | None = None) -> None:
        super().__init__(cluster, self.real, run=run, budget=budget)
        self.mode = self.claimed = mode_named(mode)

    @contextmanager
    def _undisguised(self) -> Iterator[None]:
        before, self.mode = self.mode, mode_named(self.real)
        try:
            yield
        finally:
            self.mode = before

    def start(self, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
        with self._undisguised():
            super().start(objects, seconds=seconds)

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        with self._undisguised():
            return super().inject(objects)

    def system_manifests(self) -> list[Object]:
        with self._undisguised():
            return super().system_manifests()

    def uninstall(self, *, seconds: float = 60.0) -> None:
        with self._undisguised():
            super().uninstall(seconds=seconds)

    def vacate(self, *, seconds: float = 60.0) -> None:
        with self._undisguised():
            super().vacate(seconds=seconds)

    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        return read_placement(self.cluster, self.claimed, run=self.run, calls=calls)


class ClassicSidecar(Disguised):
    """Its proxies are ordinary containers, whatever it says."""

    real = "sidecar"


class NativeSidecar(Disguised):
    """Its proxies are init containers that stay, whatever it says."""

    real = "native-sidecar"


class SecretlySharedSidecar(Disguised):
    """Mode `node` in the clothes of mode `sidecar`: each pod holds a container that is called its proxy and does
    nothing; the node's proxy, which is none of a sidecar mode's, carries everything."""

    real = "node"

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        found = super().inject(objects)
        for obj in found:
            if obj["kind"] == "Deployment":
                template = obj["spec"]["template"]
                template["metadata"]["annotations"] = {
                    ANNOTATION_PROXY_CONTAINER: "proxy",
                    LABEL_LAYER: "l4-l7",
                    LABEL_SCOPE: "pod",
                }
                template["spec"]["containers"].append(
                    {
                        "name": "proxy",
                        "image": IMAGE,
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                        "command": [
                            "envoy",
                            "--config-yaml",
                            json.dumps(placebo()),
                            "--concurrency",
                            "1",
                            "--disable-hot-restart",
                            "--log-level",
                            "error",
                        ],
                    }
                )
        return found


class HalfBypassed(Mesh):
    """Connections from odd ports pass its sidecars by, in plain text, at both ends."""

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        found = super().inject(objects)
        for obj in found:
            spec = obj["spec"]["template"]["spec"] if obj["kind"] == "Deployment" else {}
            for capture in [one for one in spec.get("initContainers", ()) if one["name"] == "capture"]:
                spec["initContainers"].append({**capture, "name": "bypass", "command": ["nft", "; ".join(BYPASS)]})
        return found


class Unbounded(Mesh):
    """Its proxies may use ten times the budget that they are said to share."""

    def __init__(self, cluster: Cluster, mode: str, *, run: str, budget: Budget | None = None) -> None:
        super().__init__(cluster, mode, run=run, budget=Budget((budget or Budget()).cpu_millicores * 10))


class Mutated(Mesh):
    """One mutation of the data plane."""

    DEFECT: ClassVar[Defect]

    def __init__(self, cluster: Cluster, mode: str, *, run: str, budget: Budget | None = None) -> None:
        super().__init__(cluster, mode, run=run, budget=budget, defects={self.DEFECT})


class Generous(Mutated):
    """Its control plane gives every proxy every identity."""

    DEFECT = Defect.OVER_GENEROUS


class Lawless(Mutated):
    """Its proxies let in everybody, whatever a tenant's policy says."""

    DEFECT = Defect.NO_POLICY


class Crossed(Mutated):
    """Its node proxies carry the calls of all pods over the same connections."""

    DEFECT = Defect.UNHASHED_IDENTITY


class Unshared(Mutated):
    """Its proxies open a connection for each stream between them: nothing stands in a tunnel behind anything."""

    DEFECT = Defect.UNSHARED_TUNNELS


class Mindless(Mutated):
    """Its proxies go on calling every endpoint that was ready once."""

    DEFECT = Defect.KEPT_ENDPOINTS


class Restless(Mesh):
    """Whatever it takes up, configuration, certificates or labels, ends an application of another tenant."""

    def set_features(self, features: Features, *, seconds: float = 30.0) -> None:
        super().set_features(features, seconds=seconds)
        self._end_a_neighbour()

    def set_certificate_life(self, certificate_seconds: float, *, seconds: float = 30.0) -> None:
        super().set_certificate_life(certificate_seconds, seconds=seconds)
        self._end_a_neighbour()

    def await_taken(self, *, since: float, seconds: float = 30.0) -> None:
        super().await_taken(since=since, seconds=seconds)
        self._end_a_neighbour()

    def _end_a_neighbour(self) -> None:
        pod, *_ = self.cluster.list("Pod", "tenant-b", labels="app=server")
        self.cluster.exec("tenant-b", pod["metadata"]["name"], ["sh", "-c", "kill -TERM 1"], container="server")
