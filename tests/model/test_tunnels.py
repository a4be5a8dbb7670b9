"""Which calls share a connection between proxies: those of different pods where a waypoint speaks for both."""

from __future__ import annotations

import pytest

from chaos.model.modes import MODES
from chaos.model.placement import Placement, Pod
from chaos.model.tunnels import share_tunnel, shares_in_tunnels
from tests.model.test_fate import proxies_of
from tests.model.test_reach import CALLS, PODS

READER = Pod("tenant-a", "reader", "a-r", "n1", "a", "", "reader", "client")
ELSEWHERE = Pod("tenant-a", "reader", "a-r", "n2", "a", "", "reader", "client")
SLOW = ("tenant-a/reader", "tenant-a/server")


def shares(mode: str, reader: Pod) -> dict[str, float]:
    """The share of each tenant's own calls in the reader's tunnels."""
    pods = (*PODS, reader)
    placement = Placement(MODES[mode], pods, proxies_of(MODES[mode], pods), (*CALLS, SLOW))
    held = [pair for pair in placement.pairs() if pair.call == SLOW]
    found = shares_in_tunnels(placement, held)
    return {call[0][7]: share for call, share in found.items() if call in CALLS}


@pytest.mark.parametrize(
    ("mode", "reader", "expected"),
    [
        ("sidecar", READER, 0.0),
        ("native-sidecar", READER, 0.0),
        ("node", READER, 0.0),  # the proxy is shared, and its connections are each pod's own
        ("ambient-namespace", READER, 1.0),
        ("ambient-namespace", ELSEWHERE, 1.0),
        ("ambient-pod", READER, 1.0),
        ("ambient-node", READER, 1.0),
        ("ambient-node", ELSEWHERE, 0.0),  # each node's waypoint has connections of its own
    ],
)
def test_calls_of_two_pods_share_a_connection_where_a_waypoint_carries_both(
    mode: str, reader: Pod, expected: float
) -> None:
    assert shares(mode, reader) == {"a": expected, "b": 0.0, "c": 0.0}


def ambient() -> Placement:
    mode, pods = MODES["ambient-namespace"], (*PODS, READER)
    return Placement(mode, pods, proxies_of(mode, pods), (*CALLS, SLOW))


def test_calls_to_different_servers_share_none() -> None:
    placement = ambient()
    first, second = (pair for pair in placement.pairs() if pair.call == SLOW)
    assert share_tunnel(placement, first, first)
    assert not share_tunnel(placement, first, second)


def test_a_tenant_with_one_of_two_servers_behind_the_readers_connections_is_caught_by_half() -> None:
    placement = ambient()
    held = [pair for pair in placement.pairs() if pair.call == SLOW][:1]
    assert shares_in_tunnels(placement, held)["tenant-a/client", "tenant-a/server"] == 0.5
