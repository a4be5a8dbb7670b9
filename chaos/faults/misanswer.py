"""An L7 proxy answers a share of requests with an error of its own, or is slow; for all, or for one tenant alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.errors import EnvironmentUnfit, Misuse
from chaos.faults import control_plane_requests
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container, serving_endpoint
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape
from chaos.names import MESH_CONFIG, PORT_STATUS, SYSTEM_NAMESPACE

LONGEST_MS = 60_000


@dataclass(frozen=True, slots=True)
class Misanswer:
    """Let a proxy of our mesh misanswer requests until recovered, by a configuration that only it gets.

    A request that passes the proxy twice, to it and from it, meets the fault twice. The proxy makes connections of
    those whom it concerns anew.

    Args:
        errors: share of the requests that it answers with `code`, 0 to 1.
        code: of the answer, 400 to 599.
        delay_ms: that every request waits first.
        only: the namespace whose servers' requests are concerned; "": those of all.
        seconds: longest wait for the proxy to have taken the configuration, and the right one again.
    """

    name: ClassVar[str] = "misanswer"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"requests"})
    witness: ClassVar[Witness] = Witness.REQUESTS
    needs: ClassVar[tuple[Need, ...]] = (Need.PLANE, Need.LOADER)
    activity: ClassVar[Activity] = Activity("misanswer_requests", "answer_requests", spares=True)
    errors: float = 0.3
    code: int = 503
    delay_ms: int = 0
    only: str = ""
    seconds: float = 30.0

    def __post_init__(self) -> None:
        wrong = []
        if not 0 <= self.errors <= 1:
            wrong.append(f"errors is {self.errors}: a share, 0 to 1")
        if not 400 <= self.code <= 599:
            wrong.append(f"code is {self.code}: 400 to 599")
        if not 0 <= self.delay_ms <= LONGEST_MS:
            wrong.append(f"delay_ms is {self.delay_ms}: 0 to {LONGEST_MS}")
        if not wrong and not self.errors and not self.delay_ms:
            wrong.append("neither errors nor delay_ms is above 0: nothing would be misanswered")
        if wrong:
            raise Misuse(f"fault misanswer: {'; '.join(wrong)}")

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        if cluster.find("ConfigMap", MESH_CONFIG, SYSTEM_NAMESPACE) is None:
            raise EnvironmentUnfit(
                f"{target}: only proxies of sharedfate's own mesh misanswer on request: degrade slows any pod"
            )
        facts = running_container(cluster, target)
        found = _proxy_of(control_plane_requests.page(cluster), target)
        shown = serving_endpoint(refuse_vanished(cluster, target), target.container)
        if not found or found["role"] == "l4" or shown.partition("/")[0] != str(PORT_STATUS):
            l4 = found.get("role") == "l4"
            seen = "is an L4 proxy, which knows no requests" if l4 else "is no proxy that is connected to our mesh"
            raise Misuse(f"fault misanswer: {target} {seen}: choose one with --layer l7")
        return facts

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        asked = {
            "pod_uid": receipt.target.uid,
            "errors": self.errors,
            "code": self.code,
            "delay_ms": self.delay_ms,
            "namespace": self.only,
        }

        def seen(page: control_plane_requests.Page) -> Facts:
            return _taken(page, receipt.target) if asked in _asked_of(page) else {}

        taken = control_plane_requests.request(cluster, receipt, {"misanswer": asked}, seen, seconds=self.seconds)
        return Evidence(time.time_ns(), taken)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        def seen(page: control_plane_requests.Page) -> Facts:
            if not page or any(one["pod_uid"] == receipt.target.uid for one in _asked_of(page)):
                return {}
            gone = not _proxy_of(page, receipt.target)
            return {"gone": True} if gone else _taken(page, receipt.target)

        taken = control_plane_requests.withdraw(cluster, receipt, seen, seconds=self.seconds)
        if taken.get("gone"):
            refuse_vanished(cluster, receipt.target)
        return Evidence(time.time_ns(), {**taken, "over": True})


def _asked_of(page: control_plane_requests.Page) -> list[Facts]:
    return list(page.get("injected_failures", {}).get("misanswers", ()))


def _proxy_of(page: control_plane_requests.Page, target: Target) -> Facts:
    """The proxy of that pod, if it is connected. Pure."""
    return next((dict(one) for one in page.get("proxies", ()) if one["uid"] == target.uid), {})


def _taken(page: control_plane_requests.Page, target: Target) -> Facts:
    """Since when the proxy has acknowledged what is pushed now; empty until then. Pure."""
    proxy = _proxy_of(page, target)
    behind = not proxy or not proxy["current"] or any(kind["pending"] for kind in proxy["resources"].values())
    return {} if behind else {"pushed_at": proxy["pushed_at"]}
