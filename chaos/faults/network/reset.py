"""TCP connections of the target are reset, open ones and new ones: it is reachable, and no connection lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.network.narrowed import Narrowed, narrowed


@dataclass(frozen=True, slots=True)
class Reset(Narrowed):
    """Reset connections until recovered; the helper ends it by itself at its deadline.

    A connection is reset at its next packet: an idle one stands until somebody uses it.

    Args:
        peers: addresses or networks (IPv4) at the other end; none: all.
        ports: on either side; none: all.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "reset"
    activity: ClassVar[Activity] = Activity("break_connections", "keep_connections")

    def arguments(self) -> list[str]:
        return [*narrowed(self.peers, self.ports), "--reset"]
