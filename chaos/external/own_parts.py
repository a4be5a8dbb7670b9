"""What a run adds to a mesh that is not ours: its namespace, the watchdog, and without a mesh the placebo."""

from __future__ import annotations

from chaos.kube.applying import Object, apply_all
from chaos.kube.client import Cluster
from chaos.mesh import inject, manifests
from chaos.mesh.budget import divide
from chaos.mesh.proxyconfig import config_map, proxy_config
from chaos.mesh.render import MeshPlan
from chaos.model.modes import ProxyMode
from chaos.names import SYSTEM_NAMESPACE


def own_parts(mode: ProxyMode, run: str) -> list[Object]:
    """The objects."""
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


def apply_own_parts(cluster: Cluster, objects: list[Object], mode: ProxyMode, run: str) -> None:
    """Apply them, the namespace first."""
    apply_all(cluster, (obj for obj in objects if obj["kind"] == "Namespace"))
    if not mode.hops:  # the placebo's configuration; no proxy of ours is anywhere else
        cluster.apply(config_map(SYSTEM_NAMESPACE, proxy_config("none", ""), run))
    apply_all(cluster, (obj for obj in objects if obj["kind"] != "Namespace"))
