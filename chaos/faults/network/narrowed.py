"""What the faults on some of a target's packets share: which packets, how they begin, and how they are undone."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar, Literal

from chaos.errors import Misuse
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.faults.network.partition import isolated, mended, network_facts
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape
from chaos.names import PORT_CONTROL, PORT_STATUS

Direction = Literal["both", "in", "out"]
SPARED = (PORT_STATUS, PORT_CONTROL)  # probes, and the port through which the load is watched


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A fault on the packets of these peers and ports, in force until recovered; the helper ends it by itself at its
    deadline. A fault says its name, its activity, and what `arguments` the helper needs besides.

    Args:
        peers: addresses or networks (IPv4) at the other end; none: all.
        ports: on either side; none: all.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str]
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"packets"})
    witness: ClassVar[Witness] = Witness.PACKETS
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    peers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        refuse_wrong(self.name, self.peers, self.ports)

    def arguments(self) -> list[str]:
        """Return the helper's arguments; raises nothing."""
        return narrowed(self.peers, self.ports)

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return network_facts(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return isolated(cluster, receipt, self.seconds, self.arguments())

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "isolate", [])


def narrowed(peers: tuple[str, ...], ports: tuple[int, ...], direction: Direction = "both") -> list[str]:
    """Return the helper's arguments that say which packets."""
    return [
        "--direction",
        direction,
        "--spare",
        *map(str, (one for one in SPARED if one not in ports)),
        *(["--peer", *peers] if peers else []),
        *(["--only", *map(str, ports)] if ports else []),
    ]


def refuse_wrong(name: str, peers: tuple[str, ...], ports: tuple[int, ...], direction: str = "both") -> None:
    """Raise Misuse that lists every wrong setting."""
    wrong = [f"direction is {direction!r}: both, in or out"] if direction not in ("both", "in", "out") else []
    wrong += [f"port {port!r}: 1 to 65535" for port in ports if not (isinstance(port, int) and 0 < port < 65536)]
    for peer in peers:
        try:
            ipaddress.IPv4Network(peer)
        except ValueError as error:
            wrong.append(f"peer {peer!r}: {error}")
    if wrong:
        raise Misuse(f"fault {name}: " + "; ".join(wrong))
