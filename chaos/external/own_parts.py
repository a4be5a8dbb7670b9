"""What a run adds to a mesh that is not ours: its namespace, the watchdog, and without a mesh the placebo.

`start` and `remove` are `MeshHandle.start` and the end of `MeshHandle.uninstall` of each such mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chaos.kube.applying import Object, apply_all, delete_system, pods_of_run, wait_all_ready, wait_namespaces_gone
from chaos.mesh import inject, manifests
from chaos.mesh.budget import divide
from chaos.mesh.handle import MeshHandle
from chaos.mesh.proxyconfig import config_map, proxy_config
from chaos.mesh.render import MeshPlan
from chaos.model.modes import ProxyMode
from chaos.names import SYSTEM_NAMESPACE


def own_parts(mode: ProxyMode, run: str) -> list[Object]:
    """Return the objects that a run adds."""
    plan = MeshPlan(mode, run, divide(mode))
    values = {**plan.values, "mode": mode.name, "run": run}
    files = [
        "namespace.yaml",
        "rbac/watchdog.yaml",
        "watchdog.yaml",
        *([] if mode.hops else ["modes/none/components.yaml"]),
    ]
    parts = [obj for file in files for obj in manifests.load(file, values)]
    return [inject.keep_in_place(obj) for obj in inject.stamp(parts, run)]


def start(mesh: MeshHandle, objects: Iterable[Object], *, seconds: float) -> None:
    """Apply the run's own parts, the namespace first, deploy these workloads, and wait until the parts are ready."""
    parts = own_parts(mesh.mode, mesh.run)
    apply_all(mesh.cluster, (obj for obj in parts if obj["kind"] == "Namespace"))
    if not mesh.mode.hops:  # the placebo's configuration; no proxy of ours is anywhere else
        mesh.cluster.apply(config_map(SYSTEM_NAMESPACE, proxy_config("none", ""), mesh.run))
    apply_all(mesh.cluster, (obj for obj in parts if obj["kind"] != "Namespace"))
    mesh.deploy(objects, seconds=seconds)
    wait_all_ready(mesh.cluster, parts, seconds=seconds)


def remove(mesh: MeshHandle, namespaces: Sequence[str] = (), *, seconds: float) -> None:
    """Wait until the run's other pods are gone, delete its own parts, and wait until these namespaces are gone too."""

    def only_own_pods() -> bool:
        pods = pods_of_run(mesh.cluster, mesh.run)
        return all(pod["metadata"]["namespace"] == SYSTEM_NAMESPACE for pod in pods)

    mesh.cluster.wait("the run's other pods are gone", only_own_pods, seconds=seconds)
    delete_system(mesh.cluster, own_parts(mesh.mode, mesh.run), run=mesh.run, seconds=seconds)
    wait_namespaces_gone(mesh.cluster, [*namespaces, SYSTEM_NAMESPACE], run=mesh.run, seconds=seconds)
