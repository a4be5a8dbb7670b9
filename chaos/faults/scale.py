"""A workload runs with fewer replicas, none by default: the way to keep a control plane stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Misuse, NoEffect, NotReady
from chaos.faults import notes, workload
from chaos.faults.activity import Activity
from chaos.faults.model import EXISTENCE, Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster, Object
from chaos.kube.objects import is_observed, label_selector
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a Deployment's or StatefulSet's replicas, seen in its pods; recover restores the number and sees it ready.

    Args:
        replicas: how many are left.
        seconds: longest wait, each way.
    """

    name: ClassVar[str] = "scale"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = (Need.WORKLOADS,)
    activity: ClassVar[Activity] = Activity("scale_workload", "scale_back_workload", deadline=180.0)
    replicas: int = 0
    seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        if target.workload_kind == "DaemonSet":
            raise Misuse(
                f"{target} is a DaemonSet, which has no number of replicas: pause or crash-loop its containers instead"
            )
        found = workload.living(cluster, target)
        notes.refuse_noted(found, target)
        replicas = found["spec"].get("replicas", 1)
        if replicas <= self.replicas:
            raise Misuse(f"{target} has {replicas} replicas: {self.replicas} would not be fewer")
        return {"replicas": replicas}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        at = time.time_ns()
        _put(cluster, receipt.target, self.replicas, notes.patch_with(receipt))

        def fewer() -> dict[str, Any]:
            found = workload.living(cluster, receipt.target)
            status = found.get("status") or {}
            current = is_observed(found)
            if not current or status.get("replicas", 0) != self.replicas:
                return {}
            # a pod that is on its way out is counted no more, and goes on working until it has gone
            selector = label_selector(found["spec"]["selector"])
            left = cluster.list("Pod", receipt.target.namespace, labels=selector)
            return {"replicas": self.replicas} if len(left) <= self.replicas else {}

        try:
            return Evidence(at, cluster.wait("fewer replicas", fewer, seconds=self.seconds))
        except NotReady as error:
            raise NoEffect(f"{receipt.target}: still has more than {self.replicas} replicas: {error}") from error

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        found = workload.living(cluster, receipt.target)
        _put(cluster, receipt.target, receipt.facts["replicas"], notes.patch_without(receipt, found))
        return workload.recovered(cluster, receipt.target, seconds=self.seconds)


def _put(cluster: Cluster, target: Target, replicas: int, metadata: Object) -> None:
    patch = {"metadata": metadata, "spec": {"replicas": replicas}}
    cluster.patch(target.workload_kind, target.name, patch, target.namespace)
