"""Computes who shares fate with whom: `path`, `fate_group` and `identities_held`, pure functions of a mode and a live
placement.

Every expectation of every scenario comes from here, and every prediction (`chaos.prediction`). A placement is read from
the live cluster (`chaos.kube.placement`), never assumed; these functions neither read nor wait.

A share is a mean over the pairs of a flow, and the pairs of a large workload are many. Within a route they need not be
visited: which part of a hop breaks depends on one end alone, so that what is left of a pair is the product of what is
left at its client's side and at its server's, and the sum over pairs is the product of two sums over pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.errors import ExperimentFailure
from chaos.model.modes import Balancing, Hop, Layer, Route, Scope, Side
from chaos.model.placement import Pair, Placement, Pod, Proxy

Call = tuple[str, str]
_ONLY: Final = ""  # the name of an outage that is looked at alone


@dataclass(frozen=True, slots=True)
class Outage:
    """What breaks at once: one proxy, or a pod, a node, a zone with all that is there.

    Attributes:
        pods: UIDs of application pods that are gone with all their calls.
    """

    proxies: Collection[Proxy] = ()
    pods: Collection[str] = ()


def path(placement: Placement, pair: Pair) -> tuple[tuple[Proxy, ...], ...]:
    """Return the proxies that the pair's traffic passes, hop by hop, in order.

    Each hop is a tuple: all the instances that can serve it (a waypoint with two replicas is a hop of two).
    Raises ExperimentFailure when a hop has no instance: the placement is not whole.
    """
    there = _Instances(placement)
    return tuple(there.at(hop, pair.client, pair.server) for hop in placement.route(pair).hops)


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
    found: dict[Pair, float] = {}
    for strand in _strands(placement, {_ONLY: Outage((proxy,))}):
        for client, before in zip(strand.clients, strand.clients_left, strict=True):
            for server, behind in zip(strand.servers, strand.servers_left, strict=True):
                if (left := before.get(_ONLY, 1.0) * behind.get(_ONLY, 1.0)) < 1.0:
                    found[Pair(client, server)] = 1.0 - left
    return found


def is_whole(placement: Placement) -> bool:
    """Whether every hop of every pair has a proxy."""
    try:
        for _ in _strands(placement, {}):
            pass
    except ExperimentFailure:
        return False
    return True


def flow_shares(placement: Placement, proxies: Iterable[Proxy], pods: Iterable[str] = ()) -> Mapping[Call, float]:
    """For each flow (client key, server key): the share of its traffic that passes at least one of the proxies, or has
    one of the pods at an end.

    Pairs of a flow weigh the same: clients of a workload carry the same load, and servers are balanced over.

    Args:
        pods: UIDs of application pods.
    """
    broken = {_ONLY: Outage(frozenset(proxies), frozenset(pods))}
    return dict.fromkeys(placement.calls, 0.0) | shares_of_outages(placement, broken)[_ONLY]


def shares_of_outages(placement: Placement, outages: Mapping[str, Outage]) -> dict[str, dict[Call, float]]:
    """Return what `flow_shares` says of each outage on its own, without the flows that it spares. In one pass: its
    cost is that of the placement and of the answer, not of their product with the number of outages.

    Raises ExperimentFailure as `path` does.
    """
    hurt: dict[str, dict[Call, float]] = {name: {} for name in outages}
    pairs: dict[Call, int] = {}
    for strand in _strands(placement, outages):
        everyone = len(strand.clients) * len(strand.servers)
        pairs[strand.call] = pairs.get(strand.call, 0) + everyone
        clients, servers = _sums(strand.clients_left), _sums(strand.servers_left)
        for name in dict.fromkeys([*clients, *servers]):
            left = clients.get(name, len(strand.clients)) * servers.get(name, len(strand.servers))
            hurt[name][strand.call] = hurt[name].get(strand.call, 0.0) + everyone - left
    return {
        name: {call: value / pairs[call] for call, value in of_calls.items() if value}
        for name, of_calls in hurt.items()
    }


def may_move(placement: Placement, proxies: Iterable[Proxy]) -> frozenset[Call]:
    """Return the flows whose harm cannot be predicted when the proxies break.

    Where connections are balanced instead of requests, a client with connections both behind the proxies and past them
    drops the ones that fail and goes on with the rest, at its own pace.
    """
    return moved_by_outages(placement, {_ONLY: Outage(frozenset(proxies))})[_ONLY]


def moved_by_outages(placement: Placement, outages: Mapping[str, Outage]) -> dict[str, frozenset[Call]]:
    """Return what `may_move` says of each outage on its own, in one pass."""
    found: dict[str, set[Call]] = {name: set() for name in outages}
    together: dict[tuple[Call, str], list[_Strand]] = {}  # all in which the same clients have a part
    for strand in _strands(placement, outages):
        if strand.route.balancing is Balancing.CONNECTION:
            together.setdefault((strand.call, strand.group), []).append(strand)
    for (call, _), strands in together.items():
        for name in _moving(strands):
            found[name].add(call)
    return {name: frozenset(calls) for name, calls in found.items()}


def identities_held(placement: Placement, proxy: Proxy) -> frozenset[tuple[str, str]]:
    """The (namespace, service account) identities whose private keys the proxy holds.

    L4, sidecar and node proxies hold the accounts of the pods that they serve; a waypoint (L7 alone) holds its own; a
    placebo (no layer) holds none. `chaos.mesh.snapshot` answers the same from the control plane's own data: neither may
    be built on the other, for each is the check on the other.
    """
    if proxy.layers == frozenset({Layer.L7}):
        return frozenset({(proxy.namespace, proxy.service_account)})
    return frozenset((pod.namespace, pod.service_account) for pod in placement.pods if proxy.serves(pod))


# ---- pairs that share a route


class _Instances:
    """The proxies of a placement by what they serve."""

    def __init__(self, placement: Placement) -> None:
        self._mode = placement.mode.name
        self._by_key: dict[tuple[Scope, str], list[Proxy]] = {}
        for proxy in placement.proxies:
            if proxy.key:
                self._by_key.setdefault((proxy.scope, proxy.key), []).append(proxy)

    def at(self, hop: Hop, client: Pod, server: Pod) -> tuple[Proxy, ...]:
        """Return the instances that can serve the hop of the pair. Raises ExperimentFailure when there is none."""
        key = hop.key_at(client if hop.side is Side.CLIENT else server)
        found = tuple(one for one in self._by_key.get((hop.scope, key), ()) if hop.layers <= one.layers)
        if not found:
            raise ExperimentFailure(
                f"no {'/'.join(sorted(hop.layers))} proxy of scope {hop.scope} for {key!r} on the "
                f"path {client.name} -> {server.name} in mode {self._mode}: is the mesh ready?"
            )
        return found


_Left = Mapping[
    str, float
]  # outage -> what it leaves of a pod's traffic on its side, in [0, 1); of those that take any


@dataclass(frozen=True, slots=True)
class _Strand:
    """The pairs of a call that share one route: every client of it with every server.

    Attributes:
        group: which of the call's clients these are.
        clients_left, servers_left: one for each of the pods; pods that are hit alike have the same one.
    """

    call: Call
    route: Route
    group: str
    clients: Sequence[Pod]
    servers: Sequence[Pod]
    clients_left: Sequence[_Left]
    servers_left: Sequence[_Left]


class _Breaking:
    """What each outage leaves of a pod's traffic, remembered by what the pod passes."""

    def __init__(self, placement: Placement, outages: Mapping[str, Outage]) -> None:
        self._there = _Instances(placement)
        self._of_proxy: dict[Proxy, list[str]] = {}
        self._of_pod: dict[str, tuple[str, ...]] = {}
        for name, outage in outages.items():
            for proxy in set(outage.proxies):
                self._of_proxy.setdefault(proxy, []).append(name)
            for uid in set(outage.pods):
                self._of_pod[uid] = (*self._of_pod.get(uid, ()), name)
        self._known: dict[tuple[tuple[Hop, ...], tuple[str, ...], tuple[str, ...]], _Left] = {}

    def left(self, hops: tuple[Hop, ...], side: Side, client: Pod, server: Pod) -> _Left:
        """Return what is left at one side of a pair. `hops`: those that this side decides."""
        end = client if side is Side.CLIENT else server
        gone = self._of_pod.get(end.uid, ())
        seen = hops, tuple(hop.key_at(end) for hop in hops), gone
        if (found := self._known.get(seen)) is None:
            left: dict[str, float] = {}
            for hop in hops:
                instances = self._there.at(hop, client, server)
                broken = Counter(name for one in instances for name in self._of_proxy.get(one, ()))
                for name, count in broken.items():
                    left[name] = left.get(name, 1.0) * (1.0 - count / len(instances))
            found = self._known[seen] = left | dict.fromkeys(gone, 0.0)
        return found


