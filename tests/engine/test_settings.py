"""Options of a run: every wrong one is named, and which trials they choose."""

from __future__ import annotations

import pytest

from chaos.engine.settings import chosen, refuse_unknown
from chaos.engine.settings import chosen as is_chosen
from chaos.errors import Misuse
from tests.engine.options import settings


def test_every_wrong_option_is_named_in_one_error() -> None:
    with pytest.raises(Misuse) as caught:
        settings(modes="sidecar,sidecart", cluster="minikub", nodes=1, inconclusive="maybe")
    text = str(caught.value)
    for part in ("'sidecart'", "'minikub'", "1 nodes", "'maybe'", "known are"):
        assert part in text


def test_a_scenario_that_nothing_defines_is_refused_once_every_file_was_read() -> None:
    asked = settings(scenarios="proxy-killed,proxy-kiled")
    with pytest.raises(Misuse, match="unknown scenario 'proxy-kiled': known are proxy-killed, all, default"):
        refuse_unknown(asked, ["proxy-killed"])
    refuse_unknown(settings(scenarios="all"), [])


@pytest.mark.parametrize(
    ("scenarios", "mode", "scenario", "shipped", "taken"),
    [
        ("", "node", "proxy-killed", True, True),
        ("", "node", "noisy-bodies", True, False),
        ("", "node", "mine", False, True),
        ("all", "node", "mine", False, True),
        ("proxy-killed", "node", "mine", False, False),
        ("mine", "node", "mine", False, True),
        ("mine", "sidecar", "mine", False, False),
    ],
)
def test_without_named_scenarios_those_of_ones_own_are_taken_with_the_default_matrix(
    scenarios: str, mode: str, scenario: str, shipped: bool, taken: bool
) -> None:
    asked = settings(modes="node", scenarios=scenarios)
    assert is_chosen(asked, mode, scenario, shipped=shipped) is taken


def test_all_means_every_mode() -> None:
    assert len(settings(modes="all").modes) == 7


def test_a_seed_that_was_not_given_is_drawn() -> None:
    assert settings(seed=None).seed >= 0


@pytest.mark.parametrize(
    ("asked", "mode", "scenario", "taken"),
    [
        ({}, "node", "proxy-paused", True),
        ({}, "none", "proxy-paused", False),  # not in the default matrix
        ({"scenarios": "all"}, "none", "proxy-paused", True),
        ({"modes": "none", "scenarios": "proxy-paused"}, "none", "proxy-paused", True),
        ({"modes": "none", "scenarios": "proxy-paused"}, "node", "proxy-paused", False),
        ({"modes": "all", "scenarios": "default"}, "ambient-pod", "features", False),
    ],
)
def test_a_run_takes_what_was_asked_for(asked: dict[str, str], mode: str, scenario: str, taken: bool) -> None:
    assert chosen(settings(**asked), mode, scenario) is taken
