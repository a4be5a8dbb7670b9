"""Fits of what proxies cost, with intervals by resampling: pure functions of readings, for `benchmarks/cost.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """`1.20 (1.10 to 1.31)`; without an interval where none was found."""
        if not np.isfinite(self.value):
            return "none"
        ends = (f"{end:,.{digits}f}" if np.isfinite(end) else "no end" for end in (self.low, self.high))
        return f"{self.value:,.{digits}f} ({' to '.join(ends)})"


def linear(rows: Array, answers: Array) -> Array:
    """Return the coefficients of least squares (Legendre 1805), none below 0: a cost is none."""
    active = list(range(rows.shape[1]))
    found = np.zeros(rows.shape[1])
    while active:
        solved, *_ = np.linalg.lstsq(rows[:, active], answers, rcond=None)
        if (solved >= 0).all():
            found[active] = solved
            return found
        active = [one for one, value in zip(active, solved, strict=True) if value > 0]
    return found


def resampled(size: int, seed: int = 1) -> list[NDArray[np.int64]]:
    """Return indexes of RESAMPLES samples with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, size, size) for _ in range(RESAMPLES)]


def estimate(value: float, samples: Sequence[float]) -> Estimate:
    """Return the value with the middle 95 % of what resampling gave; an end is infinite where too many gave none."""
    ends = np.quantile(np.asarray(samples, float), (0.025, 0.975), method="nearest")
    return Estimate(value, float(ends[0]), float(ends[1]))


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted cost: coefficients, and those of each resample."""

    best: Array
    samples: tuple[Array, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]], answers: Sequence[float]) -> Law:
        """Fit `answers` to a linear law in the columns of `rows`."""
        table, seen = np.asarray(rows, float), np.asarray(answers, float)
        return cls(linear(table, seen), tuple(linear(table[pick], seen[pick]) for pick in resampled(len(seen))))

    def figure(self, of: Callable[[Array], float]) -> Estimate:
        """Return a figure of the coefficients, with its interval."""
        return estimate(of(self.best), [of(one) for one in self.samples])
