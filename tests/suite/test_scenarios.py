"""Every scenario of the suite says what it claims and which faults it uses, and the default matrix names only such."""

from __future__ import annotations

import sys

import pytest

from chaos.engine.catalogue import scenario_names
from chaos.engine.matrix import DEFAULT
from chaos.engine.scenario import SCENARIOS
from chaos.external.modes import mode_named
from chaos.model.modes import MODES


def test_every_trial_of_the_default_matrix_exists_and_applies() -> None:
    names = scenario_names()
    for mode, scenarios in DEFAULT.items():
        for name in scenarios:
            assert name in names, name
            assert SCENARIOS[name].skip_reason(MODES[mode]) == "", (mode, name)
    assert DEFAULT.keys() == MODES.keys()
    assert 30 <= sum(map(len, DEFAULT.values())) <= 40


def test_every_scenario_declares_the_faults_that_its_module_names() -> None:
    scenario_names()
    for found in SCENARIOS.values():
        module = vars(sys.modules[found.run.__module__])
        assert all(module.get(fault.__name__) is fault for fault in found.faults), found.name
    unbroken = {name for name, found in SCENARIOS.items() if not found.faults}
    assert unbroken == {
        "certificates-rotated",
        "client-shut-down",
        "enrolment-off",
        "enrolment-on",
        "features",
        "footprint",
        "identities-exposed",
        "job-completes",
        "proxy-reconfigured",
        "waypoint-added",
        "waypoint-moved",
        "waypoint-removed",
    }


def test_every_scenario_says_what_it_claims() -> None:
    scenario_names()
    assert [name for name, found in SCENARIOS.items() if not found.claim.endswith(".")] == []


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("istio-ambient", "no call passes a proxy of layer 7"),
        ("istio-ambient-waypoint", ""),
        ("linkerd", "both layers are in one proxy: proxy-killed breaks it"),
        ("cilium", "its proxies of requests are the only ones: proxy-killed breaks one"),
        ("none", "there is no proxy without a mesh"),
    ],
)
def test_a_mode_without_waypoints_says_what_it_has_instead(mode: str, why: str) -> None:
    assert SCENARIOS["waypoint-killed"].why_not_in(mode_named(mode)) == why
