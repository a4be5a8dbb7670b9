"""The control plane pushes a wrong configuration, and withdraws it: every endpoint at a port that nobody serves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.faults import control_plane_requests
from chaos.faults.activity import Activity, ActsAt
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class WrongPush:
    """Let our control plane push endpoints that nobody serves, until it is told to push the right ones again.

    Proxies take it: nothing in it is invalid. Calls that the mesh routes fail from then on, on connections that stand
    too.

    Args:
        seconds: longest wait for every connected proxy to have taken the wrong configuration, and the right one again.
    """

    name: ClassVar[str] = "wrong-push"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({"endpoints"})
    witness: ClassVar[Witness] = Witness.PLANE
    needs: ClassVar[tuple[Need, ...]] = (Need.PLANE, Need.LOADER)
    activity: ClassVar[Activity] = Activity("push_wrongly", "push_rightly", ActsAt.PLANE, 120.0, fails=True)
    seconds: float = 30.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return control_plane_requests.plan(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        def seen(page: control_plane_requests.Page) -> Facts:
            return _taken(page) if page.get("injected_failures", {}).get("misdirect") else {}

        taken = control_plane_requests.request(cluster, receipt, {"misdirect": True}, seen, seconds=self.seconds)
        return Evidence(time.time_ns(), taken)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        def seen(page: control_plane_requests.Page) -> Facts:
            return _taken(page) if not page.get("injected_failures", {"misdirect": True}).get("misdirect") else {}

        taken = control_plane_requests.withdraw(cluster, receipt, seen, seconds=self.seconds)
        return Evidence(time.time_ns(), {**taken, "over": True})


def _taken(page: control_plane_requests.Page) -> Facts:
    """How many proxies have acknowledged what is pushed now; empty until all that are connected have. Pure."""
    proxies = page.get("proxies", ())
    behind = [
        one for one in proxies if not one["current"] or any(kind["pending"] for kind in one["resources"].values())
    ]
    return {} if behind or not proxies else {"taken_by": len(proxies)}
