"""Tolerances: an interval is inside, outside or astride, a list is empty, not empty or open; doubt is never green by
itself.
"""

from __future__ import annotations

import pytest

from chaos.errors import Misuse
from chaos.toolkit import tolerances
from chaos.toolkit.readings import names, number, opinion
from chaos.verdict import Verdict

PASS, FAIL, DOUBT = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.0, 0.01, PASS), (0.0, 0.02, PASS), (0.01, 0.03, DOUBT), (0.021, 0.03, FAIL)]
)
def test_at_most_asks_the_whole_interval(low: float, high: float, expected: Verdict) -> None:
    assert tolerances.weigh("at_most", number((low + high) / 2, low, high, "share"), {"limit": 0.02}) is expected


@pytest.mark.parametrize(("low", "high", "expected"), [(0.5, 0.6, PASS), (0.4, 0.6, DOUBT), (0.1, 0.4, FAIL)])
def test_at_least_asks_the_whole_interval(low: float, high: float, expected: Verdict) -> None:
    assert tolerances.weigh("at_least", number(0.5, low, high, "share"), {"limit": 0.5}) is expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.3, 0.7, PASS), (0.1, 0.7, DOUBT), (0.8, 0.9, FAIL), (0.0, 0.1, FAIL)]
)
def test_between_and_within_agree(low: float, high: float, expected: Verdict) -> None:
    reading = number((low + high) / 2, low, high, "share")
    assert tolerances.weigh("between", reading, {"low": 0.25, "high": 0.75}) is expected
    assert tolerances.weigh("within", reading, {"target": 0.5, "margin": 0.25}) is expected


def test_a_number_without_an_interval_is_one_point() -> None:
    assert tolerances.weigh("at_most", {"value": 3}, {"limit": 3}) is PASS
    assert tolerances.weigh("at_most", {"value": 4}, {"limit": 3}) is FAIL


def test_nothing_measured_yet_is_doubt() -> None:
    assert tolerances.weigh("at_most", number(None, None, None, "s"), {"limit": 1.0}) is DOUBT


@pytest.mark.parametrize(
    ("found", "undecided", "nobody", "only"),
    [
        ([], [], PASS, PASS),
        (["a"], [], FAIL, PASS),
        ([], ["b"], DOUBT, DOUBT),
        (["a"], ["b"], FAIL, DOUBT),
        (["b"], [], FAIL, FAIL),
    ],
)
def test_lists_of_names(found: list[str], undecided: list[str], nobody: Verdict, only: Verdict) -> None:
    assert tolerances.weigh("nobody", names(found, undecided), {}) is nobody
    assert tolerances.weigh("only", names(found, undecided), {"names": ["a"]}) is only


@pytest.mark.parametrize(
    ("verdict", "expected", "weighed"),
    [
        (PASS, "pass", PASS),
        (FAIL, "pass", FAIL),
        (DOUBT, "pass", DOUBT),
        (FAIL, "fail", PASS),
        (DOUBT, "inconclusive", PASS),
    ],
)
def test_verdicts_compare_three_valued(verdict: Verdict, expected: str, weighed: Verdict) -> None:
    assert tolerances.weigh("verdict_is", opinion("x", verdict, ""), {"expected": expected}) is weighed


def test_doubt_is_refused_unless_it_may_wait() -> None:
    doubtful = number(0.02, 0.0, 0.5, "share")
    assert not tolerances.at_most(doubtful, 0.1)
    assert tolerances.at_most(doubtful, 0.1, "wait")
    assert not tolerances.at_most(number(0.3, 0.2, 0.5, "share"), 0.1, "wait")


@pytest.mark.parametrize(
    ("tolerance", "value"),
    [("at_most", 3), ("nobody", {"value": 0.5}), ("at_most", {"value": ["a"]}), ("nobody", None)],
)
def test_what_is_no_fit_reading_is_refused(tolerance: str, value: object) -> None:
    with pytest.raises(Misuse, match=r"no reading|no list|no number"):
        tolerances.weigh(tolerance, value, {})


def test_an_unknown_doubt_is_refused() -> None:
    with pytest.raises(Misuse, match="refuse or wait"):
        tolerances.nobody(names([]), "maybe")
