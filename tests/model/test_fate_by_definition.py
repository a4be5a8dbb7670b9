"""The shares of `fate` against their definition, by brute force: every pair, and every way in which its hops can draw
their instances."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.model import fate
from chaos.model.fate import Outage
from chaos.model.modes import MODES, Balancing, Hop, Layer, Route, Scope, Side
from chaos.model.placement import Pair, Placement, Pod, Proxy, Role

NODES = ("node-1", "node-2", "node-3")
L4, L7 = frozenset({Layer.L4}), frozenset({Layer.L7})
WAYPOINTS = ("infra/shared", "infra/other")
STEPS = (
    Hop(Scope.NODE, Side.CLIENT, L4),
    Hop(Scope.NODE, Side.SERVER, L4),
    Hop(Scope.NAMESPACE, Side.SERVER, L7),
    Hop(Scope.POD, Side.CLIENT, L7),
    Hop(Scope.POD, Side.SERVER, L7),
    *(Hop(Scope.WAYPOINT, Side.SERVER, L7, key) for key in WAYPOINTS),
)


def passed(placement: Placement, pair: Pair) -> list[list[Proxy]]:
    """The instances of each hop, as the words say it: nothing is looked up, all are asked."""
    found = []
    for hop in placement.route(pair).hops:
        end = pair.client if hop.side is Side.CLIENT else pair.server
        key = hop.key or {Scope.POD: end.uid, Scope.NODE: end.node, Scope.NAMESPACE: end.namespace}[hop.scope]
        found.append([p for p in placement.proxies if p.scope is hop.scope and p.key == key and hop.layers <= p.layers])
    return found


def share_of_pair(placement: Placement, pair: Pair, outage: Outage) -> float:
    """Of all ways to draw an instance at each hop: how many touch what is broken."""
    if {pair.client.uid, pair.server.uid} & set(outage.pods):
        return 1.0
    ways = list(itertools.product(*passed(placement, pair)))
    return sum(any(one in outage.proxies for one in way) for way in ways) / len(ways)


def shares_by_definition(placement: Placement, outage: Outage) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for pair in placement.pairs():
        found.setdefault(pair.call, []).append(share_of_pair(placement, pair, outage))
    return {call: sum(shares) / len(shares) for call, shares in found.items()}


def moving_by_definition(placement: Placement, outage: Outage) -> set[tuple[str, str]]:
    by_client: dict[tuple[tuple[str, str], str], list[float]] = {}
    for pair in placement.pairs():
        if placement.route(pair).balancing is Balancing.CONNECTION:
            by_client.setdefault((pair.call, pair.client.uid), []).append(share_of_pair(placement, pair, outage))
    return {call for (call, _), shares in by_client.items() if any(shares) and min(shares) < 1.0}


def every_proxy(draw: st.DrawFn, pods: list[Pod]) -> tuple[Proxy, ...]:
    """For each step and each key that a pod may ask for: one to three instances."""
    found = []
    for step in STEPS:
        for key in {step.key} if step.key else {step.scope.key_of(pod) for pod in pods}:
            for number in range(draw(st.integers(1, 2)) if step.scope is not Scope.POD else 1):
                name = f"{step.scope}-{'-'.join(sorted(step.layers))}-{key.replace('/', '-')}-{number}"
                node = draw(st.sampled_from(NODES))
                found.append(Proxy("mesh", name, "proxy", name, node, step.layers, step.scope, key, "proxy"))
    return tuple({str(one): one for one in found}.values())


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Workloads that call each other, themselves too, over routes that differ by the kinds of their pods."""
    workloads = [f"w{n}" for n in range(draw(st.integers(1, 3)))]
    pods, kinds = [], {}
    for name in workloads:
        space = draw(st.sampled_from(("shop", "bank")))
        for number in range(draw(st.integers(1, 3))):
            uid = f"{name}-{number}"
            pods.append(Pod(space, uid, uid, draw(st.sampled_from(NODES)), space, Role.CLIENT, name, "default"))
            kinds[uid] = f"{name}-{draw(st.integers(0, 1))}"
    keys = sorted({pod.workload_key for pod in pods})
    ends = st.sampled_from(keys)
    calls = tuple(draw(st.lists(st.tuples(ends, ends), min_size=1, max_size=3, unique=True)))
    route = st.builds(
        Route, st.lists(st.sampled_from(STEPS), unique=True, max_size=4).map(tuple), st.sampled_from(list(Balancing))
    )
    routes = {(one, other): draw(route) for one in set(kinds.values()) for other in set(kinds.values())}
    plain = draw(st.booleans())
    mode = draw(st.sampled_from([MODES[name] for name in ("none", "ambient-namespace")]))
    proxies = every_proxy(draw, pods)
    return Placement(mode, tuple(pods), proxies, calls, {} if plain else routes, {} if plain else kinds)


