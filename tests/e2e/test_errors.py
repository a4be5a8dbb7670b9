"""A trial that ends in an error leaves nothing to the next one, and is not forgotten by the reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.engine.progress import Silent
from chaos.engine.run import Run
from chaos.engine.scenario import Scenario
from chaos.engine.settings import Settings
from chaos.engine.trial import Trial, TrialFailed
from chaos.errors import RecoveryFailed
from chaos.report import write_reports

pytestmark = pytest.mark.privileged


def breaks(trial: Trial) -> None:
    trial.baseline()
    raise RecoveryFailed("what was broken stays broken")


def fails(trial: Trial) -> None:
    raise TrialFailed(f"{trial.name}: somebody was hurt")


def test_after_an_error_the_next_trial_gets_a_deployment_made_anew_and_after_a_verdict_it_does_not(tmp_path: Path) -> None:
    with Run(Settings(out=tmp_path / "out", modes=("none",), seed=5), progress=Silent()) as run:
        first = run.deployment("none")
        with pytest.raises(TrialFailed):
            run.attempt("none", Scenario("fails", fails, claim=""))
        assert run.deployment("none") is first
        with pytest.raises(RecoveryFailed):
            run.attempt("none", Scenario("breaks", breaks, claim=""))
        assert run.deployment("none") is not first
    write_reports(tmp_path / "out", seconds=1.0)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["unfinished"] == ["breaks[none]", "fails[none]"]
    assert "2 trials: 2 without a result" in (tmp_path / "out" / "report.md").read_text()
