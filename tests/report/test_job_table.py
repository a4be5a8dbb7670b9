"""The table of Jobs is made from the checks of the trials that tried them."""

from __future__ import annotations

from chaos.engine.outcome import judgement_of
from chaos.history.result import TrialResult
from chaos.model.job_fate import ROWS
from chaos.report.formatting import DASH
from chaos.report.job_table import JobLine, job_table
from chaos.verdict.check import Check, decided, undecided

FIRST, SECOND = ROWS[0], ROWS[1]


def tried(mode: str, *checks: Check) -> TrialResult:
    return TrialResult(
        mode=mode,
        scenario="job-policies",
        target="",
        seed=1,
        seconds=1.0,
        predicted={},
        observed={},
        measures={},
        verdict="pass",
        reason="",
        history="",
        judgement=judgement_of(None, checks),
    )


def test_a_run_without_such_trials_has_no_table() -> None:
    assert job_table([tried("node", decided("the Job completes", True, "it did"))]).lines == ()


def test_each_job_has_a_line_and_each_mode_a_column() -> None:
    found = job_table(
        [
            tried("node", decided(FIRST.name, True, "completed, retried once; its application ended with 1, 0")),
            tried(
                "sidecar",
                decided(FIRST.name, False, "completed; its application ended with 0; predicted: never ends"),
                undecided(SECOND.name, "it still worked"),
                decided("something else", True, "completed"),
            ),
        ]
    )
    assert found.modes == ("node", "sidecar")
    assert found.lines == (
        JobLine(str(FIRST.trouble), FIRST.policy.name, ("completed, retried once", "completed (not as predicted)")),
        JobLine(str(SECOND.trouble), SECOND.policy.name, (DASH, "it still worked (cannot tell)")),
    )
