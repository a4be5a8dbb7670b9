"""A workload is deleted with its pods, and created again on recovery, as some upgrades do."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import AlreadyExists, NoEffect, NotReady
from chaos.faults import notes, workload
from chaos.faults.activity import Activity
from chaos.faults.model import EXISTENCE, Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.kube.objects import is_deleting
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class Recreate:
    """Delete a workload and see it gone; recovered when it exists again, rolled out and ready.

    Args:
        gone_seconds: longest wait for it and its pods to go.
        ready_seconds: longest wait for it to be ready again.
    """

    name: ClassVar[str] = "recreate"
    shape: ClassVar[FaultShape] = FaultShape.PULSE
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = (Need.WORKLOADS,)
    activity: ClassVar[Activity] = Activity("recreate_workload", deadline=300.0, workload="DaemonSet/node-proxy")
    gone_seconds: float = 90.0
    ready_seconds: float = 180.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        found = workload.living(cluster, target)
        notes.refuse_noted(found, target)  # its successor would be made of what another fault changed
        return {"manifest": workload.bare(found)}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target, at = receipt.target, time.time_ns()
        cluster.delete(
            target.workload_kind, target.name, target.namespace, uid=target.uid or None, propagation="Foreground"
        )

        def gone() -> dict[str, Any]:
            found = cluster.find(target.workload_kind, target.name, target.namespace)
            return {"gone": True} if found is None or found["metadata"]["uid"] != target.uid else {}

        try:  # in the foreground: it is gone when its pods are
            return Evidence(at, cluster.wait(f"{target} gone", gone, seconds=self.gone_seconds))
        except NotReady as error:
            raise NoEffect(str(error)) from error

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target = receipt.target

        def there() -> bool:
            found = cluster.find(target.workload_kind, target.name, target.namespace)
            if found is not None:  # perhaps the old one on its way out
                return not is_deleting(found)
            with contextlib.suppress(AlreadyExists):
                cluster.create(dict(receipt.facts["manifest"]))
            return True

        cluster.wait(f"{target}: created again", there, seconds=self.gone_seconds, every=0.1)
        return workload.recovered(cluster, target, seconds=self.ready_seconds, uid=False)
