"""What is predicted is what the suite expects, in every mode; places and pods break with all that is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from chaos.errors import Misuse
from chaos.model.fate import flow_shares, is_whole, may_move
from chaos.model.flow import Flow
from chaos.model.modes import MODES, Scope
from chaos.model.placement import Placement, Pod, Proxy
from chaos.model.rescoping import Sharing, rescope
from chaos.model.spreading import Spread
from chaos.prediction.outages import Kind, every_place, every_proxy, resolve_when
from chaos.prediction.predicting import Point, ask, percent, predict
from chaos.prediction.sharings import parse_sharing
from chaos.prediction.text import describe, sentence
from chaos.prediction.world import World, make_world
from tests.model.test_fate import placements, proxies_of

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded" / "trials.json").read_text())
A, B, C = (f"tenant-{name}" for name in "abc")


def world(mode: str = "node", zones: tuple[str, ...] = ("a", "b"), **changes: Any) -> World:
    """The reference tenants: a on node-1, b's client on node-2 with a server on each, c on node-2."""
    places = {
        "a": ("node-1", ("node-1", "node-1")),
        "b": ("node-2", ("node-1", "node-2")),
        "c": ("node-2", ("node-2",)),
    }
    pods = []
    for tenant, (client, servers) in places.items():
        space = f"tenant-{tenant}"
        pods.append(Pod(space, "client-0", f"{tenant}-c", client, tenant, "client", "client", "client"))
        pods += [
            Pod(space, f"server-{n}", f"{tenant}-s{n}", on, tenant, "server", "server", "server")
            for n, on in enumerate(servers)
        ]
    calls = tuple((f"tenant-{tenant}/client", f"tenant-{tenant}/server") for tenant in places)
    placement = Placement(MODES[mode], tuple(pods), proxies_of(MODES[mode], tuple(pods)), calls)
    nodes = [
        {"metadata": {"name": f"node-{n}", "labels": {"topology.kubernetes.io/zone": zone} if zone else {}}}
        for n, zone in enumerate(zones, 1)
    ]
    return make_world(replace(placement, **changes), nodes, source="here", mesh="test")


def hurt(point: Point) -> dict[str, float]:
    return {flow.client.partition("/")[0]: flow.share for flow in point.flows}


@pytest.mark.parametrize("trial", RECORDED, ids=[one["mode"] for one in RECORDED])
def test_a_recorded_trial_expected_what_is_predicted_of_its_target(trial: dict[str, Any]) -> None:
    """Placements and expectations of real trials, as their histories hold them."""
    pods = tuple(map(Pod.from_dict, trial["pods"]))
    calls = tuple(sorted({(f"{p.namespace}/client", f"{p.namespace}/server") for p in pods if p.role == "client"}))
    placement = Placement(MODES[trial["mode"]], pods, tuple(map(Proxy.from_dict, trial["proxies"])), calls)
    found = predict(make_world(placement, [], source="t", mesh="t"))
    (target,) = [point for point in found.proxies if point.name == trial["target"]]
    assert {str(Flow(one.client, one.server)) for one in target.flows if not one.may_move} == set(trial["hurt"])
    shares = {str(Flow(one.client, one.server)): one.share for one in target.flows}
    assert {flow: shares.get(flow, 0.0) for flow in trial["shares"]} == pytest.approx(trial["shares"])


@settings(max_examples=40)
@given(placements())
def test_every_point_is_what_a_trial_would_expect_of_its_proxy(placement: Placement) -> None:
    made = make_world(placement, [], source="t", mesh="t")
    points = {point.name: point for point in predict(made).proxies}
    assert set(points) == {str(proxy) for proxy in placement.proxies}
    for proxy in placement.proxies:
        expected = {call: share for call, share in flow_shares(placement, [proxy]).items() if share}
        found = points[str(proxy)]
        assert {(one.client, one.server): one.share for one in found.flows} == pytest.approx(expected)
        assert {(one.client, one.server) for one in found.flows if one.may_move} == may_move(placement, [proxy])
        assert found.total == pytest.approx(sum(expected.values()) / len(placement.calls))


