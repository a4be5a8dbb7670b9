"""Some packets of the target are dropped silently: of one peer, one port, one direction, or any of these together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.network.narrowed import Direction, Narrowed, narrowed, refuse_wrong


@dataclass(frozen=True, slots=True)
class Drop(Narrowed):
    """Drop packets until recovered; the helper ends it by itself at its deadline.

    Args:
        peers: addresses or networks (IPv4) that packets come from or go to; none: all.
        ports: that packets come from or go to, on either side; none: all.
        direction: `in`, `out` or `both`, seen from the target.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "drop"
    activity: ClassVar[Activity] = Activity("drop_packets", "pass_packets")
    direction: Direction = "both"

    def __post_init__(self) -> None:
        refuse_wrong(self.name, self.peers, self.ports, self.direction)

    def arguments(self) -> list[str]:
        return narrowed(self.peers, self.ports, self.direction)
