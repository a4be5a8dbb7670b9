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
    noisy = moved(trial(p99=(1.0, 0.6, 1.4, "s")), trial(p99=(2.4, 0.9, 3.9, "s")))
    clear = moved(trial(p99=(1.0, 0.9, 1.1, "s")), trial(p99=(2.4, 2.3, 2.5, "s")))
    assert (noisy["p99"], clear["p99"]) == (Moved.SAME, Moved.REGRESSED)


def test_what_was_measured_once_says_little_of_the_next_time() -> None:
    base = trial(back=(0.15, 0.15, 0.16, "s"))  # as identical runs had it
    assert moved(base, trial(back=(0.9, 0.9, 0.91, "s")))["back"] is Moved.SAME
    assert moved(base, trial(back=(1.5, 1.5, 1.51, "s")))["back"] is Moved.REGRESSED


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
        measures: dict[str, Any] = {f"m{i}": (v, v - half, v + half, "s") for i, v in enumerate(values)}
        return trial(**measures)

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


def kills(*values: float, unit: str = "s") -> dict[str, Any]:
    """A trial with one measure of repeated kills."""
    made = trial()
    middle = sum(values) / len(values)
    made["measures"]["outage"] = {
        "value": middle,
        "low": middle,
        "high": middle,
        "unit": unit,
        "values": list(values),
        "each": "kill",
    }
    return made


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        # One kill says nothing of the next: it is worse by twice the floor, or the same
        (kills(0.0), kills(0.7), Moved.SAME),
        (kills(0.0), kills(0.99), Moved.SAME),
        (kills(0.3), kills(2.3), Moved.REGRESSED),
        (kills(2.3), kills(0.3), Moved.IMPROVED),
        (kills(53.0, unit="requests"), kills(282.0, unit="requests"), Moved.SAME),
        (kills(200.0, unit="requests"), kills(600.0, unit="requests"), Moved.REGRESSED),
        # Several: the floor alone, and an interval that excludes 0
        (kills(0.3, 0.5, 0.4), kills(2.3, 2.5, 2.2), Moved.REGRESSED),
        (kills(0.3, 0.5, 0.4), kills(0.7, 0.9, 0.8), Moved.SAME),
        (kills(0.3, 0.5, 0.4), kills(0.4, 0.5, 4.4), Moved.SAME),
        (kills(0.3, 0.5, 0.4), kills(2.4), Moved.REGRESSED),
        (kills(0.0, 0.0, 0.0), kills(0.3, 0.4, 0.3), Moved.SAME),  # a base of 0 has a tolerance too
        # Counts that are there or not
        (kills(0.0, unit="pods"), kills(1.0, unit="pods"), Moved.REGRESSED),
        (kills(2.0, unit="containers"), kills(2.0, unit="containers"), Moved.SAME),
        (kills(0.2, 0.2, 2.6), kills(2.4, 2.5, 2.4), Moved.SAME),  # each must be worse than each
        # A rate is found in steps; less is worse, where it is by more than a step and in each repeat
        (kills(750, 750, 1125, unit="requests/s"), kills(375, 562, 375, unit="requests/s"), Moved.REGRESSED),
        (kills(375, 562, 375, unit="requests/s"), kills(750, 750, 1125, unit="requests/s"), Moved.IMPROVED),
        (kills(1125, 1125, 1125, unit="requests/s"), kills(750, 750, 750, unit="requests/s"), Moved.SAME),
        (kills(2531, 1125, 1125, unit="requests/s"), kills(750, 1125, 750, unit="requests/s"), Moved.SAME),
        # as identical runs had it: one ramp ended a step late
        (kills(1688, 1772, 2658, unit="requests/s"), kills(1125, 1181, 1181, unit="requests/s"), Moved.SAME),
        (kills(8543, 8970, 8970, unit="requests/s"), kills(3797, 5980, 5980, unit="requests/s"), Moved.SAME),
        (kills(8543, 8970, 8970, unit="requests/s"), kills(1688, 2658, 1772, unit="requests/s"), Moved.REGRESSED),
        (kills(900, 950, 910, unit="requests/s"), kills(780, 760, 800, unit="requests/s"), Moved.SAME),
        (kills(900, 950, 910, unit="requests/s"), kills(450, 470, 460, unit="requests/s"), Moved.REGRESSED),
    ],
)
def test_what_is_repeated_is_worse_beyond_the_floor_and_the_spread_between_repeats(
    base: dict[str, Any], new: dict[str, Any], expected: Moved
) -> None:
    assert moved(base, new)["outage"] is expected


def test_a_value_without_limits_is_compared_where_its_unit_has_a_floor() -> None:
    def plain(value: float, unit: str) -> dict[str, Any]:
        made = trial()
        made["measures"]["m"] = {"value": value, "low": None, "high": None, "unit": unit}
        return made

    assert moved(plain(0, "pods"), plain(1, "pods"))["m"] is Moved.REGRESSED
    assert moved(plain(100, "MiB"), plain(120, "MiB"))["m"] is Moved.SAME
    assert moved(plain(0.9, "p"), plain(0.1, "p"))["m"] is Moved.UNKNOWN


def test_when_the_judge_detected_is_no_property_of_the_system() -> None:
    fast, late = trial(time_to_detect=(0.25, 0, 0.25, "s")), trial(time_to_detect=(16.0, 8.0, 16.0, "s"))
    assert set(moved(fast, late).values()) == {Moved.SAME}


def test_the_price_of_harm_is_missing_only_where_somebody_was_hurt() -> None:
    base, new = trial(requests_lost=(40, 30, 50, "requests")), trial()
    assert moved(base, new)["requests lost"] is Moved.MISSING
    assert moved(base, {**new, "observed": {"hurt": ["a -> b"]}})["requests lost"] is Moved.MISSING
    assert moved(base, {**new, "observed": {"hurt": []}})["requests lost"] is Moved.IMPROVED