def test_a_nodes_death_takes_the_pods_there_and_a_proxys_only_what_it_carries() -> None:
    points = {(one.kind, one.name): one for one in ask(world("none"), every_place(world("none")))}
    assert hurt(points[Kind.NODE, "node-1"]) == {A: 1.0, B: 0.5}  # no proxy at all: the pods themselves
    assert hurt(points[Kind.NODE, "node-2"]) == {B: 1.0, C: 1.0}
    assert points[Kind.NODE, "node-1"].about == "4 application pods and 0 proxies"
    found = predict(world("node"))
    assert [(point.name, hurt(point)) for point in found.worst] == [
        ("sharedfate-system/l4-l7-node-node-2[proxy]", {B: 1.0, C: 1.0}),
        ("sharedfate-system/l4-l7-node-node-1[proxy]", {A: 1.0, B: 0.5}),
    ]
    assert found.worst[1].tenants == {"a": 1.0, "b": 0.5}
    assert found.worst[0].total == pytest.approx(2 / 3)


def test_a_zones_death_is_that_of_all_its_nodes_and_nodes_without_a_label_are_in_none() -> None:
    both = predict(world("node", zones=("z", "z")))
    assert [(point.name, point.total) for point in both.zones] == [("z", 1.0)]
    assert both.zones[0].about.startswith("2 nodes, 8 application pods")
    one = predict(world("node", zones=("z", "")))
    assert [hurt(point) for point in one.zones] == [{A: 1.0, B: 0.5}]
    assert any("have no label topology.kubernetes.io/zone (node-2)" in said for said in one.world.caveats)
    assert predict(world("node", zones=("", ""))).zones == ()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("node-1", {A: 1.0, B: 0.5}),
        ("node node-1", {A: 1.0, B: 0.5}),
        ("node=node-1", {A: 1.0, B: 0.5}),
        ("zone b", {B: 1.0, C: 1.0}),
        ("b", {B: 1.0, C: 1.0}),
        ("pod tenant-b/server-1", {B: 0.5}),
        ("tenant-b/client-0", {B: 1.0}),
        ("proxy sharedfate-system/l4-l7-node-node-1[proxy]", {A: 1.0, B: 0.5}),
        ("proxy sharedfate-system/l4-l7-node-node-1", {A: 1.0, B: 0.5}),
        ("pod sharedfate-system/l4-l7-node-node-1", {A: 1.0, B: 0.5}),
    ],
)
def test_what_breaks_is_named_in_any_of_these_ways(said: str, expected: dict[str, float]) -> None:
    (point,) = predict(world("node"), whens=[said]).whens
    assert hurt(point) == expected


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("node-3", "no such proxy, pod, node or zone: known are node node-"),
        ("node b", "there is no such node: known are"),
        ("pod server-1", "there is no such pod: known are pod tenant-"),
        ("", "there is no such proxy, pod, node or zone"),
        ("rack 3", "there is no such proxy, pod, node or zone"),
        ("sharedfate-system/l4-l7-node-node-1", "there are 2 of that name: say which: `pod "),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest_names(said: str, why: str) -> None:
    with pytest.raises(Misuse) as error:
        resolve_when(world("node"), said)
    assert f"--when {said}" in str(error.value)
    assert why in str(error.value)


def test_a_sidecars_pod_goes_with_its_proxy() -> None:
    found = predict(world("sidecar"), whens=["pod tenant-b/server-0", "proxy tenant-b/POD-server[proxy]"][:1])
    assert hurt(found.whens[0]) == {B: 0.5}


# ---- another sharing


