"""Outage, recovery and its shape, and requests lost: read from one flow's requests. Reported, not judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, stdev
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from chaos.verdict.model import NANO, Measure
from chaos.verdict.proportions import Count, clopper_pearson
from chaos.verdict.tally import Series

CURVE: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # edges of the recovery curve, s
QUIET: Final = 1.0  # recovered: from here on, for so many seconds, no more is affected than the baseline explains


def _affected(series: Series) -> NDArray[np.bool_]:
    event: NDArray[np.bool_] = series.errors | (series.slow & ~series.late)
    return event


def recovery_curve(series: Series, origin: int, until: int) -> tuple[tuple[float, float], ...]:
    """Return (seconds after the fault's end, share of requests affected from there to the next edge)."""
    event = _affected(series)
    curve: list[tuple[float, float]] = []
    for begin, end in pairwise(CURVE):
        edges = [origin + round(begin * NANO), min(until, origin + round(end * NANO))]
        first, last = np.searchsorted(series.due, edges)
        if last <= first:
            break
        curve.append((begin, float(np.mean(event[first:last]))))
    return tuple(curve)


def recovered_after(series: Series, origin: int, until: int) -> Measure | None:
    """Return the seconds from the fault's end to the last affected request before a quiet second; None when no quiet
    second came.

    A second is quiet when no more of its requests were affected than 99.9 % of such seconds of the usual load would
    have. The interval says between which two requests recovery lies.
    """
    event = _affected(series)
    usual = float(np.mean(event[series.quiet])) if series.quiet.any() else 1.0
    first = int(np.searchsorted(series.due, origin))
    affected = np.flatnonzero(event[first:]) + first
    total = np.concatenate([[0], np.cumsum(event)])
    last_event = first - 1
    for start in [first - 1, *affected.tolist()]:
        begin = start + 1
        if begin >= len(series.due):
            return None
        since = int(series.due[begin])
        if since + QUIET * NANO > until:
            return None
        end = int(np.searchsorted(series.due, since + round(QUIET * NANO)))
        n = end - begin
        allowed = n * usual + 3.1 * np.sqrt(max(n * usual * (1 - usual), 0.0))
        if n and total[end] - total[begin] <= allowed:
            last_event = start
            break
    else:
        return None
    if last_event < first:
        return Measure(0.0, 0.0, max(0.0, (int(series.due[first]) - origin) / NANO), "s")
    low = (int(series.due[last_event]) - origin) / NANO
    high = (int(series.due[min(last_event + 1, len(series.due) - 1)]) - origin) / NANO
    return Measure(low, low, high, "s")


def over_repeats(each: Sequence[Measure], name: str) -> Measure:
    """One measure of several repeats: their mean, with Student's interval (95 %) of their spread. Of one repeat its
    own limits, which say nothing of the next.

    Args:
        each: at least one, of one unit.
        name: what one repeat is called.
    """
    values = tuple(one.value for one in each)
    if len(each) == 1:
        return replace(each[0], values=values, each=name)
    middle = fmean(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return Measure(middle, max(0.0, middle - half), middle + half, each[0].unit, values, name)


def requests_lost(series: Series, begin: int, origin: int, back: Measure | None, until: int) -> Measure | None:
    """Count failed or unknown requests from the fault's begin until recovery, beyond what the load before it would have
    lost.

    The interval is the baseline's alone (95 %): the lost requests themselves were counted, not sampled. Never below 0.
    """
    end = min(until, origin + round((back.high if back is not None else QUIET) * NANO))
    first, last = np.searchsorted(series.due, [begin, end])
    n, seen = int(last - first), int(np.count_nonzero(series.errors[first:last]))
    quiet = series.quiet
    base = Count(float(np.count_nonzero(series.errors[quiet])), float(np.count_nonzero(quiet)))
    if not n or not base.n:
        return None
    low, high = clopper_pearson(base, 0.025)
    return Measure(max(0.0, seen - n * base.share), max(0.0, seen - n * high), max(0.0, seen - n * low), "requests")


def outage(series: Series, begins: Sequence[int], until: int) -> Measure | None:
    """Return the seconds from the first lost request after a fault's begin to the first good one after the last lost
    one.

    A flow of which only a part passes the target is out until that part is served again. The last lost request is the
    one before a quiet second, as in `recovered_after`.

    Args:
        begins: instants at which faults began, ns: each is an outage of its own, and lasts at most until the next.

    Of one outage the interval says between which requests it lies; of several, value is the median, and the interval
    the shortest and the longest. None when none was lost, or the flow was not seen to answer again.
    """
    found: list[Measure] = []
    edges = sorted(begins)
    for begin, end in pairwise([*edges, until]):
        first, last = np.searchsorted(series.due, [begin, end])
        lost = np.flatnonzero(series.errors[first:last]) + first
        if not len(lost):
            continue
        gaps = np.flatnonzero(np.diff(series.due[lost]) > QUIET * NANO)
        final = int(lost[gaps[0]] if len(gaps) else lost[-1])
        if final + 1 >= len(series.due) or int(series.due[final]) + QUIET * NANO > until:
            return None
        begun, over = int(series.due[lost[0]]), int(series.due[final + 1])
        before = int(series.due[max(0, lost[0] - 1)])
        low, value, high = (int(series.due[final]) - begun), over - begun, over - before
        found.append(Measure(value / NANO, low / NANO, high / NANO, "s"))
    if len(found) <= 1:
        return found[0] if found else None
    values = sorted(one.value for one in found)
    return Measure(float(np.median(values)), values[0], values[-1], "s")
