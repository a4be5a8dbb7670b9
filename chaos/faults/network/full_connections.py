"""The target's connection table is full: connections that stand go on, and no new one comes about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.network.narrowed import Narrowed, narrowed


@dataclass(frozen=True, slots=True)
class FullConnections(Narrowed):
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
    activity: ClassVar[Activity] = Activity("fill_connections", "free_connections", spares=True)

    def arguments(self) -> list[str]:
        return [*narrowed(self.peers, self.ports), "--segments", "opening"]
