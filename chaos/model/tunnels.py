"""Which calls share a connection between proxies, so that one that is read slowly can hold the others up.

A proxy that speaks as the pods that it serves keeps connections of each of them apart, for the certificate differs: the
calls of one pod share them, and nobody else's. A proxy that speaks as itself, which those of layer 7 alone do, has one
pool of connections for everybody whom it carries to the same pod. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product

from chaos.model.fate import Call, path
from chaos.model.placement import Pair, Placement
from chaos.model.reach import WAYPOINT


def share_tunnel(placement: Placement, one: Pair, other: Pair) -> bool:
    """Whether the calls of two pairs with different clients share a connection between two proxies.

    Raises ExperimentFailure as `fate.path` does.
    """
    if one.server != other.server:
        return False
    own, others = ({proxy for hop in path(placement, pair) for proxy in hop} for pair in (one, other))
    return any(proxy.layers == WAYPOINT for proxy in own & others)


def shares_in_tunnels(placement: Placement, held: Collection[Pair]) -> Mapping[Call, float]:
    """Return for each flow the share of its pairs that share a connection between proxies with one of those pairs.

    Raises ExperimentFailure as `fate.path` does.
    """
    pairs = placement.pairs()
    found: dict[Call, float] = {}
    for call in placement.calls:
        mine = [pair for pair in pairs if pair.call == call]
        caught = {pair for pair, slow in product(mine, held) if share_tunnel(placement, pair, slow)}
        found[call] = len(caught) / len(mine) if mine else 0.0
    return found
