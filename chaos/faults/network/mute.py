"""The target accepts connections and never answers: a gray failure that its probes do not notice."""

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
class Mute:
    """Lose what the target says until recovered; the helper ends it by itself at its deadline.

    Its kernel goes on accepting and acknowledging, so that callers see an open connection and wait. What is lost is the
    last segment of each piece of data that it sends: a TLS handshake, a request of its own and an answer stay
    unfinished. The ports of probes and of the load's control are spared unless they are named.

    Args:
        peers: addresses or networks (IPv4) at the other end; none: all.
        ports: on either side; none: all.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "mute"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"packets"})
    witness: ClassVar[Witness] = Witness.PACKETS
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("mute_proxy", "unmute_proxy")
    peers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        refuse_wrong(self.name, self.peers, self.ports, "both")

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return network_facts(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return isolated(
            cluster, receipt, self.seconds, [*narrowed(self.peers, self.ports, "out"), "--segments", "data"]
        )

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "isolate", [])
