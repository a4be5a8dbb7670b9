"""The design effect of correlated requests, from batch means: how much less a request tells than an independent
one.

Failures and slowness come in bursts. Requests are put into batches by the time they were due; the variance of the
batches' shares beside that of independent requests is the design effect (a design effect; Pearson's statistic over its
degrees of freedom: McCullagh and Nelder, Generalized Linear Models, 1989, part 4.5). n_eff = n / design effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_BATCHES: Final = 4  # fewer say nothing about a variance


def design_effect(
    due: NDArray[np.int64],
    events: NDArray[np.bool_],
    *,
    scales: Sequence[float],
    group: NDArray[np.int64] | None = None,
) -> float:
    """Return the largest design effect over the batch lengths, at least 1.

    Args:
        due: ns, in any order.
        events: whether the request failed (or was slow).
        scales: batch lengths in seconds.
        group: window that each request belongs to, 0, 1, ...: shares are compared with their own window's, so that
            the harm of a fault is not taken for noise. By default all are of one window.
    """
    if len(due) < LEAST_BATCHES or not events.any() or events.all():
        return 1.0
    windows = np.zeros(len(due), np.int64) if group is None else group
    return max([1.0] + [_dispersion(due, events, windows, round(scale * 1e9)) for scale in scales])


def _dispersion(due: NDArray[np.int64], events: NDArray[np.bool_], group: NDArray[np.int64], length: int) -> float:
    slot = (due - due.min()) // length
    key = group * (int(slot.max()) + 1) + slot
    rises = np.diff(key)
    if (rises >= 0).all():  # in order of time, as a rule: no need to sort
        batch = np.concatenate([[0], np.cumsum(rises > 0)])
    else:
        batch = np.unique(key, return_inverse=True)[1]
    sizes = np.bincount(batch).astype(float)
    sums = np.bincount(batch, weights=events)
    window_size = np.bincount(group).astype(float)
    shares = np.bincount(group, weights=events) / np.maximum(window_size, 1.0)
    of_batch = np.zeros(len(sizes), np.int64)
    of_batch[batch] = group
    freedom = len(sizes) - np.count_nonzero(window_size)
    if len(sizes) < LEAST_BATCHES or freedom < 1:
        return 1.0
    share = shares[of_batch]
    independent = float(np.sum(sizes * share * (1 - share)))
    if independent <= 0:
        return 1.0
    seen = float(np.sum((sums - sizes * share) ** 2))
    return float(seen / independent * len(sizes) / freedom)
