"""Faults of a node, for clusters that own their nodes: the base of the faults that do it, each of which names two
operations.

The embedded cluster offers it through a path of its own (`/embedded/nodes/NODE/OPERATION`); on another cluster there is
no such door in the Kubernetes API, and the fault says so before anything is changed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from chaos.errors import EnvironmentUnfit, NoEffect, NotFound, NotReady, RecoveryFailed, TargetVanished
from chaos.faults.model import EXISTENCE, Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need, offers
from chaos.kube.client import Cluster, Object
from chaos.kube.objects import container_statuses, has_condition, is_deleting
from chaos.model.faulting import FaultShape

UNHEARD: Final = 60.0  # seconds until the cluster notices that a node is silent: its own grace of 40 s, and some


@dataclass(frozen=True, slots=True)
class NodeFault:
    """Break a node by one operation of the cluster, and mend it by another. Recovered when it and its pods are
    Ready.

    Args:
        noticed: wait until the cluster says NotReady (about 40 s) before the fault counts as injected.
        ready_seconds: longest wait for the node to be Ready again.
    """

    name: ClassVar[str]
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"node"})
    aspects: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    witness: ClassVar[Witness] = Witness.LEASE
    needs: ClassVar[tuple[Need, ...]] = (Need.NODE_POWER,)
    breaks: ClassVar[str]  # the operation
    mends: ClassVar[str]  # its inverse
    noticed: bool = False
    ready_seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        """Return the node's state. Raises EnvironmentUnfit where the cluster offers no such operation."""
        if not offers(cluster, Need.NODE_POWER):
            raise EnvironmentUnfit(
                f"cluster {cluster.name} offers no way to stop or cut off a node: its machines are not ours. "
                "`drain` works everywhere; the embedded cluster has the rest"
            )
        found = cluster.find("Node", target.name)
        if found is None:
            raise TargetVanished(f"no node {target.name}")
        return {"boot": found["status"]["nodeInfo"]["bootID"], "containers": sorted(_containers(cluster, target.name))}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        """Break the node, and see it broken; `noticed`: by the rest of the cluster too."""
        node, at = receipt.target.name, time.time_ns()
        _operate(cluster, node, self.breaks)
        seen = _shown(cluster, node)
        if all(seen.values()):
            raise NoEffect(f"node {node}: {self.breaks} was answered, and it runs on: {seen}")
        if self.noticed:
            try:
                cluster.wait(
                    f"node {node} NotReady", lambda: not _ready(cluster.get("Node", node)), seconds=UNHEARD, every=0.25
                )
            except NotReady as error:
                raise NoEffect(f"node {node}: {self.breaks}, and nobody noticed: {error}") from error
        return Evidence(at, {**seen, "noticed": self.noticed})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        """Undo, and wait until the node and its pods are whole. A node that has booted since has other containers;
        until then its pods' status describes the old ones.
        """
        node, since = receipt.target.name, time.time()
        _operate(cluster, node, self.mends)

        def whole() -> dict[str, Any]:
            seen, found = _shown(cluster, node), cluster.get("Node", node)
            booted = found["status"]["nodeInfo"]["bootID"] != receipt.facts["boot"]
            fresh = not booted or not _containers(cluster, node) & set(receipt.facts["containers"])
            return seen if all(seen.values()) and _ready(found) and fresh and _pods_run(cluster, node) else {}

        try:
            seen = cluster.wait(f"node {node} Ready, and its pods", whole, seconds=self.ready_seconds, every=0.2)
        except NotReady as error:
            raise RecoveryFailed(str(error)) from error
        return Evidence(time.time_ns(), {**seen, "after_seconds": round(time.time() - since, 2)})


def _operate(cluster: Cluster, node: str, operation: str) -> None:
    try:
        cluster.request("POST", f"/embedded/nodes/{node}/{operation}", timeout=60)
    except NotFound as error:
        raise TargetVanished(f"node {node}: {error}") from error


def _shown(cluster: Cluster, node: str) -> dict[str, Any]:
    """Return what the cluster reports of the node itself: `power`, `kubelet`, `link`."""
    found: dict[str, Any] = cluster.request("GET", "/embedded/nodes").get(node, {})
    return found


def _ready(node: Object) -> bool:
    return has_condition(node, "Ready")


def _pods(cluster: Cluster, node: str) -> list[Object]:
    return [pod for pod in cluster.list("Pod", fields=f"spec.nodeName={node}") if not is_deleting(pod)]


def _containers(cluster: Cluster, node: str) -> set[str]:
    """Return IDs of the containers that are reported to run there, except init containers that have ended."""
    statuses = (one for pod in _pods(cluster, node) for one in container_statuses(pod))
    return {one["containerID"] for one in statuses if "running" in one.get("state", {}) and "containerID" in one}


def _pods_run(cluster: Cluster, node: str) -> bool:
    """Whether every pod of ours that should run there is ready."""
    return all(_ready(pod) for pod in _pods(cluster, node) if pod["spec"].get("restartPolicy") == "Always")