def _strands(placement: Placement, outages: Mapping[str, Outage]) -> Iterator[_Strand]:
    """Split the pairs by call and route. Raises ExperimentFailure as `path` does."""
    breaking = _Breaking(placement, outages)
    by_workload: dict[str, dict[str, list[Pod]]] = {}
    for pod in placement.pods:
        by_workload.setdefault(pod.workload_key, {}).setdefault(placement.alike(pod), []).append(pod)
    for call in placement.calls:
        for group, clients in by_workload.get(call[0], {}).items():
            for servers in by_workload.get(call[1], {}).values():
                route = placement.route(Pair(clients[0], servers[0]))
                first, last = (tuple(hop for hop in route.hops if hop.side is side) for side in Side)
                yield _Strand(
                    call,
                    route,
                    group,
                    clients,
                    servers,
                    [breaking.left(first, Side.CLIENT, client, servers[0]) for client in clients],
                    [breaking.left(last, Side.SERVER, clients[0], server) for server in servers],
                )


def _sums(lefts: Sequence[_Left]) -> dict[str, float]:
    """Of each outage that takes any: the sum over the pods of what it leaves."""
    taken: dict[str, float] = {}
    for left, count in _counted(lefts):
        for name, value in left.items():
            taken[name] = taken.get(name, 0.0) + count * (1.0 - value)
    return {name: len(lefts) - value for name, value in taken.items()}


