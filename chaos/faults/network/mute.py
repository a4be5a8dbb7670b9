"""The target accepts connections and never answers: a gray failure that its probes do not notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.network.narrowed import Narrowed, narrowed


@dataclass(frozen=True, slots=True)
class Mute(Narrowed):
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
    activity: ClassVar[Activity] = Activity("mute_proxy", "unmute_proxy")

    def arguments(self) -> list[str]:
        return [*narrowed(self.peers, self.ports, "out"), "--segments", "data"]