@settings(max_examples=40)
@given(placements())
def test_another_mode_gives_each_hop_its_instances_and_no_proxy_that_nobody_passes(placement: Placement) -> None:
    for mode in MODES.values():
        made = rescope(placement, Sharing(mode), {})
        assert is_whole(made)
        assert (made.pods, made.calls) == (placement.pods, placement.calls)
        wanted = {(p.layers, p.scope, p.key) for p in proxies_of(mode, placement.pods)}
        assert {(p.layers, p.scope, p.key) for p in made.proxies} == wanted
        assert len({str(proxy) for proxy in made.proxies}) == len(made.proxies)


@settings(max_examples=30)
@given(placements())
def test_more_replicas_never_hurt_more_by_one_death_and_share_the_waypoint_equally(placement: Placement) -> None:
    once, thrice = (rescope(placement, Sharing(MODES["ambient-namespace"], replicas=count), {}) for count in (1, 3))
    for proxy in once.proxies:
        if proxy.scope is Scope.NAMESPACE:
            replicas = [one for one in thrice.proxies if (one.scope, one.key) == (proxy.scope, proxy.key)]
            assert len(replicas) == 3
            for call, share in flow_shares(once, [proxy]).items():
                assert flow_shares(thrice, replicas).get(call) == pytest.approx(share)
                assert all(flow_shares(thrice, [one])[call] == pytest.approx(share / 3) for one in replicas)


@pytest.mark.parametrize(
    ("spread", "nodes", "zones"), [(Spread.PACKED, 1, 1), (Spread.NODE, 3, 2), (Spread.ZONE, 3, 3)]
)
def test_replicas_stand_where_the_spread_says(spread: Spread, nodes: int, zones: int) -> None:
    six = dict(zip([f"node-{n}" for n in range(1, 7)], "aabbcc", strict=True))
    made = rescope(world("node").placement, Sharing(MODES["ambient-namespace"], 3, spread), six)
    for space in (A, B, C):
        there = {one.node for one in made.proxies if (one.scope, one.key) == (Scope.NAMESPACE, space)}
        assert (len(there), len({six[node] for node in there})) == (nodes, zones)


def test_the_present_waypoints_get_replicas_and_the_rest_stays_as_it_is() -> None:
    now = world("ambient-namespace").placement
    made = rescope(now, Sharing(replicas=2), {})
    assert {one for one in made.proxies if one.scope is Scope.NODE} == {
        one for one in now.proxies if one.scope is Scope.NODE
    }
    assert set(now.proxies) < set(made.proxies)
    assert len([one for one in made.proxies if one.scope is Scope.NAMESPACE]) == 6
    once = rescope(made, Sharing(replicas=1), {}).proxies
    assert set(once) < set(made.proxies)
    assert [(one.scope, one.key) for one in once] == [(one.scope, one.key) for one in now.proxies]
    assert rescope(now, Sharing(), {}) == now


def test_pods_outside_the_mesh_stay_outside_under_another_sharing() -> None:
    base = world("none").placement
    pods = tuple(replace(pod, carried_by=frozenset()) if pod.tenant == "a" else pod for pod in base.pods)
    for mode in MODES.values():
        made = rescope(replace(base, pods=pods), Sharing(mode), {})
        assert is_whole(made)
        assert flow_shares(made, made.proxies)[f"{A}/client", f"{A}/server"] == 0.0
        assert flow_shares(made, made.proxies)[f"{C}/client", f"{C}/server"] == float(bool(mode.hops))


def test_a_client_outside_the_mesh_passes_the_servers_node_and_no_waypoint() -> None:
    base = world("none").placement
    pods = tuple(replace(p, carried_by=frozenset()) if (p.tenant, p.role) == ("c", "client") else p for p in base.pods)
    made = rescope(replace(base, pods=pods), Sharing(MODES["ambient-namespace"]), {})
    through = {one.scope for one in made.proxies if flow_shares(made, [one])[f"{C}/client", f"{C}/server"]}
    assert through == {Scope.NODE}


