"""What makes an application restart, and what it loses, is read from the trials of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.engine import upgrade
from chaos.engine.catalogue import scenario_names
from chaos.engine.outcome import judgement_of, measures_of
from chaos.history.result import TrialResult
from chaos.report.restart_table import CHANGES, RESTARTS, ChangeLine, cell_of, restart_table
from chaos.verdict.check import Check, decided, measured

NOBODY: dict[str, list[str]] = {"hurt": [], "unhurt": [], "inconclusive": []}


def trial(mode: str, scenario: str, *checks: Check, **more: Any) -> TrialResult:
    facts = {"verdict": "pass", "reason": "", "judgement": judgement_of(None, checks), "measures": measures_of(checks)}
    return TrialResult(
        mode, scenario, target="", seed=1, seconds=1.0, predicted=NOBODY, observed=NOBODY, **{**facts, **more}
    )


def rolled_out(restarts: int, *lost: int, cut: int = 0) -> list[Check]:
    return [
        decided(RESTARTS, True, "so many", restarts, "containers"),
        *(measured(f"requests lost by flow {one}", "", number, "requests") for one, number in enumerate(lost)),
        measured("long streams cut of tenant-a/client", "", cut, "connections"),
    ]


def judged(*lost: float | None, **more: Any) -> TrialResult:
    flows = [
        {"flow": f"f{one}", "requests_lost": None if value is None else {"value": value}}
        for one, value in enumerate(lost)
    ]
    return trial("node", "proxy-killed", judgement={"flows": flows}, measures={}, **more)


@pytest.mark.parametrize(
    ("tried", "said"),
    [
        (
            trial("sidecar", "proxy-upgraded", *rolled_out(2, 3, 0, 4, cut=4)),
            "2 applications restart, 7 requests lost, 4 long streams cut",
        ),
        (
            trial("node", "proxy-upgraded", *rolled_out(1, 1, cut=1)),
            "1 application restarts, 1 request lost, 1 long stream cut",
        ),
        (trial("node", "proxy-upgraded", *rolled_out(0, 0, 0)), "no restart, no request lost"),
        (judged(12.0, None, 3.0), "no restart, 15 requests lost"),
        (judged(None), "no restart, no request lost"),
        (trial("node", "control-plane-down", judgement={}), "no restart"),
        (judged(0.0, verdict="inconclusive"), "no restart, no request lost, cannot tell"),
        (
            judged(1.0, verdict="fail", reason="containers restarted that should not have: tenant-b/server[server]"),
            "restarts that nobody expected: tenant-b/server[server]",
        ),
    ],
)
def test_a_cell_says_what_restarted_and_what_was_lost(tried: TrialResult, said: str) -> None:
    assert cell_of(tried) == said


def test_each_change_that_was_tried_has_a_line_and_each_mode_a_column() -> None:
    first = trial("node", "proxy-upgraded", *rolled_out(0, 9))
    again = replace(first, measures={})
    found = restart_table(
        [first, again, trial("sidecar", "control-plane-upgraded", *rolled_out(0, 0)), trial("none", "footprint")]
    )
    assert found.modes == ("node", "sidecar")
    assert found.lines == (
        ChangeLine(CHANGES["proxy-upgraded"], ("no restart", "not tried")),
        ChangeLine(CHANGES["control-plane-upgraded"], ("not tried", "no restart, no request lost")),
    )
    assert set(found.untried) == set(CHANGES) - {"proxy-upgraded", "control-plane-upgraded"}
    assert restart_table([trial("none", "footprint")]).lines == ()


def test_the_table_reads_what_the_suite_writes() -> None:
    assert set(CHANGES) <= set(scenario_names())
    assert RESTARTS == upgrade.RESTARTS
