"""`ExternalMesh`: a mesh that is not ours, with what a run adds to it: a namespace for helpers and receipts, the
watchdog, and the loaders.

It installs no mesh and removes none. Its mode follows from the description and the proxies that are there. Without a
mesh (`mesh: none`) it adds the placebo, as our mode `none` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chaos.external.description import MeshDescription
from chaos.external.file import Target
from chaos.external.loaders import loaded, plan_loaders
from chaos.external.placement import read_target_placement
from chaos.kube.client import Cluster
from chaos.kube.placement import proxy_of
from chaos.mesh import inject, manifests
from chaos.mesh.install import Mesh, Object
from chaos.mesh.proxyconfig import config_map, proxy_config
from chaos.model.placement import Placement
from chaos.names import LABEL_ROLE, LABEL_RUN, SYSTEM_NAMESPACE


class ExternalMesh(Mesh):
    """The mesh of a system under test.

    Args:
        target: with the mesh's description in it.
        before: the placement of the tenants' own pods, from which the mode is known.
    """

    def __init__(
        self, cluster: Cluster, target: Target, description: MeshDescription, before: Placement, *, run: str
    ) -> None:
        super().__init__(cluster, replace(before.mode, name=target.name), run=run)
        self.description = description
        self.target = loaded(replace(target, mesh=description))
        self._own = target

    def system_manifests(self) -> list[Object]:
        """The run's own namespace and the watchdog; without a mesh the placebo too."""
        values = {**self.values, "mode": self.mode.name, "run": self.run}
        files = [
            "namespace.yaml",
            "rbac/watchdog.yaml",
            "watchdog.yaml",
            *([] if self.mode.hops else ["modes/none/components.yaml"]),
        ]
        return inject.stamp([obj for file in files for obj in manifests.load(file, values)], self.run)

    def loaders(self) -> list[Object]:
        """The loaders' pods, planned from where the clients' are now."""
        pods = [pod for name in self._own.namespaces for pod in self.cluster.list("Pod", name)]
        return plan_loaders(self._own, self.description.loader, pods, run=self.run)

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        """The objects with the run's label; injection is the mesh's own affair."""
        return inject.stamp(objects, self.run)

    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        """What is where now: of the loaders, the servers and the mesh's proxies."""
        del calls  # the file says who calls whom
        _, found = read_target_placement(self.cluster, self.target)
        placebos = (
            []
            if self.mode.hops
            else self.cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"{LABEL_RUN}={self.run},{LABEL_ROLE}=proxy")
        )
        own = tuple(instance for pod in placebos if (instance := proxy_of(pod, self.mode, {})) is not None)
        return replace(found, mode=replace(found.mode, name=self.mode.name), proxies=(*found.proxies, *own))

    def _publish(self, namespaces: Sequence[str]) -> None:
        if not self.mode.hops:  # the placebo's configuration; no proxy of ours is anywhere else
            self.cluster.apply(config_map(SYSTEM_NAMESPACE, proxy_config("none", ""), self.run))

    def _release(self, deleted: set[str], seconds: float) -> None:
        """Nothing was captured by us."""
