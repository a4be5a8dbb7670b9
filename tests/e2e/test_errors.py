"""A trial that ends in an error leaves nothing to the next one, and is not forgotten by the reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.engine.deployment import Deployment
from chaos.engine.designs import break_proxy
from chaos.engine.progress import Silent
from chaos.engine.run import Run
from chaos.engine.scenario import Scenario
from chaos.engine.settings import Inconclusive, Settings
from chaos.engine.trial import Trial, TrialFailed, TrialInconclusive
from chaos.errors import NoEffect, NotReady
from chaos.faults.model import Evidence, Receipt
from chaos.faults.throttle import Throttle
from chaos.kube.client import Cluster
from chaos.report import write_reports
from chaos.verdict.check import decided

pytestmark = pytest.mark.privileged


def breaks(trial: Trial) -> None:
    trial.baseline()
    raise NotReady("what was broken stays broken")


def fails(trial: Trial) -> None:
    trial.show(decided("claim", False, "it does not hold"))


class Unnoticed(Throttle):
    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        raise NoEffect(f"{receipt.target}: nothing was seen to change")


def does_nothing(trial: Trial) -> None:
    break_proxy(trial, Unnoticed(), trial.deployment.proxy_to_break())


def never_healthy(deployment: Deployment) -> list[str]:
    raise NotReady(f"{deployment.run}: its load does not get healthy")


@pytest.mark.slow
def test_after_an_error_the_next_trial_gets_a_deployment_made_anew_and_after_a_verdict_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(out=tmp_path / "out", modes=("node",), seed=5, inconclusive=Inconclusive.FAIL)
    with Run(settings, progress=Silent()) as run:
        first = run.deployment("node")
        with pytest.raises(TrialFailed, match="it does not hold"):
            run.attempt("node", Scenario("fails", fails, claim=""))
        assert run.deployment("node") is first
        with pytest.raises(NotReady, match="stays broken"):
            run.attempt("node", Scenario("breaks", breaks, claim=""))
        second = run.deployment("node")
        assert second is not first
        with pytest.raises(TrialInconclusive, match="nothing was seen to change"):
            run.attempt("node", Scenario("does-nothing", does_nothing, claim=""))
        third = run.deployment("node")
        assert third is not second
        monkeypatch.setattr(Deployment, "restore_load", never_healthy)
        with pytest.raises(NotReady):
            run.attempt("node", Scenario("sound", fails, claim=""))
        assert run.deployment("node") is not third
    write_reports(tmp_path / "out", seconds=1.0)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["unfinished"] == ["breaks[node]", "sound[node]"]
    assert {trial["scenario"]: trial["verdict"] for trial in report["trials"]} == {
        "fails": "fail",
        "does-nothing": "inconclusive",
    }
    assert (
        "4 trials: 1 not as predicted, 1 cannot tell, 2 without a result"
        in (tmp_path / "out" / "report.md").read_text()
    )
