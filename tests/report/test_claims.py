"""Every claim of the debate has its measured line, or says what would measure it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from chaos.engine.catalogue import scenario_names
from chaos.external.modes import installed_modes
from chaos.history.result import TrialResult
from chaos.report.claims import CLAIMS, COSTS, Claim, answers

ROOT = Path(__file__).resolve().parents[2]


def trial(mode: str, scenario: str, **more: Any) -> TrialResult:
    facts = {
        "target": "",
        "seed": 1,
        "seconds": 1.0,
        "predicted": {"hurt": [], "unhurt": []},
        "observed": {"hurt": [], "unhurt": [], "inconclusive": []},
        "measures": {},
        "verdict": "pass",
        "reason": "as it should",
        "history": f"trials/{mode}/{scenario}",
        "directory": Path(mode) / scenario,
    }
    return TrialResult(mode=mode, scenario=scenario, **{**facts, **more})


def test_every_claim_names_a_scenario_that_exists_and_meshes_that_are_modes() -> None:
    assert {claim.scenario for claim in CLAIMS if not claim.command} <= set(scenario_names())
    assert {mesh for claim in CLAIMS for mesh in claim.meshes} <= set(installed_modes())
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


# Of one claim with others, or its price alone.
WITHOUT_CLAIM = {
    "client-shut-down-proxy-killed",
    "enrolment-off",
    "noisy-bodies",
    "noisy-bytes",
    "proxy-recreated",
    "waypoint-moved",
    "waypoint-removed",
}


def test_every_scenario_answers_a_claim_or_is_a_variant_of_one_that_does() -> None:
    assert set(scenario_names()) - {claim.scenario for claim in CLAIMS} <= WITHOUT_CLAIM


def test_a_claim_that_was_not_measured_says_by_what_it_would_be() -> None:
    for answer in answers([], []):
        assert answer.figures == ()
        assert answer.said.startswith(f"Not measured in this run: {answer.claim.asks}")
        assert answer.said.endswith(answer.claim.measured)
        assert (answer.claim.command or f"--scenarios {answer.claim.scenario}") in answer.said


def test_a_claim_has_either_a_scenario_or_a_command_that_is_there() -> None:
    for claim in CLAIMS:
        assert bool(claim.scenario) is not bool(claim.command), claim.text
        if claim.command:
            module, piece = claim.command.split()[-2:]
            assert piece in import_module(module).PIECES


@pytest.mark.parametrize(
    ("modes", "measured"),
    [((), []), (("sidecar",), []), (("istio-ambient",), ["istio-ambient"]), (("cilium", "linkerd"), ["linkerd"])],
)
def test_a_claim_of_certain_meshes_is_answered_by_them_alone(modes: tuple[str, ...], measured: list[str]) -> None:
    claim = next(one for one in CLAIMS if one.meshes and one.scenario == "identities-exposed")
    trials = [trial(mode, "identities-exposed") for mode in modes]
    (answer,) = [one for one in answers(trials, [None] * len(trials)) if one.claim is claim]
    assert [figure.mode for figure in answer.figures] == measured
    assert ("on a cluster with these meshes" in answer.said) is (not measured)


def test_a_claim_of_any_mode_asks_for_no_mesh() -> None:
    assert Claim("x", "footprint", "for both").asks == "`sharedfate run --scenarios footprint`"


def test_what_a_claim_says_was_measured_once_stands_on_the_benchmarks_page() -> None:
    page = (ROOT / COSTS).read_text()
    measured = [claim.measured for claim in CLAIMS if claim.measured]
    assert len(measured) == 3
    for text in measured:
        figures = re.findall(r"\d+\.\d+|\d{3,}", text.replace("100 requests/s", ""))
        assert figures
        assert [figure for figure in figures if not re.search(rf"\b{re.escape(figure)}\b", page)] == []
