"""`ExternalMesh`: a mesh that is not ours, with what a run adds to it: a namespace for helpers and receipts, the
watchdog, and the loaders.

It installs no mesh and removes none. Its mode follows from the description and the proxies that are there. Without a
mesh (`mesh: none`) it adds the placebo, as our mode `none` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chaos.external import own_parts
from chaos.external.described import DescribedMesh
from chaos.external.description import MeshDescription
from chaos.external.file import TargetSystem
from chaos.external.installed import plane_parts
from chaos.external.loaders import await_carried, carried_otherwise, loaded, loader_name, plan_loaders
from chaos.external.placement import read_site, read_target_placement, route_context
from chaos.external.routes import why_not_carried
from chaos.kube.applying import Object, apply_all, delete_all, wait_all_ready
from chaos.kube.client import Cluster
from chaos.kube.control_key import stored_key
from chaos.kube.objects import is_live, workload_name
from chaos.kube.placement import proxy_of
from chaos.mesh import inject
from chaos.mesh.handle import PlanePart
from chaos.model.fate import is_whole
from chaos.model.placement import Placement
from chaos.names import LABEL_ROLE, LABEL_RUN, SYSTEM_NAMESPACE


class ExternalMesh(DescribedMesh):
    """The mesh of a system under test: a `MeshHandle`.

    Args:
        target: with the mesh's description in it.
        before: the placement of the tenants' own pods, from which the mode is known.
    """

    def __init__(
        self, cluster: Cluster, target: TargetSystem, description: MeshDescription, before: Placement, *, run: str
    ) -> None:
        self.cluster, self.run = cluster, run
        self.mode = replace(before.mode, name=target.name)
        self.description = description
        self.target = loaded(replace(target, mesh=description))
        self._own = target
        self._deployed: list[Object] = []

    def plane_parts(self) -> list[PlanePart]:
        """The Deployments of the mesh's control plane that this user may see."""
        return plane_parts(self.cluster, self.description.installation)

    def why_bare(self, pod: Object) -> str:
        """By what every proxy of the mesh says why it does not carry the pod."""
        site = read_site(self.cluster, self.target)
        around = route_context(self.description, site, tenants=self.target.namespaces)
        rules = [rule for rule in self.description.rules if rule.binding is None]
        why = [why_not_carried(rule, pod, around) for rule in rules]
        return "; ".join(why) if all(why) else ""

    def loaders(self) -> list[Object]:
        """Plan the loaders' pods from where the clients' are now."""
        pods = [pod for name in self._own.namespaces for pod in self.cluster.list("Pod", name)]
        services = [service for name in self._own.namespaces for service in self.cluster.list("Service", name)]
        return plan_loaders(self._own, self.description.loader, pods, run=self.run, services=services)

    def start(self, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
        """Apply the run's own parts and these pods, and wait until the mesh's proxies serve them."""
        own_parts.start(self, objects, seconds=seconds)

    def deploy(self, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
        """Apply the pods, and wait until they are ready and every path has its proxies."""
        stamped = self.inject(objects)
        self._deployed += stamped
        apply_all(self.cluster, inject.told_digests(stamped, stored_key(self.cluster, run=self.run)))
        wait_all_ready(self.cluster, stamped, seconds=seconds)
        await_carried(self.cluster, self._otherwise, seconds=seconds)
        self.cluster.wait(
            f"{self.mode.name}: a proxy at every hop of every path", lambda: is_whole(self.placement()), seconds=seconds
        )

    def _otherwise(self) -> list[str]:
        """Return how the mesh carries loaders differently from their clients, by its own signs."""
        site = read_site(self.cluster, self.target)
        around = route_context(self.description, site, tenants=self.target.namespaces)
        pods = {(pod["metadata"]["namespace"], workload_name(pod)): pod for pod in site.pods if is_live(pod)}
        clients = [tuple(call.client.split("/")) for call in self._own.calls if call.loaded]
        pairs = [
            (pods.get((space, name)), pods.get((space, loader_name(f"{space}/{name}")))) for space, name in clients
        ]
        found = [
            carried_otherwise(self.description, client, loader, around) for client, loader in pairs if client and loader
        ]
        return [one for one in dict.fromkeys(found) if one]

    def uninstall(self, *, seconds: float = 60.0) -> None:
        """Remove the run's own pods and parts; the mesh and its tenants stay as they are."""
        delete_all(self.cluster, self._deployed)
        self._deployed = []
        own_parts.remove(self, seconds=seconds)

    def vacate(self, *, seconds: float = 60.0) -> None:
        """Remove the run's own pods, and leave the run's namespaces to its next mode, empty."""
        deployed, self._deployed = self._deployed, []
        own_parts.vacate(self, deployed, seconds=seconds)

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        """Return the objects with the run's label; the mesh does its own injection."""
        return inject.stamp(objects, self.run)

    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        """Read the current placement: the loaders, the servers and the mesh's proxies."""
        del calls  # the file says who calls whom
        _, found = read_target_placement(self.cluster, self.target)
        placebos = (
            []
            if self.mode.hops
            else self.cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"{LABEL_RUN}={self.run},{LABEL_ROLE}=proxy")
        )
        own = tuple(instance for pod in placebos if (instance := proxy_of(pod, self.mode, {})) is not None)
        return replace(found, mode=replace(found.mode, name=self.mode.name), proxies=(*found.proxies, *own))
