"""A node is drained: cordoned, and its pods evicted; on recovery it takes pods again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import ApiError, NoEffect, NotReady, RecoveryFailed, TargetVanished
from chaos.faults import notes
from chaos.faults.activity import Activity
from chaos.faults.model import EXISTENCE, Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster, Object, object_path
from chaos.kube.objects import controller, is_deleting
from chaos.model.faulting import FaultShape
from chaos.names import LABEL_RUN


@dataclass(frozen=True, slots=True)
class Drain:
    """Cordon a node and evict its pods, as `kubectl drain` does: DaemonSets' pods stay.

    Args:
        everyone: evict pods without a run's label too: somebody else's applications.
        seconds: longest wait for the pods to go (disruption budgets may hold them), and for new ones to be ready.
    """

    name: ClassVar[str] = "drain"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"node"})
    aspects: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = (Need.NODES, Need.PODS)
    activity: ClassVar[Activity] = Activity("drain_node", "uncordon_node", deadline=240.0)
    everyone: bool = False
    seconds: float = 120.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        node = cluster.find("Node", target.name)
        if node is None:
            raise TargetVanished(f"no node {target.name}")
        notes.refuse_noted(node, target)
        evicted = [pod for pod in _pods(cluster, target.name) if self._meant(pod)]
        return {
            "unschedulable": bool(node["spec"].get("unschedulable")),
            "pods": [
                [pod["metadata"]["namespace"], pod["metadata"]["name"], pod["metadata"]["uid"]] for pod in evicted
            ],
            "owners": sorted({one for pod in evicted if (one := _owner(pod))}),
        }

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        at = time.time_ns()
        _cordon(cluster, receipt, notes.patch_with(receipt), True)
        left = {tuple(one) for one in receipt.facts["pods"]}

        def empty() -> bool:
            for namespace, name, uid in tuple(left):
                if evict(cluster, namespace, name, uid):
                    left.discard((namespace, name, uid))
            return not left

        try:
            cluster.wait(f"node {receipt.target.name} drained", empty, seconds=self.seconds, every=0.25)
        except NotReady as error:
            held = ", ".join(f"{namespace}/{name}" for namespace, name, _ in sorted(left))
            raise NoEffect(f"{error}: still there are {held}: does a disruption budget hold them?") from error
        return Evidence(at, {"evicted": len(receipt.facts["pods"]), "unschedulable": True})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        node = cluster.find("Node", receipt.target.name)
        if node is None:
            raise TargetVanished(f"no node {receipt.target.name} any longer")
        _cordon(cluster, receipt, notes.patch_without(receipt, node), bool(receipt.facts["unschedulable"]))

        def whole() -> dict[str, Any]:
            waiting = [owner for owner in receipt.facts["owners"] if not _whole(cluster, owner)]
            return {} if waiting else {"schedulable": True, "whole": len(receipt.facts["owners"])}

        try:
            seen = cluster.wait("what was evicted runs again", whole, seconds=self.seconds, every=0.1)
            return Evidence(time.time_ns(), seen)
        except NotReady as error:
            raise RecoveryFailed(f"node {receipt.target.name}: {error}") from error

    def _meant(self, pod: Object) -> bool:
        owner = controller(pod)
        ours = LABEL_RUN in (pod["metadata"].get("labels") or {})
        return owner is not None and owner["kind"] != "DaemonSet" and (self.everyone or ours)


def _pods(cluster: Cluster, node: str) -> list[Object]:
    return [pod for pod in cluster.list("Pod", fields=f"spec.nodeName={node}") if not is_deleting(pod)]


def _cordon(cluster: Cluster, receipt: Receipt, metadata: Object, cordoned: bool) -> None:
    patch = {"metadata": metadata, "spec": {"unschedulable": True if cordoned else None}}
    cluster.patch("Node", receipt.target.name, patch)


def evict(cluster: Cluster, namespace: str, name: str, uid: str) -> bool:
    """Request the eviction of a pod, as long as it is there and not going; return whether it is gone."""
    pod = cluster.find("Pod", name, namespace)
    if pod is None or pod["metadata"]["uid"] != uid:
        return True
    if not is_deleting(pod):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        try:
            cluster.request("POST", object_path("Pod", namespace, name, "eviction"), body)
        except ApiError as error:
            if error.code not in (404, 429):  # gone; a disruption budget says: later
                raise
    return False


def _owner(pod: Object) -> str:
    """Return `namespace/kind/name` of the workload that recreates the pod; "" when none is known to us."""
    meta = pod["metadata"]
    owner = controller({"metadata": meta})
    if owner is None or owner["kind"] not in ("ReplicaSet", "StatefulSet"):
        return ""
    return f"{meta['namespace']}/{owner['kind']}/{owner['name']}"


def _whole(cluster: Cluster, owner: str) -> bool:
    namespace, kind, name = owner.split("/")
    found = cluster.find(kind, name, namespace)
    if found is None:
        return True  # rolled out or deleted meanwhile: it brings nothing back
    return bool((found.get("status") or {}).get("readyReplicas", 0) >= found["spec"].get("replicas", 1))
