"""Counts of a flow's requests in windows, as they stood at one instant. Pure arithmetic on samples; `judging` decides.

A request without an answer yet is *pending*. It cannot be left out, for harm that makes requests hang would then hide
itself: one that has waited longer than tau is slow, and one that has waited longer than any request of the baseline
counts as failed for the upper bound (never for the lower).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chaos.history.model import Cause, Flag, Outcome, Samples
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict.inflation import inflation
from chaos.verdict.model import NANO, EffectKind, HistoryView, Thresholds
from chaos.verdict.proportions import Count
from chaos.verdict.quantiles import tau

_NEVER = np.iinfo(np.int64).max
_WAITED = (Cause.TIMEOUT, Cause.CONNECT_TIMEOUT, Cause.SHED, Cause.DNS)
_GATEWAY_TIMEOUT = 504


@dataclass(frozen=True, slots=True)
class Pair:
    """A stretch with the fault and the one that it is compared with, each of one or more windows."""

    before: tuple[Window, ...]
    after: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one effect in one pair of windows, as they are (not divided by inflation)."""

    n0: int
    hits0: int
    n1: int
    hits1: int
    most_n1: int  # with pending requests taken at their worst
    most_hits1: int

    def before(self, inflation: float) -> Count:
        return Count(self.hits0 / inflation, self.n0 / inflation)

    def after(self, inflation: float) -> Count:
        return Count(self.hits1 / inflation, self.n1 / inflation)

    def after_at_worst(self, inflation: float) -> Count:
        return Count(self.most_hits1 / inflation, self.most_n1 / inflation)


def ran_out_of_time(samples: Samples) -> NDArray[np.bool_]:
    """Which requests failed by nothing but time: a machine that stands still does that to them as a proxy does that is
    paused.
    """
    found: NDArray[np.bool_] = (samples["outcome"] != Outcome.OK) & (
        np.isin(samples["cause"], _WAITED) | (samples["status"] == _GATEWAY_TIMEOUT)
    )
    return found


