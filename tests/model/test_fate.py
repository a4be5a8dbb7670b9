"""Properties of `path`, `fate_group` and `identities_held` over generated placements, in every mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import ExperimentFailure
from chaos.model import fate
from chaos.model.modes import MODES, Balancing, Layer, ProxyMode, Scope, Side
from chaos.model.placement import Pair, Placement, Pod, Proxy, Role
from chaos.names import spiffe_id
from tests.mesh.envoy.placements import MESHED, proxies, world

NODES = ("node-1", "node-2", "node-3")


def proxies_of(mode: ProxyMode, pods: tuple[Pod, ...]) -> tuple[Proxy, ...]:
    """Every instance that the mode's hops ask for."""
    found: dict[str, Proxy] = {}
    for hop in mode.hops:
        for pod in pods:
            if (
                hop.scope is Scope.POD
                and hop.side is Side.SERVER
                and len({h.layers for h in mode.hops}) > 1
                and pod.role != Role.SERVER
            ):
                continue
            key = hop.scope.key_of(pod)
            name = f"{'-'.join(sorted(hop.layers))}-{hop.scope}-{key}"
            namespace = "sharedfate-system" if hop.scope is Scope.NODE else pod.namespace
            found[name] = Proxy(namespace, name, "proxy", name, pod.node, hop.layers, hop.scope, key, "waypoint")
    return tuple(sorted(found.values(), key=str))


@st.composite
def placements(draw: st.DrawFn, mode: ProxyMode | None = None) -> Placement:
    mode = mode or draw(st.sampled_from(list(MODES.values())))
    pods = []
    for tenant in "abc"[: draw(st.integers(1, 3))]:
        for role, most in ((Role.CLIENT, 2), (Role.SERVER, 3)):
            for number in range(draw(st.integers(1, most))):
                name = f"{role}-{number}"
                node = draw(st.sampled_from(NODES))
                pods.append(Pod(f"tenant-{tenant}", name, f"{tenant}-{name}", node, tenant, role, role, role))
    calls = tuple((f"tenant-{t}/client", f"tenant-{t}/server") for t in sorted({p.tenant for p in pods}))
    return Placement(mode, tuple(pods), proxies_of(mode, tuple(pods)), calls)


@given(placements())
def test_a_path_has_the_modes_layers_in_order(placement: Placement) -> None:
    for pair in placement.pairs():
        hops = fate.path(placement, pair)
        assert [{i.layers for i in hop} for hop in hops] == [{h.layers} for h in placement.mode.hops]
        assert [{i.scope for i in hop} for hop in hops] == [{h.scope} for h in placement.mode.hops]


@given(placements())
def test_an_instance_serves_only_its_own_scope_on_each_side(placement: Placement) -> None:
    for pair in placement.pairs():
        for hop, instances in zip(placement.mode.hops, fate.path(placement, pair), strict=True):
            pod = pair.client if hop.side is Side.CLIENT else pair.server
            for instance in instances:
                if instance.scope is Scope.POD:
                    assert instance.key == pod.uid
                elif instance.scope is Scope.NODE:
                    assert instance.key == pod.node
                else:
                    assert instance.key == pod.namespace


@given(placements())
def test_the_fate_groups_cover_exactly_the_paths(placement: Placement) -> None:
    def key(instance: Proxy, pair: Pair) -> tuple[str, str, str]:
        return (instance.uid, pair.client.uid, pair.server.uid)

    from_groups = {key(p, pair) for p in placement.proxies for pair in fate.fate_group(placement, p)}
    from_paths = {key(i, pair) for pair in placement.pairs() for hop in fate.path(placement, pair) for i in hop}
    assert from_groups == from_paths


@given(placements())
def test_the_share_of_a_flow_is_that_of_its_pairs_behind_the_instance(placement: Placement) -> None:
    for instance in placement.proxies:
        group = fate.fate_group(placement, instance)
        for call, share in fate.flow_shares(placement, [instance]).items():
            pairs = [p for p in placement.pairs() if (p.client.workload_key, p.server.workload_key) == call]
            assert share == pytest.approx(sum(group.get(p, 0.0) for p in pairs) / len(pairs))


@given(placements())
def test_shares_never_shrink_when_one_more_instance_breaks(placement: Placement) -> None:
    shares = fate.flow_shares(placement, [])
    for count in range(len(placement.proxies)):
        more = fate.flow_shares(placement, placement.proxies[: count + 1])
        assert all(more[call] >= shares[call] - 1e-12 for call in more)
        shares = more


@given(placements())
def test_only_flows_with_a_path_past_the_instance_may_move_and_none_where_requests_are_balanced(
    placement: Placement,
) -> None:
    for instance in placement.proxies:
        moving, shares = fate.may_move(placement, [instance]), fate.flow_shares(placement, [instance])
        assert all(0.0 < shares[call] < 1.0 for call in moving)
        if placement.mode.balancing is not Balancing.CONNECTION:
            assert not moving


def test_a_client_moves_only_between_paths_of_its_own() -> None:
    def pod(name: str, role: Role, node: str) -> Pod:
        return Pod("tenant-a", name, name, node, "a", role, role, role)

    mode, call = MODES["ambient-pod"], ("tenant-a/client", "tenant-a/server")
    one, other = pod("c1", Role.CLIENT, "node-1"), pod("c2", Role.CLIENT, "node-2")
    servers = pod("s1", Role.SERVER, "node-1"), pod("s2", Role.SERVER, "node-2")
    for pods, moving in (((other, *servers), {call}), ((one, other, servers[1]), set()), ((one, servers[0]), set())):
        placement = Placement(mode, pods, proxies_of(mode, pods), (call,))
        first = next(p for p in placement.proxies if p.layers == {Layer.L4} and p.key == "node-1")
        assert fate.may_move(placement, [first]) == moving


