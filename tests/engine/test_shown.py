"""A trial that shows claims: its verdict, its result, and its reports."""

from __future__ import annotations

import json
from pathlib import Path

from chaos.engine.check import check_run
from chaos.engine.features.check import Check, decided, undecided
from chaos.engine.result import TrialResult
from chaos.engine.shown import judged_again, judgement_of, measures_of, reason_of
from chaos.report import write_reports

GOOD = decided("a holds", True, "3 of 3", 3, "calls")
BAD = decided("b holds", False, "1 of 3", 1, "calls")
OPEN = undecided("c holds", "nothing seen")


def written(run: Path, checks: list[Check]) -> None:
    directory = run / "trials" / "node" / "features"
    directory.mkdir(parents=True)
    came = judgement_of(checks)
    TrialResult(mode="node", scenario="features", target="", seed=1, seconds=2.0, predicted={"hurt": [], "unhurt": []},
                observed={"hurt": [], "unhurt": [], "inconclusive": []}, measures=measures_of(checks), verdict=came["verdict"],
                reason=came["reason"], history="trials/node/features", judgement=came).write(directory)
    (run / "run.json").write_text(json.dumps({"version": 1, "run": "r", "started": "2026-01-01T00:00:00+00:00",
                                              "cluster": {"kind": "embedded", "version": "v1", "nodes": 2}}))


def test_what_was_not_shown_is_the_reason() -> None:
    assert reason_of([GOOD, GOOD]) == "2 features were shown to work"
    assert reason_of([GOOD, BAD, OPEN]) == "b holds: 1 of 3; c holds: nothing seen"


def test_a_saved_judgement_gives_the_same_verdict_again() -> None:
    for checks in ([GOOD], [GOOD, OPEN], [GOOD, OPEN, BAD]):
        saved = json.loads(json.dumps(judgement_of(checks)))
        assert judged_again(saved) == (saved["verdict"], saved["reason"])


def test_a_result_of_checks_is_judged_again_and_reported(tmp_path: Path) -> None:
    written(tmp_path, [GOOD, BAD])
    (name, before, now), = check_run(tmp_path)
    assert (name, before) == ("features[node]", now)
    assert now == "fail: b holds: 1 of 3"
    reports = write_reports(tmp_path, seconds=3.0)
    trial, = json.loads(reports.json.read_text())["trials"]
    assert (trial["verdict"], trial["measures"]["b holds"]["value"]) == ("fail", 1)
    assert "b holds" in reports.html.read_text()
