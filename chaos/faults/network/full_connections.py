"""The target's connection table is full: connections that stand go on, and no new one comes about."""

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
class FullConnections:
    """Lose what opens a connection, to the target and from it, until recovered; the helper ends it by itself.

    That is what a kernel does whose connection tracking has no entry left: it drops the first packet of each flow that
    it does not know. The real table belongs to the machine, with all that run on it, and is not touched. A proxy that
    is reached through connections that stand, as a waypoint is, goes on until one has to be made.

    Args:
        peers: addresses or networks (IPv4) at the other end; none: all.
        ports: on either side; none: all.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "full-connections"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"packets"})
    witness: ClassVar[Witness] = Witness.PACKETS
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("fill_connections", "free_connections", spares=True)
    peers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        refuse_wrong(self.name, self.peers, self.ports, "both")

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return network_facts(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return isolated(
            cluster, receipt, self.seconds, [*narrowed(self.peers, self.ports, "both"), "--segments", "opening"]
        )

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "isolate", [])
