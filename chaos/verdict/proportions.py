"""Intervals of proportions and of their differences. Scalars in, scalars out; no randomness.

One-sided throughout: `alpha` is the chance that one bound is wrong; both bounds together err with 2 alpha.
Counts may be fractional: an effective count is a count divided by its design effect.

`stratified` joins the limits of two single proportions by squares and sums (MOVER: Zou and Donner, Stat. Med. 27, 2008,
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

from scipy.special import betainccinv, betaincinv

_NORMAL: Final = NormalDist()


class Limits(StrEnum):
    """Which limits of a single proportion the interval of a difference is made of."""

    EXACT = "exact"  # Clopper and Pearson
    SCORE = "score"  # Wilson: the difference is Newcombe's hybrid score interval


@dataclass(frozen=True, slots=True)
class Count:
    """`events` of `n` requests, both effective."""

    events: float
    n: float

    @property
    def share(self) -> float:
        return self.events / self.n if self.n else 0.0


def wilson(count: Count, alpha: float) -> tuple[float, float]:
    """Wilson's score limits (1927), without continuity correction."""
    if count.n <= 0:
        return 0.0, 1.0
    z = -_NORMAL.inv_cdf(alpha)
    p, n = count.share, count.n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if count.events <= 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if count.events >= n else min(1.0, (centre + half) / scale)
    return low, high


@lru_cache(maxsize=65536)
def clopper_pearson(count: Count, alpha: float) -> tuple[float, float]:
    """Exact limits (Clopper and Pearson, 1934), by quantiles of the beta distribution."""
    x, n = count.events, count.n
    if n <= 0:
        return 0.0, 1.0
    low = 0.0 if x <= 0 else float(betaincinv(x, n - x + 1, alpha))
    high = 1.0 if x >= n else float(betainccinv(x + 1, n - x, alpha))
    return low, high


def limits(count: Count, alpha: float, kind: Limits = Limits.EXACT) -> tuple[float, float]:
    return clopper_pearson(count, alpha) if kind is Limits.EXACT else wilson(count, alpha)


def rise_at_most(pairs: Sequence[tuple[Count, Count]], alpha: float, kind: Limits = Limits.EXACT) -> float:
    """An upper limit of the mean rise over independent (before, after) pairs, weighted by the size of `after`.

    The upper limit of the share after, at nine tenths of alpha, less the lower limits of those before, at the rest: by
    Bonferroni it keeps its level whatever the shares are, where squares and sums of exact limits exceed theirs up to
    three times. Counts after are pooled, for a sum of trials of unequal chances has lighter tails than the binomial of
    their mean (Hoeffding, Ann. Math. Stat. 27, 1956, 713). An alpha of 0 gives 1.
    """
    n1 = sum(after.n for _, after in pairs)
    if n1 <= 0 or alpha <= 0:
        return 1.0
    after = Count(sum(after.events for _, after in pairs), n1)
    high = limits(after, 0.9 * alpha, kind)[1]
    low = sum(a.n / n1 * limits(before, 0.1 * alpha / len(pairs), kind)[0] for before, a in pairs)
    return min(1.0, high - low)


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