def _counted(lefts: Sequence[_Left]) -> list[tuple[_Left, int]]:
    """Those that differ, each with how many there are."""
    count = Counter(map(id, lefts))
    return [(left, count[key]) for key, left in {id(left): left for left in lefts}.items()]


def _moving(strands: Sequence[_Strand]) -> set[str]:
    """Return the outages that leave some of these clients both hurt and spared pairs. `strands`: all of one group of
    clients, so with the same ones in each.
    """
    ends = [_extremes(strand.servers_left) for strand in strands]
    kinds = list({tuple(map(id, kind)): kind for kind in zip(*(s.clients_left for s in strands), strict=True)}.values())

    def moves(name: str, kind: Sequence[_Left]) -> bool:
        pairs = [(left.get(name, 1.0), *end.get(name, (1.0, 1.0))) for left, end in zip(kind, ends, strict=True)]
        hurt = any(before * least < 1.0 for before, least, _ in pairs)
        return hurt and any(before * most > 0.0 for before, _, most in pairs)

    found: set[str] = set()
    present: Counter[str] = Counter()
    for kind in kinds:
        names = {name for left in kind for name in left}
        present.update(names)
        found |= {name for name in names if moves(name, kind)}
    untouched: tuple[_Left, ...] = ({},) * len(strands)
    behind = {name for end in ends for name in end}
    return found | {name for name in behind if present[name] < len(kinds) and moves(name, untouched)}


def _extremes(lefts: Sequence[_Left]) -> dict[str, tuple[float, float]]:
    """Of each outage that takes any: the least and the most that it leaves of a pod."""
    seen: dict[str, list[float]] = {}
    count: Counter[str] = Counter()
    for left, pods in _counted(lefts):
        for name, value in left.items():
            seen.setdefault(name, []).append(value)
            count[name] += pods
    return {name: (min(values), 1.0 if count[name] < len(lefts) else max(values)) for name, values in seen.items()}
