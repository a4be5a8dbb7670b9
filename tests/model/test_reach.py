"""What a taken-over proxy opens, of the reference tenants in each mode."""

from __future__ import annotations

import pytest
from hypothesis import given

from chaos.model import fate
from chaos.model.modes import MODES, Layer, Scope
from chaos.model.placement import Placement, Pod, Proxy, Role
from chaos.model.reach import callers, opened_by, reach, waypoints
from tests.model.test_fate import placements, proxies_of


def pods(tenant: str, client: str, *servers: str) -> list[Pod]:
    found = [Pod(f"tenant-{tenant}", "client", f"{tenant}-c", client, tenant, Role.CLIENT, "client", "client")]
    return found + [
        Pod(f"tenant-{tenant}", f"server-{n}", f"{tenant}-s{n}", node, tenant, Role.SERVER, "server", "server")
        for n, node in enumerate(servers)
    ]


PODS = (*pods("a", "n1", "n1", "n1"), *pods("b", "n2", "n1", "n2"), *pods("c", "n2", "n2", "n2"))
CALLS = tuple((f"tenant-{tenant}/client", f"tenant-{tenant}/server") for tenant in "abc")


def reference(mode: str) -> Placement:
    return Placement(MODES[mode], PODS, proxies_of(MODES[mode], PODS), CALLS)


def opens(placement: Placement, proxy: Proxy) -> str:
    """The tenants whose servers the proxy's keys open."""
    return "".join(sorted({server[7] for servers in reach(placement, proxy).values() for server in servers}))


@pytest.mark.parametrize(
    ("mode", "scope", "layers", "expected"),
    [
        # of a client's proxy its own tenant's servers, of a server's nobody's
        ("sidecar", Scope.POD, "l4-l7", {"a-c": "a", "a-s0": "", "b-c": "b", "b-s0": "", "b-s1": "", "c-s1": ""}),
        ("node", Scope.NODE, "l4-l7", {"n1": "a", "n2": "bc"}),  # those whose clients are on the node
        ("ambient-namespace", Scope.NODE, "l4", {"n1": "a", "n2": "bc"}),
        ("ambient-namespace", Scope.NAMESPACE, "l7", {"tenant-a": "a", "tenant-b": "b", "tenant-c": "c"}),
        ("ambient-node", Scope.NODE, "l7", {"n1": "abc", "n2": "abc"}),  # one account for the waypoints of all nodes
        ("ambient-pod", Scope.POD, "l7", {"a-s0": "a", "b-s0": "b", "c-s1": "c"}),
    ],
)
def test_each_kind_of_proxy_opens_what_its_identities_open(
    mode: str, scope: Scope, layers: str, expected: dict[str, str]
) -> None:
    placement = reference(mode)
    held = frozenset(map(Layer, layers.split("-")))
    found = {one.key: opens(placement, one) for one in placement.proxies if (one.scope, one.layers) == (scope, held)}
    assert {key: found[key] for key in expected} == expected


@given(placements())
def test_a_proxys_reach_is_of_just_the_identities_that_it_holds(placement: Placement) -> None:
    for proxy in placement.proxies:
        assert reach(placement, proxy).keys() == fate.identities_held(placement, proxy)


@given(placements())
def test_each_server_is_opened_by_its_callers_and_by_its_waypoints_and_by_nobody_else(placement: Placement) -> None:
    opening = opened_by(placement)
    for server, before in waypoints(placement).items():
        allowed = callers(placement)[server] | {(one.namespace, one.service_account) for one in before}
        assert {identity for identity, servers in opening.items() if server in servers} == allowed


def test_without_waypoints_servers_have_none_before_them() -> None:
    assert set(waypoints(reference("node")).values()) == {frozenset()}
