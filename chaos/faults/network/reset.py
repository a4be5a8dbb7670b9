"""TCP connections of the target are reset, open ones and new ones: it is reachable, and no connection lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.faults.network.drop import narrowed, refuse_wrong
from chaos.faults.network.partition import isolated, mended, network_facts
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset connections until recovered; the helper ends it by itself at its deadline.

    A connection is reset at its next packet: an idle one stands until somebody uses it.

    Args:
        peers: addresses or networks (IPv4) at the other end; none: all.
        ports: on either side; none: all.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "reset"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"packets"})
    witness: ClassVar[Witness] = Witness.PACKETS
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("break_connections", "keep_connections")
    peers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        refuse_wrong(self.name, self.peers, self.ports, "both")

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return network_facts(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return isolated(cluster, receipt, self.seconds, [*narrowed(self.peers, self.ports, "both"), "--reset"])

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "isolate", [])
