"""The design effect of correlated requests, from batch means: how much less a request tells than an independent
one.

Failures and slowness come in bursts. Requests are put into batches by the time they were due; the variance of the
batches' shares beside that of independent requests is the design effect (a design effect; Pearson's statistic over its
degrees of freedom: McCullagh and Nelder, Generalized Linear Models, 1989, part 4.5). n_eff = n / design effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

NANO: Final = 1_000_000_000
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
    if not _in_order(due, windows):
        order = np.lexsort((due, windows))
        due, events, windows = due[order], events[order], windows[order]
    ends = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(due)]
    before = np.concatenate([[0], np.cumsum(events)])  # events among so many requests
    lengths = [max(1, round(scale * NANO)) for scale in scales]
    batches = [_batches(due[a:b], before[a : b + 1], int(due.min()), lengths) for a, b in pairwise(ends)]
    return max([1.0] + [_dispersion(of_windows) for of_windows in zip(*batches, strict=True)])


def _in_order(due: NDArray[np.int64], group: NDArray[np.int64]) -> bool:
    later, other = np.diff(due), np.diff(group)
    return bool(((other > 0) | ((other == 0) & (later >= 0))).all())


@dataclass(frozen=True, slots=True)
class _Batches:
    """One window's requests in batches of one length, those without a request left out."""

    sizes: NDArray[np.int64]
    events: NDArray[np.int64]
    share: float  # of events in the window


def _batches(
    due: NDArray[np.int64], before: NDArray[np.int64], origin: int, lengths: Sequence[int]
) -> Iterator[_Batches]:
    """A window's batches of each length, counted from `origin`: cut where their edges fall among the requests, so that
    the cost is one of batches, and of all lengths at once, for most have few.
    """
    edges = [_edges(due, origin, length) for length in lengths]
    cuts = np.searchsorted(due, np.concatenate(edges))
    sizes, events = np.diff(cuts), np.diff(before[cuts])
    share, begin = (int(before[-1]) - int(before[0])) / len(due), 0
    for of_length in edges:
        chosen = slice(begin, begin + len(of_length) - 1)
        filled = sizes[chosen] > 0
        yield _Batches(sizes[chosen][filled], events[chosen][filled], share)
        begin += len(of_length)


def _edges(due: NDArray[np.int64], origin: int, length: int) -> NDArray[np.int64]:
    """The begins of a window's batches and its end. Batches that are shorter than requests are apart cost no more than
    requests: those without one are not made.
    """
    first, last = int(due[0]), int(due[-1])
    if (last - first) // length < len(due):
        inner = np.arange(first - (first - origin) % length + length, last + 1, length)
    else:
        inner = due[1:][np.diff((due - origin) // length) > 0]
    return np.concatenate([[first], inner, [last + 1]])


def _dispersion(windows: Sequence[_Batches]) -> float:
    """Pearson's statistic over its degrees of freedom; 1 where there are too few batches."""
    size = np.concatenate([one.sizes for one in windows])
    freedom = len(size) - len(windows)
    if len(size) < LEAST_BATCHES or freedom < 1:
        return 1.0
    share: float | NDArray[np.float64] = windows[0].share
    if len(windows) > 1:
        share = np.repeat([one.share for one in windows], [len(one.sizes) for one in windows])
    independent = float((size * share * (1 - share)).sum())
    if independent <= 0:
        return 1.0
    seen = np.concatenate([one.events for one in windows])
    return float(((seen - size * share) ** 2).sum()) / independent * len(size) / freedom