def test_sharings_are_held_beside_the_present_one_with_what_was_asked() -> None:
    found = predict(
        world("node"),
        whens=["node-2", "proxy sharedfate-system/l4-l7-node-node-1"],
        sharings=[Sharing(MODES["sidecar"]), Sharing(MODES["ambient-namespace"], 2, Spread.ZONE)],
    )
    assert [(one.sharing, one.proxies) for one in found.summaries] == [
        ("now", 2),
        ("sidecar", 8),
        ("ambient-namespace,replicas=2,spread=zone", 8),
    ]
    assert found.summaries[0].mean == pytest.approx((2 / 3 + 1.5 / 3) / 2)
    assert found.summaries[1].worst is not None
    assert found.summaries[1].worst.total == pytest.approx(1 / 3)
    assert [[point.name for point in other.whens] for other in found.others] == [["node-2"], ["node-2"]]
    text = describe(found)
    assert "under another sharing" in text
    assert "when node node-2 dies, 67 % of all traffic is hurt" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node", Sharing(MODES["node"])),
        ("ambient-namespace, replicas=3 ,spread=zone", Sharing(MODES["ambient-namespace"], 3, Spread.ZONE)),
        ("replicas=2", Sharing(replicas=2)),
        ("spread=packed", Sharing(spread=Spread.PACKED)),
    ],
)
def test_a_sharing_is_read(text: str, expected: Sharing) -> None:
    assert parse_sharing(text, MODES) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nodes", "'nodes' is no mode, did you mean node"),
        ("node,node", "mode is said twice"),
        ("", "'' is no mode"),
        ("node,replicas=0", "replicas is '0', and should be 1 to"),
        ("node,replicas=two", "replicas is 'two'"),
        ("node,replicas=²", "replicas is '²'"),
        ("node,replicas=100000", "replicas is '100000'"),
        ("node,spread=rack", "spread is 'rack': known are packed, node, zone"),
        ("node,size=3", "size is not known"),
        ("sidecart,replicas=x,spread=y", "replicas is 'x'"),
    ],
)
def test_a_sharing_that_is_wrong_is_refused_with_every_problem(text: str, why: str) -> None:
    with pytest.raises(Misuse) as error:
        parse_sharing(text, MODES)
    assert why in str(error.value)
    assert "known modes are none, sidecar" in str(error.value)


# ---- sentences


def test_a_placebo_and_a_waypoint_that_serves_nothing_are_no_points() -> None:
    idle = Proxy("x", "w", "proxy", "w", "node-1", MODES["node"].kinds[0].layers, Scope.NODE, "", "x")
    placebo = replace(idle, pod="p", layers=frozenset(), key="node-1")
    assert every_proxy(world("none", proxies=(idle, placebo))) == []
    told = world("none", proxies=(idle, placebo))
    assert "no proxy is a single point" in describe(predict(told))
    unknown = replace(told, placement=replace(told.placement, calls=()))
    assert "no call is known here" in describe(predict(unknown))
    assert "single point:" not in describe(predict(unknown))


def test_a_sentence_says_whom_by_how_much_and_that_nobody_is_hurt() -> None:
    points = ask(world("none"), every_place(world("none")))
    assert sentence(points[0]) == (
        "when node node-1 dies, 50 % of all traffic is hurt: tenant-a/client -> tenant-a/server by 100 %; "
        "tenant-b/client -> tenant-b/server by 50 %, unless its clients move"
    )
    assert sentence(replace(points[0], flows=(), total=0.0)) == "when node node-1 dies, nobody is hurt"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (1.0, "100 %"), (0.5, "50 %"), (1 / 3, "33 %"), (0.025, "2.5 %"), (0.02, "2 %"),
        (0.0001, "<0.1 %"),         (0.9999, ">99 %"), (0.994, "99 %"), (0.0999, "10 %"),
    ],
)  # fmt: skip
def test_a_share_is_never_rounded_to_nothing_or_to_all(share: float, text: str) -> None:
    assert percent(share) == text
