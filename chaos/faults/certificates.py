"""The proxies' certificates expire: issued again with a short life and not renewed, so that no clock need be
changed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Misuse
from chaos.faults import control_plane_requests
from chaos.faults.activity import Activity, ActsAt
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class ExpireCertificates:
    """Let every certificate from our control plane expire; recover issues all of them again.

    Connections that stand go on, and TLS sessions that were begun in time can be resumed: a certificate is looked at in
    a full handshake alone. Such a one is refused after the expiry.

    Args:
        life: seconds of the short-lived certificates.
        seconds: longest wait for all proxies to hold expired ones (beyond their life), and to hold good ones again.
    """

    name: ClassVar[str] = "expire-certificates"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({"certificates"})
    witness: ClassVar[Witness] = Witness.PLANE
    needs: ClassVar[tuple[Need, ...]] = (Need.PLANE, Need.LOADER)
    activity: ClassVar[Activity] = Activity("expire_certificates", "renew_certificates", ActsAt.PLANE, 120.0)
    life: float = 2.0
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.life <= 600:
            raise Misuse(f"fault expire-certificates: life is {self.life}: 1 to 600 seconds")

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        facts = control_plane_requests.plan(cluster, target)
        if not newest(control_plane_requests.page(cluster)):
            raise Misuse(
                f"{target}: no connected proxy holds a certificate, so none could expire: does this mode use mutual "
                "TLS?"
            )
        return facts

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        def expired(page: control_plane_requests.Page) -> Facts:
            ends, now = newest(page), time.time()
            return (
                {"certificates": len(ends), "expired_at": max(ends.values())}
                if ends and max(ends.values()) < now
                else {}
            )

        asked = {"certificate_seconds": self.life}
        seen = control_plane_requests.request(cluster, receipt, asked, expired, seconds=self.life + self.seconds)
        return Evidence(int(seen["expired_at"] * 1e9), seen)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        def good(page: control_plane_requests.Page) -> Facts:
            ends, soon = newest(page), time.time() + 30
            over = page.get("injected_failures", {}).get("certificate_seconds") == 0
            return (
                {"certificates": len(ends), "valid": True} if over and all(end > soon for end in ends.values()) else {}
            )

        over = control_plane_requests.withdraw(cluster, receipt, good, seconds=self.seconds)
        return Evidence(time.time_ns(), over)


def newest(page: control_plane_requests.Page) -> dict[tuple[str, str], float]:
    """Return when the last certificate of each connected proxy and identity expires: (proxy UID, identity) -> seconds.
    Pure.
    """
    connected = {proxy["uid"] for proxy in page.get("proxies", ())}
    lines: list[dict[str, Any]] = [
        line for line in page.get("identities", ()) if not line["refused"] and line["proxy_uid"] in connected
    ]
    return {(line["proxy_uid"], line["identity"]): line["not_after"] for line in lines}
