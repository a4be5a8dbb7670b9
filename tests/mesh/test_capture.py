"""Capture: the plan, and the plan in a real namespace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.errors import EnvironmentUnfit, Misuse
from chaos.mesh import capture
from tests.mesh.envoy.bench import Namespace


def test_without_an_address_of_the_node_nothing_is_planned() -> None:
    with pytest.raises(Misuse):
        capture.plan_capture(inbound=capture.Inbound.REDIRECT, node=[], probed=[])


def test_the_stamp_tells_plans_apart_and_ignores_order() -> None:
    one = capture.plan_capture(inbound=capture.Inbound.REDIRECT, node=["10.0.0.1", "10.0.0.2"], probed=[80, 81])
    same = capture.plan_capture(inbound=capture.Inbound.REDIRECT, node=["10.0.0.2", "10.0.0.1"], probed=[81, 80])
    other = capture.plan_capture(inbound=capture.Inbound.TUNNEL, node=["10.0.0.1", "10.0.0.2"], probed=[80, 81])
    assert one == same
    assert capture.stamp_of(one) != capture.stamp_of(other)


def test_default_gateways_are_read_from_the_route_table() -> None:
    table = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert capture.detect_gateways(table) == ["10.244.1.1"]
    assert capture.detect_gateways(table.splitlines()[0]) == []


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = Namespace.new()
    yield made
    made.end()


@pytest.mark.privileged
@pytest.mark.parametrize("inbound", list(capture.Inbound))
def test_capture_can_be_repeated_and_is_undone_exactly(space: Namespace, inbound: capture.Inbound) -> None:
    plan = capture.plan_capture(inbound=inbound, node=["10.0.0.1"], probed=[8080])
    assert not capture.is_applied(plan, netns=space.path)
    for _ in range(2):
        capture.apply_rules(plan, netns=space.path)
    assert capture.is_applied(plan, netns=space.path)
    assert not capture.is_applied(plan.replace("10.0.0.1", "10.0.0.2").replace("v_", "v_x"), netns=space.path)
    for _ in range(2):
        capture.apply_rules(capture.plan_release(), netns=space.path)
    assert space.run("nft", "list", "ruleset").strip() == ""


@pytest.mark.privileged
def test_rules_that_the_kernel_refuses_are_an_error(space: Namespace) -> None:
    with pytest.raises(EnvironmentUnfit, match="nft refused"):
        capture.apply_rules("table ip sharedfate { chain x { nonsense } }", netns=space.path)