@given(placements())
def test_a_proxy_holds_only_identities_of_pods_in_its_scope_or_its_own(placement: Placement) -> None:
    for instance in placement.proxies:
        held = fate.identities_held(placement, instance)
        if instance.layers == frozenset({Layer.L7}):
            assert held == {(instance.namespace, instance.service_account)}
        else:
            assert held == {(p.namespace, p.service_account) for p in placement.pods if instance.serves(p)}


@given(placements())
def test_an_identity_is_held_only_where_its_pods_traffic_passes(placement: Placement) -> None:
    """A proxy that speaks for others (any but a waypoint) stands on a path of each pod whose key it holds."""
    for instance in placement.proxies:
        if Layer.L4 in instance.layers:
            group = fate.fate_group(placement, instance)
            passing = {(p.namespace, p.service_account) for pair in group for p in (pair.client, pair.server)}
            assert fate.identities_held(placement, instance) <= passing


@given(placements())
def test_the_ends_of_a_path_hold_the_identities_of_its_pods(placement: Placement) -> None:
    for pair in placement.pairs():
        hops = fate.path(placement, pair)
        for pod, hop in ((pair.client, hops[0]), (pair.server, hops[-1])) if hops else ():
            for instance in hop:
                assert (pod.namespace, pod.service_account) in fate.identities_held(placement, instance)


@given(placements())
def test_a_namespaces_proxy_is_on_no_path_to_another_namespaces_servers(placement: Placement) -> None:
    for instance in placement.proxies:
        if instance.scope is Scope.NAMESPACE:
            assert {pair.server.namespace for pair in fate.fate_group(placement, instance)} <= {instance.key}


@given(placements())
def test_a_pods_proxy_serves_one_pod_and_a_nodes_none_of_another_node_on_its_side(placement: Placement) -> None:
    for instance in placement.proxies:
        sides = {
            hop.side for hop in placement.mode.hops if (hop.scope, hop.layers) == (instance.scope, instance.layers)
        }
        for pair in fate.fate_group(placement, instance):
            ends = [end for side, end in ((Side.CLIENT, pair.client), (Side.SERVER, pair.server)) if side in sides]
            keys = {
                Scope.POD: {end.uid for end in ends},
                Scope.NODE: {end.node for end in ends},
                Scope.NAMESPACE: {end.namespace for end in ends},
            }[instance.scope]
            assert instance.key in keys


@pytest.mark.parametrize("mode", MESHED)
def test_the_control_plane_hands_out_what_the_model_says(mode: str) -> None:
    """Two independent answers: the model's from a placement, the control plane's from its own world."""
    made = world(mode)
    pods = tuple(
        Pod(p.namespace, p.name, p.uid, p.node, p.namespace, "", "", p.service_account) for p in made.pods.values()
    )
    for proxy in proxies(made):
        held = fate.identities_held(Placement(made.mode, pods, (proxy,), ()), proxy)
        assert made.identities(proxy) == {spiffe_id(*one) for one in held}


@given(placements(mode=MODES["sidecar"]))
def test_a_sidecar_holds_exactly_one_identity(placement: Placement) -> None:
    assert all(len(fate.identities_held(placement, p)) == 1 for p in placement.proxies)


@given(placements(mode=MODES["none"]))
def test_the_placebo_is_on_no_path_hurts_nobody_and_holds_nothing(placement: Placement) -> None:
    placebo = Proxy(
        "sharedfate-system", "placebo-x", "proxy", "u", "node-1", frozenset(), Scope.NODE, "node-1", "default"
    )
    with_it = Placement(placement.mode, placement.pods, (placebo,), placement.calls)
    assert fate.fate_group(with_it, placebo) == {}
    assert set(fate.flow_shares(with_it, [placebo]).values()) <= {0.0}
    assert fate.identities_held(with_it, placebo) == frozenset()


def test_a_path_without_its_proxy_is_an_error_and_not_an_empty_group() -> None:
    client = Pod("tenant-a", "c", "c", "node-1", "a", Role.CLIENT, "client", "client")
    server = Pod("tenant-a", "s", "s", "node-2", "a", Role.SERVER, "server", "server")
    placement = Placement(MODES["node"], (client, server), (), (("tenant-a/client", "tenant-a/server"),))
    with pytest.raises(ExperimentFailure, match="is the mesh ready"):
        fate.path(placement, Pair(client, server))


def test_two_replicas_of_a_waypoint_share_the_pair() -> None:
    mode = MODES["ambient-namespace"]
    client = Pod("tenant-a", "c", "c", "node-1", "a", Role.CLIENT, "client", "client")
    server = Pod("tenant-a", "s", "s", "node-1", "a", Role.SERVER, "server", "server")
    base = proxies_of(mode, (client, server))
    waypoint = next(p for p in base if p.layers == frozenset({Layer.L7}))
    second = Proxy(
        waypoint.namespace,
        "second",
        "proxy",
        "second",
        "node-2",
        waypoint.layers,
        waypoint.scope,
        waypoint.key,
        "waypoint",
    )
    placement = Placement(mode, (client, server), (*base, second), (("tenant-a/client", "tenant-a/server"),))
    assert fate.flow_shares(placement, [second]) == {("tenant-a/client", "tenant-a/server"): 0.5}
    assert fate.flow_shares(placement, [waypoint, second]) == {("tenant-a/client", "tenant-a/server"): 1.0}
