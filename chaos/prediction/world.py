"""What a prediction is made of: a placement, and where its nodes are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.kube.nodes import ZONE, zones_of
from chaos.model.placement import Placement

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """A placement and what is known around it.

    Attributes:
        source: where it was read, for people.
        mesh: the mesh's name.
        zones: node -> zone, of the nodes whose zone is known.
        nodes: all that are known.
        caveats: what was taken for granted, or could not be read: a sentence each.
    """

    placement: Placement
    source: str
    mesh: str
    nodes: tuple[str, ...] = ()
    zones: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()


def make_world(
    placement: Placement, nodes: Sequence[Object], *, source: str, mesh: str, caveats: Iterable[str] = ()
) -> World:
    """Put a placement beside the cluster's Node objects."""
    zones = zones_of(nodes)
    named = {*(node["metadata"]["name"] for node in nodes), *(pod.node for pod in placement.pods)}
    named |= {proxy.node for proxy in placement.proxies}
    without = sorted(name for name in named if name not in zones)
    said = list(caveats)
    if zones and without:
        said.append(f"{len(without)} of {len(named)} nodes have no label {ZONE} ({without[0]}): they are in no zone")
    return World(placement, source, mesh, tuple(sorted(named)), zones, tuple(said))
