"""Where the instances of one thing stand: on one node, or one after the other over nodes or zones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum


class Spread(StrEnum):
    """Where the instances of one thing stand."""

    PACKED = "packed"  # on one node
    NODE = "node"  # one after the other over the nodes
    ZONE = "zone"  # one after the other over the zones


def spread_over(
    nodes: Sequence[str], spread: Spread, *, start: int, count: int, zones: Mapping[str, str] | None = None
) -> list[str]:
    """Return the node of each of `count` instances.

    Args:
        nodes: one at least.
        start: number of the thing among its likes: each begins at another node.
        zones: node -> zone; a node that is missing is a zone of its own.
    """
    if spread is Spread.PACKED:
        return [nodes[start % len(nodes)]] * count
    if spread is Spread.NODE:
        return [nodes[(start + step) % len(nodes)] for step in range(count)]
    by_zone: dict[str, list[str]] = {}
    for node in nodes:
        by_zone.setdefault((zones or {}).get(node) or f"node {node}", []).append(node)
    groups = list(by_zone.values())
    turns = [
        (groups[(start + step) % len(groups)], start // len(groups) + step // len(groups)) for step in range(count)
    ]
    return [there[turn % len(there)] for there, turn in turns]
