"""The control plane answers errors, or late: proxies keep what they have, and get nothing new in time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

from chaos.errors import Misuse
from chaos.faults import control_plane_requests
from chaos.faults.activity import Activity, ActsAt
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Make our control plane misbehave until recovered.

    Args:
        answer: `errors` (every stream is refused as UNAVAILABLE) or `slow` (every push is late).
        delay: seconds, for `slow`.
        seconds: longest wait for the control plane to say so, and for the proxies to be back afterwards.
    """

    name: ClassVar[str] = "control-plane"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({"plane"})
    witness: ClassVar[Witness] = Witness.PLANE
    needs: ClassVar[tuple[Need, ...]] = (Need.PLANE, Need.LOADER)
    activity: ClassVar[Activity] = Activity("disturb_control_plane", "soothe_control_plane", ActsAt.PLANE, 120.0)
    answer: Literal["errors", "slow"] = "errors"
    delay: float = 5.0
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.answer not in ("errors", "slow") or not 0 < self.delay <= 60:
            raise Misuse(
                f"fault control-plane: answer is {self.answer!r} (errors or slow), delay {self.delay} (above 0, at "
                "most 60)"
            )

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return {
            **control_plane_requests.plan(cluster, target),
            "proxies": len(control_plane_requests.page(cluster).get("proxies", ())),
        }

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        at, refuse = time.time_ns(), self.answer == "errors"

        def seen(page: control_plane_requests.Page) -> Facts:
            trouble = page.get("injected_failures", {})
            if refuse:
                gone = trouble.get("refuse") and not page["proxies"]
                return {"refuse": True, "proxies": 0} if gone else {}
            return {"delay": trouble["delay"]} if trouble.get("delay") else {}

        asked = {"refuse": True} if refuse else {"delay": self.delay}
        return Evidence(at, control_plane_requests.request(cluster, receipt, asked, seen, seconds=self.seconds))

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        def seen(page: control_plane_requests.Page) -> Facts:
            trouble, proxies = page.get("injected_failures", {"refuse": True}), len(page.get("proxies", ()))
            quiet = not trouble.get("refuse") and not trouble.get("delay")
            # Late pushes cut no stream: a proxy that is not there left with its pod, and will not be back.
            back = self.answer == "slow" or proxies >= receipt.facts["proxies"]
            return {"proxies": proxies, "over": True} if quiet and back else {}

        over = control_plane_requests.withdraw(cluster, receipt, seen, seconds=self.seconds)
        return Evidence(time.time_ns(), over)
