"""The engine's pure parts: restarts, settings, topology, chance."""

from __future__ import annotations

import pytest

from chaos.chance import Seed
from chaos.engine.catalogue import scenario_names
from chaos.engine.restarts import ContainerState, compare_restarts
from chaos.engine.settings import parse_settings
from chaos.engine.topology import plan_tenants
from chaos.errors import Misuse


def state(*, container_id: str = "c1", restarts: int = 0) -> ContainerState:
    return ContainerState("tenant-a", "server-1", "server", container_id, restarts)


def test_an_application_container_that_restarted_is_named() -> None:
    problems = compare_restarts({("u", "server"): state()}, {("u", "server"): state(container_id="c2", restarts=1)})
    assert problems == ["tenant-a/server-1[server] restarted (0 -> 1)"]


def test_a_pod_that_went_is_named() -> None:
    assert compare_restarts({("u", "server"): state()}, {}) == ["tenant-a/server-1[server] is gone"]


def test_the_restart_of_the_target_itself_is_expected() -> None:
    before, after = {("u", "server"): state()}, {("u", "server"): state(container_id="c2", restarts=1)}
    assert compare_restarts(before, after, expected=["u"]) == []


def test_nothing_changed_is_no_problem() -> None:
    assert compare_restarts({("u", "server"): state()}, {("u", "server"): state()}) == []


def settings(**changes: object) -> object:
    values: dict[str, object] = {
        "cluster": "embedded", "modes": "", "scenarios": "", "nodes": 2, "out": "out", "budget": 900, "seed": 7,
        "keep": False, "inconclusive": "retry", "baseline": None, "known_scenarios": scenario_names()}
    return parse_settings(**{**values, **changes})  # type: ignore[arg-type]


def test_every_wrong_option_is_named_in_one_error() -> None:
    with pytest.raises(Misuse) as caught:
        settings(modes="sidecar,sidecart", scenarios="proxy-kiled", cluster="minikub", nodes=1, inconclusive="maybe")
    text = str(caught.value)
    for part in ("'sidecart'", "'proxy-kiled'", "'minikub'", "1 nodes", "'maybe'", "known are"):
        assert part in text


def test_all_means_every_mode() -> None:
    assert len(settings(modes="all").modes) == 7  # type: ignore[attr-defined]


def test_a_seed_that_was_not_given_is_drawn() -> None:
    assert settings(seed=None).seed >= 0  # type: ignore[attr-defined]


def test_the_reference_tenants_need_two_nodes() -> None:
    with pytest.raises(Misuse, match="two nodes"):
        plan_tenants(["only"])


def test_the_third_tenant_shares_no_node_with_the_first() -> None:
    a, b, c = plan_tenants(["n1", "n2"])
    assert set(a.client_nodes + a.server_nodes).isdisjoint(c.client_nodes + c.server_nodes)
    assert set(b.server_nodes) == {"n1", "n2"}


def test_named_children_of_a_seed_repeat_and_differ() -> None:
    assert Seed(1).child("x").number() == Seed(1).child("x").number()
    assert Seed(1).child("x").number() != Seed(1).child("y").number() != Seed(2).child("y").number()