class Series:
    """The requests of one flow, and what its baseline makes of them. Not judged, only counted."""

    def __init__(self, view: HistoryView, flow: Flow, thresholds: Thresholds) -> None:
        samples = view.flows.get(flow)
        if samples is None:
            raise ValueError(f"{flow}: the history has no such flow")
        waiting = view.pending.get(flow, np.empty(0, np.int64))
        due = np.concatenate([samples["due"], waiting])
        order = np.argsort(due, kind="stable")
        self.flow = flow
        self.due: NDArray[np.int64] = due[order]
        self.done: NDArray[np.int64] = np.concatenate([samples["done"], np.full(len(waiting), _NEVER)])[order]
        padding = np.zeros(len(waiting), bool)
        self.errors = np.concatenate([samples["outcome"] != Outcome.OK, padding])[order]
        self.waited = np.concatenate([ran_out_of_time(samples), padding])[order]
        self.late = np.concatenate([(samples["flags"] & Flag.LATE) != 0, padding])[order]
        self._thresholds = thresholds
        self._baseline = view.windows_of(WindowKind.BASELINE)
        faults = view.windows_of(WindowKind.FAULT)
        self._quiet_end = min([w.begin for w in faults] + [view.evidence.injected or _NEVER])
        self._quiet_begin = min([w.begin for w in self._baseline], default=0) if view.since is None else view.since

    def within(self, windows: Sequence[Window]) -> NDArray[np.bool_]:
        """Which requests fell due in any of the windows."""
        inside = np.zeros(len(self.due), bool)
        for window in windows:
            first, last = np.searchsorted(self.due, [window.begin, window.end])
            inside[first:last] = True
        return inside

    @cached_property
    def latency(self) -> NDArray[np.float64]:
        """Seconds since due; infinite while pending."""
        waited: NDArray[np.float64] = np.where(self.done == _NEVER, np.inf, (self.done - self.due) / NANO)
        return waited

    @cached_property
    def baseline_latency(self) -> NDArray[np.float64]:
        """Of requests that were answered and not late, in order of time."""
        chosen: NDArray[np.float64] = self.latency[self.within(self._baseline) & ~self.errors & ~self.late]
        return chosen[np.isfinite(chosen)]

    @cached_property
    def tau(self) -> float:
        """Seconds; NaN when the baseline has no answered request."""
        return tau(self.baseline_latency, self._thresholds) if len(self.baseline_latency) else float("nan")

    @cached_property
    def _patience(self) -> float:
        return max(self.tau, float(self.baseline_latency.max(initial=0.0)))

    @cached_property
    def slow(self) -> NDArray[np.bool_]:
        verdict: NDArray[np.bool_] = self.latency > self.tau
        return verdict

    def hits(self, kind: EffectKind) -> NDArray[np.bool_]:
        return self.errors if kind is EffectKind.ERRORS else self.slow

    def _waited(self, cut: int) -> NDArray[np.float64]:
        waited: NDArray[np.float64] = (cut - self.due) / NANO
        return waited

    def tally(self, kind: EffectKind, pair: Pair, cut: int, *, timeouts: bool = True) -> Tally:
        """Counts as they stood at `cut`. Late samples are left out of slowness: their latency is the loader's own.

        `timeouts`: whether a request that ran out of time, or has not been answered yet, counts as harm.
        """
        before, after = self.within(pair.before), self.within(pair.after)
        known = self.done <= cut
        if kind is EffectKind.ERRORS:
            hanging = after & ~known & (self._waited(cut) > self._patience)
            more = int(np.count_nonzero(hanging))
            errors = self.errors if timeouts else self.errors & ~self.waited
            n1 = int(np.count_nonzero(after & known))
            hits1 = int(np.count_nonzero(after & known & errors))
            n0, hits0 = int(np.count_nonzero(before & known)), int(np.count_nonzero(before & known & errors))
            return Tally(n0, hits0, n1, hits1, n1 + more, hits1 + more)
        fit = ~self.late & (known | (self._waited(cut) > self.tau))
        slow = self.slow & fit if timeouts else self.slow & fit & known & ~self.waited
        n0, hits0 = int(np.count_nonzero(before & fit)), int(np.count_nonzero(before & slow))
        n1, hits1 = int(np.count_nonzero(after & fit)), int(np.count_nonzero(after & slow))
        return Tally(n0, hits0, n1, hits1, n1, hits1)

    def affected(self, pair: Pair, cut: int) -> Tally:
        """Requests that failed, or were slow: counted once."""
        before, after = self.within(pair.before), self.within(pair.after)
        known = self.done <= cut
        fit = known | (self._waited(cut) > self.tau)
        hit = fit & ((self.errors & known) | (self.slow & ~self.late))
        n0, hits0 = int(np.count_nonzero(before & fit)), int(np.count_nonzero(before & hit))
        n1, hits1 = int(np.count_nonzero(after & fit)), int(np.count_nonzero(after & hit))
        return Tally(n0, hits0, n1, hits1, n1, hits1)

    def inflation(self, kind: EffectKind, pairs: Sequence[Pair], cut: int) -> float:
        """The larger of that of all load before the fault and that within the windows judged, about their own means.

        The second part is there because a burst that shows only in the fault window is invisible to the first, and
        would otherwise be counted as so many independent witnesses.
        """
        least, scales = self._thresholds.inflation, self._thresholds.scales
        group = np.full(len(self.due), -1, np.int64)
        for index, pair in enumerate(pairs):
            group[self.within(pair.after)] = index
        fit = (group >= 0) & (self.done <= cut)
        if kind is EffectKind.SLOW:
            fit &= ~self.late
        hits = self.hits(kind)
        there = inflation(self.due[fit], hits[fit], scales=scales, group=group[fit])
        return max(least, self._quiet_inflation(kind), there)

    @cached_property
    def quiet(self) -> NDArray[np.bool_]:
        """Requests that fell due under steady load before the fault."""
        return self.within([Window(WindowKind.BASELINE, self._quiet_begin, self._quiet_end)])

    def _quiet_inflation(self, kind: EffectKind) -> float:
        return self._quiet_errors if kind is EffectKind.ERRORS else self._quiet_slow

    def _quiet(self, kind: EffectKind) -> float:
        fit = self.quiet & ~self.late if kind is EffectKind.SLOW else self.quiet
        return inflation(self.due[fit], self.hits(kind)[fit], scales=self._thresholds.scales)

    @cached_property
    def _quiet_errors(self) -> float:
        return self._quiet(EffectKind.ERRORS)

    @cached_property
    def _quiet_slow(self) -> float:
        return self._quiet(EffectKind.SLOW)

    def late_share(self, windows: Sequence[Window]) -> float:
        inside = self.within(windows)
        return float(np.count_nonzero(self.late & inside)) / max(1, int(np.count_nonzero(inside)))


