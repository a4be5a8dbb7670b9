"""A rolling restart of a workload, as `kubectl rollout restart` does: every pod is replaced, by the workload's own
strategy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import NoEffect, NotReady
from chaos.faults import workload
from chaos.faults.activity import Activity
from chaos.faults.model import EXISTENCE, Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape
from chaos.names import GROUP

ANNOTATION_RESTARTED = (
    f"{GROUP}/restarted-by"  # on the pod template: the receipt. It stays: taking it away would restart again
)


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart a workload; recovered when all of it is of the new revision and ready.

    Args:
        ready_seconds: longest wait for that.
    """

    name: ClassVar[str] = "restart"
    shape: ClassVar[FaultShape] = FaultShape.PULSE
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = (Need.WORKLOADS,)
    activity: ClassVar[Activity] = Activity("restart_workload", deadline=240.0, workload="DaemonSet/node-proxy")
    ready_seconds: float = 180.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        found = workload.living(cluster, target)
        return {"generation": found["metadata"].get("generation", 1)}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target, at = receipt.target, time.time_ns()
        patch = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION_RESTARTED: receipt.id}}}}}
        cluster.patch(target.workload_kind, target.name, patch, target.namespace, how="strategic")

        def begun() -> dict[str, Any]:
            found = workload.living(cluster, target)
            status = found.get("status") or {}
            new = workload.updated(found)
            seen = status.get("observedGeneration", 0) > receipt.facts["generation"] and (
                new > 0 or not workload.rolled_out(found)
            )
            return {"generation": found["metadata"]["generation"], "updated": new} if seen else {}

        try:
            return Evidence(at, cluster.wait("begun", begun, seconds=20))
        except NotReady as error:
            raise NoEffect(
                f"{target}: its template was changed, and its controller started no roll-out: {error}"
            ) from error

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return workload.recovered(cluster, receipt.target, seconds=self.ready_seconds)
