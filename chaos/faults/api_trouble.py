"""The API server answers one workload late, with errors, or not at all. Only on a cluster that does so on request."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import EnvironmentUnfit, Misuse, RecoveryFailed
from chaos.faults import workload
from chaos.faults.activity import Activity
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need, offers
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class ApiTrouble:
    """Disturb the API server's answers to the workload's service account, until recovered or until the deadline.

    Args:
        share: of its requests that meet trouble.
        code: HTTP status that they get; 0: the right answer.
        delay: seconds before the answer.
        silent: no answer at all, and open watches are cut.
    """

    name: ClassVar[str] = "api-trouble"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({"api"})
    witness: ClassVar[Witness] = Witness.API_SERVER
    needs: ClassVar[tuple[Need, ...]] = (Need.API_TROUBLE,)
    activity: ClassVar[Activity] = Activity("disturb_api", "soothe_api")
    share: float = 1.0
    code: int = 0
    delay: float = 0.0
    silent: bool = False

    def __post_init__(self) -> None:
        if not (self.code or self.delay or self.silent) or not 0 < self.share <= 1:
            raise Misuse(
                "fault api-trouble: set code (400 to 599), delay (seconds) or silent, and a share above 0 and at most 1"
            )

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        if not offers(cluster, Need.API_TROUBLE):
            raise EnvironmentUnfit(
                f"cluster {cluster.name}: its API server does not misbehave on request: only the embedded "
                "cluster's does. `partition` of the control plane cuts it off anywhere"
            )
        spec = workload.living(cluster, target)["spec"]["template"]["spec"]
        return {"user": f"system:serviceaccount:{target.namespace}:{spec.get('serviceAccountName', 'default')}"}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        at = time.time_ns()
        seconds = min(600.0, max(1.0, (receipt.deadline - at) / 1e9))
        seen = cluster.request(
            "POST",
            f"/embedded/trouble/{receipt.id}",
            {
                "user": receipt.facts["user"],
                "share": self.share,
                "code": self.code,
                "delay": self.delay,
                "silent": self.silent,
                "seconds": seconds,
            },
        )
        return Evidence(at, seen)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        was: dict[str, Any] = cluster.request("POST", f"/embedded/trouble/{receipt.id}/end", retry=True)
        left = cluster.request("GET", "/embedded/trouble")
        if receipt.id in left:
            raise RecoveryFailed(f"{receipt.target}: the API server goes on: {left[receipt.id]}")
        return Evidence(time.time_ns(), {"met": was.get("met", 0)})
