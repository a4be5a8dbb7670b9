"""A trial that shows claims: its verdict, its result, and its reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.engine.check import check_run
from chaos.engine.outcome import checks_of, combined, judgement_of, measures_of, reason_of
from chaos.engine.trial import detect_too_few, summary
from chaos.history.result import TrialResult
from chaos.report import write_reports
from chaos.verdict.check import Check, decided, undecided

GOOD = decided("a holds", True, "3 of 3", 3, "calls")
BAD = decided("b holds", False, "1 of 3", 1, "calls")
OPEN = undecided("c holds", "nothing seen")


def written(run: Path, checks: list[Check]) -> None:
    directory = run / "trials" / "node" / "features"
    directory.mkdir(parents=True)
    came = judgement_of(None, checks)
    TrialResult(
        mode="node",
        scenario="features",
        target="",
        seed=1,
        seconds=2.0,
        predicted={"hurt": [], "unhurt": []},
        observed={"hurt": [], "unhurt": [], "inconclusive": []},
        measures=measures_of(checks),
        verdict=came["verdict"],
        reason=came["reason"],
        history="trials/node/features",
        judgement=came,
    ).write(directory)
    (run / "run.json").write_text(
        json.dumps(
            {
                "version": 1,
                "run": "r",
                "started": "2026-01-01T00:00:00+00:00",
                "cluster": {"kind": "embedded", "version": "v1", "nodes": 2},
            }
        )
    )


def test_what_was_not_shown_is_the_reason() -> None:
    assert reason_of([GOOD, GOOD]) == "a holds: 3 of 3; a holds: 3 of 3"
    assert reason_of([GOOD] * 9) == "9 claims were shown to hold"
    assert reason_of([GOOD, BAD, OPEN]) == "b holds: 1 of 3; c holds: nothing seen"


def test_a_saved_judgement_gives_the_same_verdict_again() -> None:
    for checks in ([GOOD], [GOOD, OPEN], [GOOD, OPEN, BAD]):
        saved = json.loads(json.dumps(judgement_of(None, checks)))
        assert combined(None, checks_of(saved)) == (saved["verdict"], saved["reason"])


@pytest.mark.parametrize(
    ("judged", "claims", "verdict", "reason"),
    [
        ("pass", [GOOD], "pass", "flows: fine; a holds: 3 of 3"),
        ("pass", [BAD], "fail", "b holds: 1 of 3"),
        ("fail", [GOOD], "fail", "flows: fine"),
        ("inconclusive", [GOOD], "inconclusive", "flows: fine"),
        ("inconclusive", [BAD], "fail", "b holds: 1 of 3"),
    ],
)
def test_a_trial_with_flows_and_claims_is_as_good_as_the_worse_of_them(
    judged: str, claims: list[Check], verdict: str, reason: str
) -> None:
    assert combined({"verdict": judged, "reason": "flows: fine"}, claims) == (verdict, reason)


def test_a_trial_that_checked_nothing_is_inconclusive() -> None:
    assert combined(None, []) == ("inconclusive", "nothing was checked")


def test_a_result_of_checks_is_judged_again_and_reported(tmp_path: Path) -> None:
    written(tmp_path, [GOOD, BAD])
    (name, before, now), (unreported, *_) = check_run(tmp_path)
    assert (name, before) == ("features[node]", now)
    assert (now, unreported) == ("fail: b holds: 1 of 3", "report.json")
    reports = write_reports(tmp_path, seconds=3.0)
    (trial,) = json.loads(reports.json.read_text())["trials"]
    assert (trial["verdict"], trial["measures"]["b holds"]["value"]) == ("fail", 1)
    assert [before == now for _, before, now in check_run(tmp_path)] == [True]
    assert "b holds" in reports.html.read_text()


@pytest.mark.parametrize(
    ("verdict", "predicted", "hurt", "shown"),
    [
        ("pass", {"hurt": ["a/x -> a/y"], "unhurt": []}, ["a/x -> a/y"], "as predicted; hurt: a"),
        ("pass", {"hurt": [], "unhurt": ["a/x -> a/y"]}, [], "as predicted; hurt: nobody"),
        ("fail", {"hurt": [], "unhurt": ["a/x -> a/y"]}, ["b/x -> b/y", "a/x -> a/y"], "not as predicted; hurt: a, b"),
        ("inconclusive", {"hurt": [], "unhurt": ["a/x -> a/y"]}, [], "cannot tell; hurt: nobody"),
        ("pass", {"hurt": [], "unhurt": []}, [], "as predicted"),
    ],
)
def test_a_trials_result_is_shown_in_a_line_once_it_is_known(
    verdict: str, predicted: dict[str, list[str]], hurt: list[str], shown: str
) -> None:
    found = TrialResult(
        mode="node",
        scenario="proxy-killed",
        target="",
        seed=1,
        seconds=2.0,
        predicted=predicted,
        observed={"hurt": hurt, "unhurt": [], "inconclusive": []},
        measures={},
        verdict=verdict,
        reason="",
        history="",
        judgement={},
    )
    assert summary(found) == shown


@pytest.mark.parametrize(
    ("made", "elapsed", "says"),
    [
        ({"a": 0}, 34, ""),  # it may yet begin
        ({"a": 0}, 36, "a made 0 requests in 36 s, and a baseline is 500"),
        ({"a": 4000, "b": 100}, 40, "b made 100 requests in 40 s"),
        ({"a": 4000, "b": 400}, 40, ""),  # ten a second: it has its baseline after 50 s
        ({"a": 180}, 36, ""),
        ({"a": 144}, 36, "It needs at least 5 requests a second"),
        ({}, 100, ""),
    ],
)
def test_a_slow_load_is_waited_for_and_one_that_is_too_slow_is_refused(
    made: dict[str, int], elapsed: float, says: str
) -> None:
    why = detect_too_few(made, 500, elapsed=elapsed)
    assert says in why
    assert bool(says) is bool(why)
