"""Computes who shares fate with whom: `path`, `fate_group` and `identities_held`, pure functions of a mode and a live
placement.

Every expectation of every scenario comes from here. A placement is read from the live cluster (`chaos.kube.placement`),
never assumed; these functions neither read nor wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos.errors import ExperimentFailure
from chaos.model.modes import Balancing, Layer
from chaos.model.placement import Pair, Placement, Proxy


def path(placement: Placement, pair: Pair) -> tuple[tuple[Proxy, ...], ...]:
    """Return the proxies that the pair's traffic passes, hop by hop, in order.

    Each hop is a tuple: all the instances that can serve it (a waypoint with two replicas is a hop of two).
    Raises ExperimentFailure when a hop has no instance: the placement is not whole.
    """
    found: list[tuple[Proxy, ...]] = []
    for hop in placement.route(pair).hops:
        key = hop.key_at(pair.at(hop.side))
        instances = tuple(
            p for p in placement.proxies if p.scope is hop.scope and hop.layers <= p.layers and key and p.key == key
        )
        if not instances:
            raise ExperimentFailure(
                f"no {'/'.join(sorted(hop.layers))} proxy of scope {hop.scope} for {key!r} on the "
                f"path {pair.client.name} -> {pair.server.name} in mode {placement.mode.name}: is the mesh ready?"
            )
        found.append(instances)
    return tuple(found)


def share_behind(placement: Placement, pair: Pair, proxy: Proxy) -> float:
    """Return the share of the pair's traffic that passes the proxy, in [0, 1]: 1 where no other serves its hop.

    Raises ExperimentFailure as `path` does.
    """
    missed = 1.0
    for hop in path(placement, pair):
        if proxy in hop:
            missed *= 1.0 - 1.0 / len(hop)
    return 1.0 - missed


def fate_group(placement: Placement, proxy: Proxy) -> Mapping[Pair, float]:
    """The pairs whose path contains the proxy, each with the share of its traffic that passes it, in (0, 1].

    Raises ExperimentFailure as `path` does.
    """
    shares = {pair: share_behind(placement, pair, proxy) for pair in placement.pairs()}
    return {pair: share for pair, share in shares.items() if share}


def is_whole(placement: Placement) -> bool:
    """Whether every hop of every pair has a proxy."""
    try:
        for pair in placement.pairs():
            path(placement, pair)
    except ExperimentFailure:
        return False
    return True


def flow_shares(placement: Placement, proxies: Iterable[Proxy]) -> Mapping[tuple[str, str], float]:
    """For each flow (client key, server key): the share of its traffic that passes at least one of the proxies.

    Pairs of a flow weigh the same: clients of a workload carry the same load, and servers are balanced over.
    """
    shares: dict[tuple[str, str], list[float]] = {call: [] for call in placement.calls}
    for pair, share in _pair_shares(placement, proxies).items():
        shares[pair.call].append(share)
    return {call: sum(values) / len(values) if values else 0.0 for call, values in shares.items()}


def may_move(placement: Placement, proxies: Iterable[Proxy]) -> frozenset[tuple[str, str]]:
    """Return the flows whose harm cannot be predicted when the proxies break.

    Where connections are balanced instead of requests, a client with connections both behind the proxies and past them
    drops the ones that fail and goes on with the rest, at its own pace.
    """
    by_client: dict[tuple[tuple[str, str], str], list[float]] = {}
    for pair, share in _pair_shares(placement, proxies).items():
        if placement.route(pair).balancing is Balancing.CONNECTION:
            by_client.setdefault((pair.call, pair.client.uid), []).append(share)
    return frozenset(call for (call, _), shares in by_client.items() if 0 < sum(shares) < len(shares))


def _pair_shares(placement: Placement, proxies: Iterable[Proxy]) -> Mapping[Pair, float]:
    """Map every pair to the share of its traffic that passes at least one of the proxies."""
    missed = dict.fromkeys(placement.pairs(), 1.0)
    for proxy in proxies:
        for pair, share in fate_group(placement, proxy).items():
            missed[pair] *= 1.0 - share
    return {pair: 1.0 - value for pair, value in missed.items()}


def identities_held(placement: Placement, proxy: Proxy) -> frozenset[tuple[str, str]]:
    """The (namespace, service account) identities whose private keys the proxy holds.

    L4, sidecar and node proxies hold the accounts of the pods that they serve; a waypoint (L7 alone) holds its own; a
    placebo (no layer) holds none. `chaos.mesh.snapshot` answers the same from the control plane's own data: neither may
    be built on the other, for each is the check on the other.
    """
    if proxy.layers == frozenset({Layer.L7}):
        return frozenset({(proxy.namespace, proxy.service_account)})
    return frozenset((pod.namespace, pod.service_account) for pod in placement.pods if proxy.serves(pod))
