"""Comparing two reports: intervals decide, not raw differences, and nothing is dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chaos.report.regressions import Moved, compare, detect_shift, detect_verdict_change
from chaos.verdict.model import Measure


def trial(verdict: str = "pass", mode: str = "node", **measures: tuple[float, float, float, str]) -> dict[str, Any]:
    named = {
        name.replace("_", " "): {"value": value, "low": low, "high": high, "unit": unit}
        for name, (value, low, high, unit) in measures.items()
    }
    return {"mode": mode, "scenario": "proxy-killed", "verdict": verdict, "measures": named}


def report(*trials: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "trials": list(trials)}


def moved(base: dict[str, Any], new: dict[str, Any]) -> dict[str, Moved]:
    return {change.measure: change.moved for change in compare(report(base), report(new))}


def test_equal_reports_have_nothing_to_say() -> None:
    one = trial(time_to_recover=(0.5, 0.4, 0.6, "s"))
    assert set(moved(one, one).values()) == {Moved.SAME}


def test_a_raw_difference_within_the_intervals_is_no_regression() -> None:
    noisy = moved(trial(p99=(0.010, 0.006, 0.014, "s")), trial(p99=(0.014, 0.009, 0.019, "s")))
    clear = moved(trial(p99=(0.010, 0.0099, 0.0101, "s")), trial(p99=(0.014, 0.0139, 0.0141, "s")))
    assert (noisy["p99"], clear["p99"]) == (Moved.SAME, Moved.REGRESSED)


def test_a_clear_change_below_the_tolerance_is_no_regression() -> None:
    assert moved(trial(p99=(1.0, 1.0, 1.0, "s")), trial(p99=(1.05, 1.05, 1.05, "s")))["p99"] is Moved.SAME


def test_more_requests_per_second_are_better_and_fewer_are_worse() -> None:
    fast, slow = (
        trial(saturation=(900.0, 890.0, 910.0, "requests/s")),
        trial(saturation=(500.0, 490.0, 510.0, "requests/s")),
    )
    assert moved(fast, slow)["saturation"] is Moved.REGRESSED
    assert moved(slow, fast)["saturation"] is Moved.IMPROVED


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        ("pass", "fail", Moved.REGRESSED),
        ("inconclusive", "fail", Moved.REGRESSED),
        ("fail", "pass", Moved.IMPROVED),
        ("pass", "inconclusive", Moved.UNKNOWN),
        ("fail", "fail", Moved.SAME),
    ],
)
def test_verdicts_that_change(base: str, new: str, expected: Moved) -> None:
    assert detect_verdict_change(base, new) is expected


def test_a_trial_or_a_measure_that_is_gone_is_missing_and_comes_early() -> None:
    base = report(trial(p99=(1, 1, 1, "s")), trial(mode="sidecar"))
    changes = compare(base, report(trial()))
    assert [change.moved for change in changes][:2] == [Moved.MISSING, Moved.MISSING]
    assert {(change.mode, change.measure) for change in changes[:2]} == {("node", "p99"), ("sidecar", "")}
    assert compare(report(trial()), base)[-1].moved is Moved.SAME


def test_a_measure_without_a_value_is_unknown() -> None:
    empty = trial(p99=(1, 1, 1, "s"))
    empty["measures"]["p99"]["high"] = None
    assert moved(empty, trial(p99=(1, 1, 1, "s")))["p99"] is Moved.UNKNOWN


def test_equal_truths_rarely_regress_though_many_are_compared() -> None:
    rng = np.random.default_rng(1)
    half = 1.96

    def noisy() -> dict[str, Any]:
        values = rng.normal(100, 1, 20)
        return trial(**{f"m{i}": (v, v - half, v + half, "s") for i, v in enumerate(values)})

    wrong = sum(
        change.moved in (Moved.REGRESSED, Moved.IMPROVED)
        for _ in range(300)
        for change in compare(report(noisy()), report(noisy()), tolerance=0.0)
    )
    assert wrong <= 8  # alpha 0.01 for each of 300 comparisons


def test_limits_of_the_difference_of_two_normal_values_are_the_textbooks() -> None:
    first, second = Measure(10, 10 - 1.96, 10 + 1.96, "s"), Measure(20, 20 - 1.96, 20 + 1.96, "s")
    _, low, high = detect_shift(first, second, widen=1.0, tolerance=0.0)
    assert (low, high) == pytest.approx((10 - 1.96 * 2**0.5, 10 + 1.96 * 2**0.5))