@st.composite
def broken(draw: st.DrawFn) -> tuple[Placement, dict[str, Outage]]:
    placement = draw(placements())
    outages = {
        str(number): Outage(
            draw(st.lists(st.sampled_from(placement.proxies), max_size=4)),
            draw(st.lists(st.sampled_from([pod.uid for pod in placement.pods]), max_size=2)),
        )
        for number in range(draw(st.integers(1, 4)))
    }
    return placement, outages


@settings(max_examples=40)
@given(broken())
def test_the_shares_of_every_outage_are_those_of_the_definition(made: tuple[Placement, dict[str, Outage]]) -> None:
    placement, outages = made
    found = fate.shares_of_outages(placement, outages)
    for name, outage in outages.items():
        wanted = {call: share for call, share in shares_by_definition(placement, outage).items() if share}
        assert found[name] == pytest.approx(wanted)
        alone = fate.flow_shares(placement, outage.proxies, outage.pods)
        assert {call: share for call, share in alone.items() if share} == pytest.approx(wanted)


@settings(max_examples=40)
@given(broken())
def test_the_flows_that_may_move_are_those_of_the_definition(made: tuple[Placement, dict[str, Outage]]) -> None:
    placement, outages = made
    found = fate.moved_by_outages(placement, outages)
    assert {name: set(calls) for name, calls in found.items()} == {
        name: moving_by_definition(placement, outage) for name, outage in outages.items()
    }


@settings(max_examples=40)
@given(placements())
def test_a_fate_group_and_a_pairs_share_are_those_of_the_definition(placement: Placement) -> None:
    for proxy in placement.proxies[:8]:
        wanted = {pair: share_of_pair(placement, pair, Outage([proxy])) for pair in placement.pairs()}
        assert dict(fate.fate_group(placement, proxy)) == pytest.approx({p: s for p, s in wanted.items() if s})
        for pair, share in wanted.items():
            assert fate.share_behind(placement, pair, proxy) == pytest.approx(share)


@settings(max_examples=40)
@given(placements())
def test_a_placement_without_an_instance_of_a_hop_is_not_whole_and_one_with_all_is(placement: Placement) -> None:
    assert fate.is_whole(placement)
    hops = [hop for pair in placement.pairs() for hop in passed(placement, pair)]
    for proxy in placement.proxies[:8]:
        without = replace(placement, proxies=tuple(one for one in placement.proxies if one != proxy))
        assert fate.is_whole(without) is ([proxy] not in hops)


@pytest.mark.parametrize("mode", [name for name in MODES if name != "none"])
def test_the_cost_of_all_outages_grows_with_the_pods_and_not_with_their_pairs(mode: str) -> None:
    """Two workloads of n pods have n * n pairs: at eight times the pods the definition would take 64 times as long."""

    def seconds(pods: int) -> float:
        placement = crowd(mode, pods)
        outages = {str(proxy): Outage([proxy]) for proxy in placement.proxies}
        begin = time.process_time()
        fate.shares_of_outages(placement, outages)
        return time.process_time() - begin

    assert min(seconds(2400) for _ in range(3)) < 24 * min(seconds(300) for _ in range(3))


def crowd(mode: str, pods: int, nodes: int = 20) -> Placement:
    """One workload that calls another, half of the pods each."""
    chance = random.Random(7)
    found = tuple(
        Pod("shop", f"p{n}", f"u{n}", f"node-{chance.randrange(nodes)}", "shop", role, role, role)
        for n in range(pods)
        for role in (Role.CLIENT if n % 2 else Role.SERVER,)
    )
    made: dict[str, Proxy] = {}
    for hop in MODES[mode].hops:
        for pod in found:
            key = hop.scope.key_of(pod)
            name = f"{hop.scope}-{'-'.join(sorted(hop.layers))}-{key}"
            made[name] = Proxy("mesh", name, "proxy", name, pod.node, hop.layers, hop.scope, key, "proxy")
    return Placement(MODES[mode], found, tuple(made.values()), (("shop/client", "shop/server"),))
