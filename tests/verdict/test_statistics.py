"""Each statistical routine against a published value or a reference implementation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from chaos.verdict.design_effect import design_effect
from chaos.verdict.model import Thresholds
from chaos.verdict.proportions import Count, Limits, clopper_pearson, rise_at_most, stratified, wilson
from chaos.verdict.quantiles import shifts, slow_threshold, stationary_indices

HALF_95 = 0.025


def difference(before: Count, after: Count, alpha: float, kind: Limits = Limits.EXACT) -> tuple[float, float]:
    return stratified([(before, after)], alpha, kind)


# Newcombe 1998, table II: contrasts (a) to (h), 95 % limits of method 10 (hybrid score, no continuity correction).
NEWCOMBE = [
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (6, 7, 2, 7, 0.0582, 0.8062),
    (5, 56, 0, 29, -0.0381, 0.1926),
    (0, 10, 0, 20, -0.1611, 0.2775),
    (0, 10, 0, 10, -0.2775, 0.2775),
    (10, 10, 0, 20, 0.6791, 1.0000),
    (10, 10, 0, 10, 0.6075, 1.0000),
]


@pytest.mark.parametrize(("a", "m", "b", "n", "low", "high"), NEWCOMBE)
def test_score_difference_is_newcombes_table(a: int, m: int, b: int, n: int, low: float, high: float) -> None:
    assert difference(Count(b, n), Count(a, m), HALF_95, Limits.SCORE) == pytest.approx((low, high), abs=6e-5)


# Newcombe 1998 (Stat. Med. 17, 857), table I: 95 % limits for 81/263, 15/148, 0/20, 1/29.
@pytest.mark.parametrize(
    ("x", "n", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_single_proportions_are_newcombes_table(
    x: int, n: int, score: tuple[float, float], exact: tuple[float, float]
) -> None:
    assert wilson(Count(x, n), HALF_95) == pytest.approx(score, abs=6e-5)
    assert clopper_pearson(Count(x, n), HALF_95) == pytest.approx(exact, abs=6e-5)


@settings(max_examples=200, deadline=None)
@given(st.floats(2, 1e5), st.floats(0, 1), st.floats(1e-7, 0.2))
def test_exact_limits_are_scipys_for_fractional_counts_far_into_the_tail(n: float, share: float, alpha: float) -> None:
    x = n * share
    low, high = clopper_pearson(Count(x, n), alpha)
    if x > 1e-6:
        assert low == pytest.approx(stats.beta.ppf(alpha, x, n - x + 1), rel=1e-6, abs=1e-300)
    if n - x > 1e-6:
        assert high == pytest.approx(stats.beta.isf(alpha, x + 1, n - x), rel=1e-6)


def test_no_failure_at_all_is_not_certainty() -> None:
    low, high = difference(Count(0, 500), Count(0, 500), 0.001)
    assert low < -0.01
    assert high > 0.01


def test_wilson_in_the_tail_claims_too_much_and_the_exact_limit_does_not() -> None:
    alpha, one_of = 1e-4, Count(1, 1000)
    chance = {kind: 1 - (1 - kind(one_of, alpha)[0]) ** 1000 for kind in (wilson, clopper_pearson)}
    assert chance[wilson] > 100 * alpha
    assert chance[clopper_pearson] == pytest.approx(alpha, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.integers(5, 500), st.integers(5, 500), st.data(), st.sampled_from(list(Limits)))
def test_an_interval_holds_its_difference_and_widens_with_confidence(
    n0: int, n1: int, data: st.DataObject, kind: Limits
) -> None:
    before, after = Count(data.draw(st.integers(0, n0)), n0), Count(data.draw(st.integers(0, n1)), n1)
    low, high = difference(before, after, 0.01, kind)
    wider = difference(before, after, 0.001, kind)
    assert wider[0] <= low <= after.share - before.share <= high <= wider[1]
    swapped = difference(after, before, 0.01, kind)
    assert (-swapped[1], -swapped[0]) == pytest.approx((low, high))


def test_one_stratum_is_the_plain_difference_and_many_are_narrower() -> None:
    before, after = Count(5, 200), Count(30, 200)
    one, four = stratified([(before, after)], 0.01), stratified([(before, after)] * 4, 0.01)
    assert one == difference(before, after, 0.01)
    assert one[0] < four[0] < 0.125 < four[1] < one[1]


def test_exact_differences_err_less_than_their_alpha() -> None:
    rng, alpha, wrong, trials = np.random.default_rng(7), 0.01, 0, 4000
    for p0, p1 in [(0.0, 0.02), (0.01, 0.03), (0.05, 0.2)]:
        x0, x1 = rng.binomial(600, p0, trials), rng.binomial(500, p1, trials)
        wrong = 0
        for a, b in zip(x0, x1, strict=True):
            low, high = difference(Count(int(a), 600), Count(int(b), 500), alpha)
            wrong += (high < p1 - p0) + (low > p1 - p0)
        assert wrong / trials < 2 * alpha * 1.25


def level_of(limit: Callable[[Count, Count], float], n0: int, n1: int, p0: float, margin: float) -> float:
    """The chance, over all outcomes, that a limit lies below a rise of the margin when that is the truth."""
    before, after, level = stats.binom(n0, p0), stats.binom(n1, p0 + margin), 0.0
    for x0 in range(int(max(0, before.ppf(1e-9))), int(before.ppf(1 - 1e-9)) + 1):
        events = 0
        while events <= n1 and limit(Count(x0, n0), Count(events, n1)) < margin:
            events += 1
        level += float(before.pmf(x0) * after.cdf(events - 1))
    return level


@pytest.mark.parametrize("alpha", [0.0004, 0.05])
@pytest.mark.parametrize("p0", [0.0, 0.002, 0.05])
@pytest.mark.parametrize(("n0", "n1"), [(600, 400), (600, 3000)])
def test_the_upper_limit_of_a_rise_keeps_its_level(n0: int, n1: int, p0: float, alpha: float) -> None:
    assert level_of(lambda a, b: rise_at_most([(a, b)], alpha), n0, n1, p0, 0.02) <= alpha


# Design effect


def _due(n: int, rate: float = 200.0) -> np.ndarray:
    return (np.arange(n) / rate * 1e9).astype(np.int64)


def test_independent_requests_have_a_design_effect_near_one() -> None:
    rng = np.random.default_rng(1)
    seen = [design_effect(_due(12_000), rng.random(12_000) < 0.05, scales=(0.05, 0.25, 1.0)) for _ in range(40)]
    assert 0.95 < float(np.mean(seen)) < 1.3


def test_the_design_effect_of_one_scale_is_pearsons_statistic_over_its_freedom() -> None:
    rng = np.random.default_rng(2)
    events = rng.random(2000) < 0.1
    counts = events.reshape(10, 200).sum(axis=1)
    table = np.array([counts, 200 - counts])
    expected = stats.chi2_contingency(table).statistic / 9
    assert design_effect(_due(2000), events, scales=(1.0,)) == pytest.approx(max(1.0, expected))


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-6, 0.004, 0.0051])
def test_batches_of_one_request_each_cost_no_more_than_requests(scale: float) -> None:
    events = np.random.default_rng(5).random(20_000) < 0.05  # over 100 s: 1e17 batches of the shortest length
    assert design_effect(_due(20_000), events, scales=(scale,)) == pytest.approx(1.0, abs=0.03)


def test_requests_that_fail_by_tens_have_a_design_effect_of_ten() -> None:
    rng = np.random.default_rng(3)
    events = np.repeat(rng.random(2400) < 0.05, 10)
    assert 8 < design_effect(_due(24_000), events, scales=(0.05, 0.25, 1.0)) < 14


def test_harm_that_fills_its_window_is_not_taken_for_noise() -> None:
    due = _due(2000)
    events, group = np.zeros(2000, bool), np.zeros(2000, np.int64)
    events[1000:] = np.random.default_rng(4).random(1000) < 0.5
    group[1000:] = 1
    assert design_effect(due, events, scales=(0.05, 0.25, 1.0), group=group) < 3
    assert design_effect(due, events, scales=(0.05, 0.25, 1.0)) > 20


# Quantiles


def test_tau_is_the_largest_of_its_three() -> None:
    thresholds = Thresholds()
    flat = np.full(100, 0.0001)
    assert slow_threshold(flat, thresholds) == pytest.approx(0.0051)
    assert slow_threshold(np.full(100, 0.1), thresholds) == pytest.approx(0.15)
    wide = np.linspace(0.01, 0.2, 1001)
    assert slow_threshold(wide, thresholds) == pytest.approx(np.quantile(wide, 0.95))


def test_a_resample_is_made_of_blocks_of_the_mean_length() -> None:
    rng = np.random.default_rng(5)
    indices = stationary_indices(10_000, 20.0, rng)
    breaks = np.count_nonzero((np.diff(indices) % 10_000) != 1)
    assert 0.85 < breaks / (10_000 / 20) < 1.15
    assert set(np.unique(indices)) <= set(range(10_000))


def test_bootstrap_of_the_median_has_the_textbook_width() -> None:
    rng = np.random.default_rng(6)
    before, after = rng.standard_normal(2000), rng.standard_normal(2000) + 0.5
    (shift,) = shifts(before, after, resamples=400, quantiles=(0.5,), block=1.0)
    deviation = math.sqrt(2 * math.pi / 2 / 2000)  # of a difference of two medians of normal samples
    assert shift.low < 0.5 < shift.high
    assert (shift.high - shift.low) / (2 * 1.96 * deviation) == pytest.approx(1.0, abs=0.2)


def test_the_same_samples_give_the_same_shift_to_the_last_digit() -> None:
    rng = np.random.default_rng(8)
    before, after = rng.random(500), rng.random(500)
    assert shifts(before, after, resamples=50) == shifts(before, after, resamples=50)
