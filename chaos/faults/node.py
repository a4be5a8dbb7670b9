"""What a cluster that owns its nodes can do to one; shared by the faults that do it.

The embedded cluster offers it through a path of its own (`/embedded/nodes/NODE/OPERATION`); on another cluster there is no
such door in the Kubernetes API, and the fault says so before anything is changed.
"""

from __future__ import annotations

import time
from typing import Any, Final

from chaos.cluster.client import Cluster, Object
from chaos.errors import ApiError, EnvironmentUnfit, NoEffect, NotReady, RecoveryFailed, TargetVanished
from chaos.faults.model import Evidence, Facts, Receipt, Target
from chaos.faults.needs import Need, offers

UNHEARD: Final = 60.0  # seconds until the cluster notices that a node is silent: its own grace of 40 s, and some


def plan(cluster: Cluster, target: Target) -> Facts:
    if not offers(cluster, Need.NODE_POWER):
        raise EnvironmentUnfit(f"cluster {cluster.name} offers no way to stop or cut off a node: its machines are not ours. "
                               "`drain` works everywhere; the embedded cluster has the rest")
    if cluster.find("Node", target.name) is None:
        raise TargetVanished(f"no node {target.name}")
    return {}


def _operate(cluster: Cluster, node: str, operation: str) -> None:
    try:
        cluster.request("POST", f"/embedded/nodes/{node}/{operation}", timeout=60)
    except ApiError as error:
        if error.code == 404:
            raise TargetVanished(f"node {node}: {error}") from error
        raise


def _shown(cluster: Cluster, node: str) -> dict[str, Any]:
    """What the cluster knows of the node itself: `power`, `kubelet`, `link`."""
    found: dict[str, Any] = cluster.request("GET", "/embedded/nodes").get(node, {})
    return found


def broken(cluster: Cluster, receipt: Receipt, operation: str, *, noticed: bool) -> Evidence:
    node, at = receipt.target.name, time.time_ns()
    _operate(cluster, node, operation)
    seen = _shown(cluster, node)
    if all(seen.values()):
        raise NoEffect(f"node {node}: {operation} was answered, and it runs on: {seen}")
    if noticed:
        try:
            cluster.wait(f"node {node} NotReady", lambda: not _ready(cluster.get("Node", node)), seconds=UNHEARD, every=0.25)
        except NotReady as error:
            raise NoEffect(f"node {node}: {operation}, and nobody noticed: {error}") from error
    return Evidence(at, {**seen, "noticed": noticed})


def mended(cluster: Cluster, receipt: Receipt, operation: str, *, seconds: float) -> Evidence:
    node = receipt.target.name
    _operate(cluster, node, operation)
    since = time.time()

    def whole() -> dict[str, Any]:
        seen = _shown(cluster, node)
        return seen if all(seen.values()) and _ready(cluster.get("Node", node)) and _pods_run(cluster, node) else {}

    try:
        seen = cluster.wait(f"node {node} Ready, and its pods", whole, seconds=seconds, every=0.2)
    except NotReady as error:
        raise RecoveryFailed(str(error)) from error
    return Evidence(time.time_ns(), {**seen, "after_seconds": round(time.time() - since, 2)})


def _ready(node: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node.get("status", {}).get("conditions", []))


def _pods_run(cluster: Cluster, node: str) -> bool:
    """Whether every pod of ours that should live there is ready."""
    pods = [pod for pod in cluster.list("Pod", fields=f"spec.nodeName={node}") if "deletionTimestamp" not in pod["metadata"]]
    return all(_ready(pod) for pod in pods if pod["spec"].get("restartPolicy") == "Always")
