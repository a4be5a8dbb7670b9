"""Finds the proxies that an overload saturated: those on its path that used up their CPU limit while it was held. Pure.

Where a path passes several proxies, the weakest gives out first and shields the others: a waypoint of a tenant's own
keeps the overload from the node's proxy that all share. Which one that is depends on what layers cost, so it is read,
not assumed.

Near saturation a queue already slows whoever shares the proxy, by how much depends on the traffic (M/D/1: the wait is a
service time at 0.67, four and a half at 0.9). Of flows behind such a proxy the model says nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history.model import Event, EventKind
from chaos.model.flow import Window
from chaos.model.placement import Proxy

SATURATED: Final = 0.9  # of its limit: a CFS quota that is used up reads as 0.95 to 1.02
NEAR: Final = 0.67  # of its limit
_LEAD_NS: Final = 1_200_000_000  # a reading covers the second before it
_LAG_NS: Final = 200_000_000


def use(proxy: Proxy, events: Iterable[Event], held: Sequence[Window]) -> float | None:
    """Return the median share of its CPU limit that a proxy used in the windows; None without a reading or a limit."""
    if not proxy.cpu_millicores:
        return None
    readings = []
    for event in events:
        if event.kind is not EventKind.USAGE or (event.data["namespace"], event.data["pod"]) != (
            proxy.namespace,
            proxy.pod,
        ):
            continue
        container = event.data["containers"].get(proxy.container)
        if container and any(window.begin + _LEAD_NS <= event.at <= window.end + _LAG_NS for window in held):
            readings.append(container["cores"] / (proxy.cpu_millicores / 1000))
    return statistics.median(readings) if readings else None


@dataclass(frozen=True, slots=True)
class Saturation:
    """The proxies of an overloaded path by their use: who shares a `saturated` one must be hurt, who shares a `near`
    one may be.

    Attributes:
        unread: those of which it is not known how far they were filled: without a limit, or without a reading.
    """

    saturated: tuple[Proxy, ...]
    near: tuple[Proxy, ...] = ()
    unread: tuple[Proxy, ...] = ()


def classify_saturation(
    path: Sequence[Proxy], events: Sequence[Event], held: Sequence[Window], *, gave_out: bool
) -> Saturation:
    """Return which proxies of the path were saturated. Nothing is said of one that cannot be read: to call it saturated
    would predict harm to all who share it.

    Args:
        gave_out: the path did, each time. One that carried all that it was offered has no saturated proxy: its fullest
            is near saturation, whatever it used.
    """
    used = {proxy: use(proxy, events, held) for proxy in path}
    read = {proxy: share for proxy, share in used.items() if share is not None}
    full = tuple(proxy for proxy, share in read.items() if share >= SATURATED)
    close = tuple(proxy for proxy, share in read.items() if NEAR <= share < SATURATED)
    unread = tuple(proxy for proxy in path if proxy not in read)
    return Saturation(full, close, unread) if gave_out else Saturation((), (*full, *close), unread)
