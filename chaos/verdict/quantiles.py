"""Latency quantiles: the threshold of slowness, frozen from the baseline, and shifts, reported and not judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chaos.verdict.model import QuantileShift, Thresholds

MOST_RESAMPLED = 20_000  # samples of a window; a longer one is thinned evenly, for quantiles need no more


def slow_threshold(latency: NDArray[np.float64], thresholds: Thresholds) -> float:
    """Above it a request is slow (s): max(quantile, factor x median, median + extra) of the baseline's latencies."""
    median, high = np.quantile(latency, [0.5, thresholds.slow_quantile])
    return float(max(high, thresholds.slow_factor_of_median * median, median + thresholds.slow_extra))


def shifts(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    *,
    resamples: int,
    quantiles: Sequence[float] = (0.5, 0.9, 0.99),
    block: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[QuantileShift, ...]:
    """Quantile shifts with percentile intervals by the stationary bootstrap (Politis and Romano, JASA 89, 1994, 1303).
    `arch` has it too, and would bring pandas and statsmodels for these few lines.

    Args:
        before, after: latencies in seconds, in order of time.
        resamples: bootstrap resamples of each.
        block: mean block length; by default the cube root of the sample size, the order that minimises the error.
        seed: of the resampling; the same arguments give the same answer.
    """
    if len(before) < 2 or len(after) < 2 or resamples < 1:
        return ()
    before, after = _thinned(before), _thinned(after)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = [np.empty((resamples, len(quantiles))), np.empty((resamples, len(quantiles)))]
    for sample, out in zip((before, after), drawn, strict=True):
        mean_block = block or max(1.0, len(sample) ** (1 / 3))
        for row in range(resamples):
            out[row] = np.quantile(sample[stationary_indices(len(sample), mean_block, rng)], quantiles)
    low, high = np.quantile(drawn[1] - drawn[0], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    q0, q1 = np.quantile(before, quantiles), np.quantile(after, quantiles)
    return tuple(
        QuantileShift(q, float(q0[i]), float(q1[i]), float(low[i]), float(high[i])) for i, q in enumerate(quantiles)
    )


def stationary_indices(n: int, mean_block: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """One resample: blocks that begin anywhere, of geometric length, wrapped around the end."""
    starts = rng.random(n) < 1 / mean_block
    starts[0] = True
    begins = np.flatnonzero(starts)
    origin = rng.integers(0, n, len(begins))
    which = np.cumsum(starts) - 1
    offset = np.arange(n) - begins[which]
    indices: NDArray[np.int64] = (origin[which] + offset) % n
    return indices


def _thinned(latency: NDArray[np.float64]) -> NDArray[np.float64]:
    step = -(-len(latency) // MOST_RESAMPLED)
    return latency[::step]