@dataclass(frozen=True, slots=True)
class Look:
    """One of the moments at which the judge may decide."""

    index: int
    cut: int  # ns: the instant
    parts: int  # for the hurt test, alpha is split evenly into so many
    spent: float  # for the not-hurt test, the share of alpha that is spent at this look
    acute: tuple[Pair, ...]  # what the hurt test compares
    whole: tuple[Pair, ...]  # what the not-hurt test compares
    pulse_over: bool = True  # a pulse: its window has closed

    @property
    def seconds(self) -> float:
        return sum(w.end - w.begin for pair in self.whole for w in pair.after) / NANO


def plan_looks(view: HistoryView, fault_shape: FaultShape, thresholds: Thresholds, *, last: int | None) -> list[Look]:
    """The looks that the view has data for, in order, up to index `last`."""
    gradual = fault_shape is FaultShape.GRADUAL
    looks = _plan_switchback(view, thresholds) if gradual else _plan_timed(view, fault_shape, thresholds)
    return looks if last is None else [look for look in looks if look.index <= last]


def _plan_timed(view: HistoryView, fault_shape: FaultShape, thresholds: Thresholds) -> list[Look]:
    faults = view.windows_of(WindowKind.FAULT)
    baseline = view.windows_of(WindowKind.BASELINE)
    if not faults or not baseline:
        return []
    begin = faults[0].begin
    start = begin if view.evidence.injected is None else min(begin, view.evidence.injected)
    closed = faults[-1].end
    looks: list[Look] = []
    for index, seconds in enumerate(thresholds.looks):
        due_at = begin + round(seconds * NANO)
        if fault_shape is FaultShape.PULSE:
            cut, whole_end = due_at, due_at
        else:
            cut, whole_end = min(due_at, closed), min(due_at, closed)
        if cut > view.until:
            break
        acute = tuple(Window(w.kind, w.begin, min(w.end, cut)) for w in faults if w.begin < cut)
        whole = acute if fault_shape is FaultShape.HELD else (Window(WindowKind.FAULT, start, whole_end),)
        over = view.evidence.restored is not None or closed < view.until
        looks.append(
            Look(
                index,
                cut,
                len(thresholds.looks),
                thresholds.spending[index],
                (Pair(baseline, acute),),
                (Pair(baseline, whole),),
                over and closed <= cut,
            )
        )
        if fault_shape is FaultShape.HELD and closed <= due_at:
            break
    return looks


def _plan_switchback(view: HistoryView, thresholds: Thresholds) -> list[Look]:
    """Pairs of an on window and the off time around it; an off window between two is split, half to each.

    Halves keep the pairs independent, and comparing with both sides takes out what drifts steadily. The last pair has
    the same rule, whether or not another follows, so that a finished trial is counted as it was while it ran.
    """
    faults = view.windows_of(WindowKind.FAULT)
    off = sorted((w for w in view.windows if w.kind is not WindowKind.FAULT), key=lambda w: w.begin)
    settle = round(thresholds.settle * NANO)
    pairs: list[Pair] = []
    cuts: list[int] = []
    for number, fault in enumerate(faults):
        earlier = [w for w in off if w.end <= fault.begin + settle]
        later = [w for w in off if w.begin >= fault.end - settle and w.end <= view.until]
        if not earlier or not later:
            break
        before = _trim(earlier[-1], settle, half=None if number == 0 else 1)
        after = _trim(later[0], settle, half=0)
        on = Window(fault.kind, fault.begin + settle, fault.end)
        if on.end > on.begin:
            pairs.append(Pair((before, after), (on,)))
            cuts.append(later[0].end)
    parts = len(thresholds.pairs)
    return [
        Look(index, cuts[count - 1], parts, 1 / parts, tuple(pairs[:count]), tuple(pairs[:count]))
        for index, count in enumerate(thresholds.pairs)
        if count <= len(pairs)
    ]


def _trim(window: Window, settle: int, *, half: int | None) -> Window:
    begin = min(window.begin + settle, window.end)
    middle = (begin + window.end) // 2
    if half is None:
        return Window(window.kind, begin, window.end)
    return Window(window.kind, begin, middle) if half == 0 else Window(window.kind, middle, window.end)
