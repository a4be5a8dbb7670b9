"""What a run adds to a mesh that is not ours: its namespace, the watchdog, and without a mesh the placebo.

`start`, `remove` and `vacate` are `MeshHandle.start`, and the ends of its `uninstall` and `vacate`, of each such mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chaos.kube.applying import (
    Object,
    apply_all,
    delete_all,
    delete_helpers,
    delete_system,
    empty_namespaces,
    namespaces_of_run,
    pods_of_run,
    unmark_namespaces,
    wait_all_ready,
    wait_emptied,
    wait_namespaces_gone,
)
from chaos.mesh import inject, manifests
from chaos.mesh.budget import divide
from chaos.mesh.handle import MeshHandle
from chaos.mesh.proxyconfig import config_map, proxy_config
from chaos.mesh.render import RUN_FILES, MeshPlan
from chaos.model.modes import ProxyMode
from chaos.names import SYSTEM_NAMESPACE


def own_parts(mode: ProxyMode, run: str) -> list[Object]:
    """Return the objects that a run adds."""
    return _parts(mode, run, [*RUN_FILES, *_files_of(mode)])


def _files_of(mode: ProxyMode) -> list[str]:
    return [] if mode.hops else ["modes/none/components.yaml"]


def _parts(mode: ProxyMode, run: str, files: Iterable[str]) -> list[Object]:
    values = {**MeshPlan(mode, run, divide(mode)).values, "mode": mode.name, "run": run}
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
    _await_ended(mesh, seconds)
    delete_system(mesh.cluster, own_parts(mesh.mode, mesh.run), run=mesh.run, seconds=seconds)
    wait_namespaces_gone(mesh.cluster, [*namespaces, SYSTEM_NAMESPACE], run=mesh.run, seconds=seconds)


def vacate(mesh: MeshHandle, deployed: Sequence[Object], *, seconds: float) -> None:
    """Delete what was deployed, what else lies in the run's namespaces, and of its own parts those of the mode alone;
    wait until the pods are gone.
    """
    cluster = mesh.cluster
    own = {one["metadata"]["name"] for one in namespaces_of_run(cluster, mesh.run)} - {SYSTEM_NAMESPACE}
    delete_all(cluster, [obj for obj in deployed if obj["kind"] != "Namespace"])
    empty_namespaces(cluster, own)
    delete_helpers(cluster, run=mesh.run, namespace=SYSTEM_NAMESPACE)
    wait_emptied(cluster, own, seconds=seconds)
    _await_ended(mesh, seconds)
    delete_system(cluster, _parts(mesh.mode, mesh.run, _files_of(mesh.mode)), run=mesh.run, seconds=seconds)
    marked = [obj for obj in deployed if obj["kind"] == "Namespace" and obj["metadata"]["name"] in own]
    unmark_namespaces(cluster, marked)


def _await_ended(mesh: MeshHandle, seconds: float) -> None:
    def only_own_pods() -> bool:
        pods = pods_of_run(mesh.cluster, mesh.run)
        return all(pod["metadata"]["namespace"] == SYSTEM_NAMESPACE for pod in pods)

    mesh.cluster.wait("the run's other pods are gone", only_own_pods, seconds=seconds)
