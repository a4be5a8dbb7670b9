"""Delete a pod, with or without grace; recovered when its owner has a ready pod in its place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import NotReady, RecoveryFailed, TargetVanished
from chaos.faults.activity import Activity
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.kube.objects import controller, has_condition, is_deleting, is_owned_by
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete one pod.

    Args:
        grace: seconds; None for the pod's own, 0 at once.
        seconds: longest wait for it to go, and for its replacement.
    """

    name: ClassVar[str] = "delete-pod"
    shape: ClassVar[FaultShape] = FaultShape.PULSE
    targets: ClassVar[frozenset[str]] = frozenset({"pod", "container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"existence"})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = (Need.PODS,)
    activity: ClassVar[Activity] = Activity("delete_proxy_pod", deadline=120.0, spares=True)
    grace: int | None = None
    seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        pod = cluster.find("Pod", target.name, target.namespace)
        if pod is None or pod["metadata"]["uid"] != target.uid:
            raise TargetVanished(f"{target}: no such pod any longer")
        owner = controller(pod)
        siblings = _owned(cluster, target.namespace, owner["uid"]) if owner else []
        return {
            "owner": owner["uid"] if owner else "",
            "siblings": [p["metadata"]["uid"] for p in siblings],
            "on_node": owner is not None and owner["kind"] == "DaemonSet",
        }

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target = receipt.target
        at = time.time_ns()
        if not cluster.delete("Pod", target.name, target.namespace, grace=self.grace, uid=target.uid):
            raise TargetVanished(f"{target}: it went before it was deleted")

        def going() -> dict[str, Any]:
            pod = cluster.find("Pod", target.name, target.namespace)
            if pod is None or pod["metadata"]["uid"] != target.uid:
                return {"gone": True}
            stamp = pod["metadata"].get("deletionTimestamp")
            return {"deletionTimestamp": stamp} if stamp else {}

        return Evidence(at, cluster.wait(f"{target}: deleted", going, seconds=10, every=0.02))

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target, facts = receipt.target, receipt.facts
        if receipt.phase is FaultPhase.PLANNED and _untouched(cluster, target):
            return Evidence(time.time_ns(), {"untouched": True})

        def replaced() -> dict[str, Any]:
            pod = cluster.find("Pod", target.name, target.namespace)
            if pod is not None and pod["metadata"]["uid"] == target.uid:
                return {}
            if not facts["owner"]:
                return {"gone": True}
            owned = _owned(cluster, target.namespace, facts["owner"])
            ready = [p for p in owned if _ready(p) and p["metadata"]["uid"] != target.uid]
            new = [
                p["metadata"]["name"]
                for p in ready
                if p["metadata"]["uid"] not in facts["siblings"]
                and (not facts["on_node"] or p["spec"].get("nodeName") == target.node)
            ]
            return {"replacement": new} if new and len(ready) >= len(facts["siblings"]) else {}

        try:
            seen = cluster.wait(f"{target}: replaced by its owner", replaced, seconds=self.seconds, every=0.05)
        except NotReady as error:
            raise RecoveryFailed(str(error)) from error
        return Evidence(time.time_ns(), seen)


def _untouched(cluster: Cluster, target: Target) -> bool:
    pod = cluster.find("Pod", target.name, target.namespace)
    return pod is not None and pod["metadata"]["uid"] == target.uid and not is_deleting(pod)


def _owned(cluster: Cluster, namespace: str, owner: str) -> list[dict[str, Any]]:
    return [pod for pod in cluster.list("Pod", namespace) if is_owned_by(pod, {owner})]


def _ready(pod: dict[str, Any]) -> bool:
    return has_condition(pod, "Ready")
