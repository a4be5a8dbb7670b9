"""Intervals of proportions and of their differences. Scalars in, scalars out; no numpy, no randomness.

One-sided throughout: `alpha` is the chance that one bound is wrong; both bounds together err with 2 alpha.
Counts may be fractional: an effective count is a count divided by its inflation.

`difference` joins the limits of two single proportions by squares and sums (MOVER: Zou and Donner, Stat. Med. 27, 2008,
1693-1702). With Wilson's limits that is Newcombe's hybrid score interval (Stat. Med. 17, 1998, 873-890, method 10);
with Clopper and Pearson's it keeps its level in the far tail, where ours is, and where score limits do not: with alpha
1e-4, n 1000 and one event, Wilson's lower limit claims 6.7e-5, under which that event has a chance of 7 %, not 0.01 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist
from typing import Final

_NORMAL: Final = NormalDist()
_TINY: Final = 1e-300


class Limits(StrEnum):
    """Which limits of a single proportion the interval of a difference is made of."""

    EXACT = "exact"  # Clopper and Pearson
    SCORE = "score"  # Wilson: the difference is Newcombe's hybrid score interval


@dataclass(frozen=True, slots=True)
class Count:
    """`hits` of `n` requests, both effective."""

    hits: float
    n: float

    @property
    def share(self) -> float:
        return self.hits / self.n if self.n else 0.0


def wilson(count: Count, alpha: float) -> tuple[float, float]:
    """Wilson's score limits (1927), without continuity correction."""
    if count.n <= 0:
        return 0.0, 1.0
    z = -_NORMAL.inv_cdf(alpha)
    p, n = count.share, count.n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if count.hits <= 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if count.hits >= n else min(1.0, (centre + half) / scale)
    return low, high


@lru_cache(maxsize=65536)
def clopper_pearson(count: Count, alpha: float) -> tuple[float, float]:
    """Exact limits (Clopper and Pearson, 1934), by quantiles of the beta distribution."""
    x, n = count.hits, count.n
    if n <= 0:
        return 0.0, 1.0
    low = 0.0 if x <= 0 else beta_quantile(alpha, x, n - x + 1)
    high = 1.0 if x >= n else 1.0 - beta_quantile(alpha, n - x, x + 1)
    return low, high


def limits(count: Count, alpha: float, kind: Limits = Limits.EXACT) -> tuple[float, float]:
    return clopper_pearson(count, alpha) if kind is Limits.EXACT else wilson(count, alpha)


def difference(before: Count, after: Count, alpha: float, kind: Limits = Limits.EXACT) -> tuple[float, float]:
    """Limits of (share after - share before)."""
    return stratified([(before, after)], alpha, kind)


def stratified(pairs: Sequence[tuple[Count, Count]], alpha: float, kind: Limits = Limits.EXACT) -> tuple[float, float]:
    """Limits of the mean difference over independent (before, after) pairs, weighted by the size of `after`.

    The stratified Newcombe interval (Yan and Su, Stat. Biopharm. Res. 2, 2010, 329-335) when `kind` is score.
    """
    total = sum(after.n for _, after in pairs)
    if total <= 0:
        return -1.0, 1.0
    change = down = up = 0.0
    for before, after in pairs:
        weight = after.n / total
        low0, high0 = limits(before, alpha, kind)
        low1, high1 = limits(after, alpha, kind)
        change += weight * (after.share - before.share)
        down += weight**2 * ((after.share - low1) ** 2 + (high0 - before.share) ** 2)
        up += weight**2 * ((high1 - after.share) ** 2 + (before.share - low0) ** 2)
    return max(-1.0, change - math.sqrt(down)), min(1.0, change + math.sqrt(up))


def least_sample(margin: float, alpha: float) -> int:
    """The fewest requests without a failure from which any test of level alpha can exclude a share of `margin`."""
    return math.ceil(math.log(alpha) / math.log1p(-margin))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = probability.

    Newton's method on log I as a function of logit x: that function is concave and rising (a beta variable's logit has
    a log-concave density), so from the left of the root the steps rise to it and cannot overshoot.
    """
    target = math.log(probability)
    t = math.log(a / b)
    for _ in range(200):
        x = _logistic(t)
        value = beta_cdf(x, a, b)
        if value <= _TINY:
            t += 1.0
            continue
        log_density = a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)  # of t: x (1 - x) times that of x
        step = (target - math.log(value)) / max(math.exp(log_density) / value, 1e-12)
        step = max(-8.0, min(8.0, step))
        t += step
        if abs(step) <= 1e-13 * max(1.0, abs(t)):
            break
    return _logistic(t)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 2000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _logistic(t: float) -> float:
    return 1 / (1 + math.exp(-t)) if t >= 0 else math.exp(t) / (1 + math.exp(t))
