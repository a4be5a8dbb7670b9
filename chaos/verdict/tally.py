"""Counts of a flow's requests in windows, as they stood at one instant. Pure arithmetic on samples; `judging` decides.

A request without an answer yet is *pending*. It cannot be left out, for harm that makes requests hang would then hide
itself: one that has waited longer than the threshold is slow, and one that has waited longer than any request of the
baseline counts as failed for the upper bound (never for the lower).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chaos.history.model import Cause, Flag, Outcome, Samples
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict.design_effect import design_effect
from chaos.verdict.looks import Contrast
from chaos.verdict.model import NANO, EffectKind, HistoryView, Thresholds
from chaos.verdict.proportions import Count
from chaos.verdict.quantiles import slow_threshold

_NEVER = np.iinfo(np.int64).max
_WAITED = (Cause.TIMEOUT, Cause.CONNECT_TIMEOUT, Cause.SHED, Cause.DNS)
_GATEWAY_TIMEOUT = 504


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one effect in one pair of windows, as they are (not divided by design effect)."""

    n0: int
    events0: int
    n1: int
    events1: int
    most_n1: int  # with pending requests taken at their worst
    most_events1: int

    def before(self, design_effect: float) -> Count:
        return Count(self.events0 / design_effect, self.n0 / design_effect)

    def after(self, design_effect: float) -> Count:
        return Count(self.events1 / design_effect, self.n1 / design_effect)

    def after_at_worst(self, design_effect: float) -> Count:
        return Count(self.most_events1 / design_effect, self.most_n1 / design_effect)


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
    def slow_threshold(self) -> float:
        """Seconds; NaN when the baseline has no answered request."""
        return slow_threshold(self.baseline_latency, self._thresholds) if len(self.baseline_latency) else float("nan")

    @cached_property
    def _patience(self) -> float:
        return max(self.slow_threshold, float(self.baseline_latency.max(initial=0.0)))

    @cached_property
    def slow(self) -> NDArray[np.bool_]:
        verdict: NDArray[np.bool_] = self.latency > self.slow_threshold
        return verdict

    def events(self, kind: EffectKind) -> NDArray[np.bool_]:
        return self.errors if kind is EffectKind.ERRORS else self.slow

    def _waited(self, cut: int) -> NDArray[np.float64]:
        waited: NDArray[np.float64] = (cut - self.due) / NANO
        return waited

    def tally(self, kind: EffectKind, pair: Contrast, cut: int, *, timeouts: bool = True) -> Tally:
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
            events1 = int(np.count_nonzero(after & known & errors))
            n0, events0 = int(np.count_nonzero(before & known)), int(np.count_nonzero(before & known & errors))
            return Tally(n0, events0, n1, events1, n1 + more, events1 + more)
        fit = ~self.late & (known | (self._waited(cut) > self.slow_threshold))
        slow = self.slow & fit if timeouts else self.slow & fit & known & ~self.waited
        n0, events0 = int(np.count_nonzero(before & fit)), int(np.count_nonzero(before & slow))
        n1, events1 = int(np.count_nonzero(after & fit)), int(np.count_nonzero(after & slow))
        return Tally(n0, events0, n1, events1, n1, events1)

    def affected(self, pair: Contrast, cut: int) -> Tally:
        """Requests that failed, or were slow: counted once."""
        before, after = self.within(pair.before), self.within(pair.after)
        known = self.done <= cut
        fit = known | (self._waited(cut) > self.slow_threshold)
        event = fit & ((self.errors & known) | (self.slow & ~self.late))
        n0, events0 = int(np.count_nonzero(before & fit)), int(np.count_nonzero(before & event))
        n1, events1 = int(np.count_nonzero(after & fit)), int(np.count_nonzero(after & event))
        return Tally(n0, events0, n1, events1, n1, events1)

    def design_effect(self, kind: EffectKind, pairs: Sequence[Contrast], cut: int) -> float:
        """The larger of that of all load before the fault and that within the windows judged, about their own means.

        The second part is there because a burst that shows only in the fault window is invisible to the first, and
        would otherwise be counted as so many independent witnesses.
        """
        scales = self._thresholds.scales
        group = np.full(len(self.due), -1, np.int64)
        for index, pair in enumerate(pairs):
            group[self.within(pair.after)] = index
        fit = (group >= 0) & (self.done <= cut)
        if kind is EffectKind.SLOW:
            fit &= ~self.late
        events = self.events(kind)
        there = design_effect(self.due[fit], events[fit], scales=scales, group=group[fit])
        return max(self.quiet_design_effect(kind), there)

    def quiet_design_effect(self, kind: EffectKind) -> float:
        """That of all steady load before the fault: what deflates the baseline, and nothing that came later does."""
        return max(self._thresholds.design_effect, self._quiet_design_effect(kind))

    @cached_property
    def quiet(self) -> NDArray[np.bool_]:
        """Requests that fell due under steady load before the fault."""
        return self.within([Window(WindowKind.BASELINE, self._quiet_begin, self._quiet_end)])

    def _quiet_design_effect(self, kind: EffectKind) -> float:
        return self._quiet_errors if kind is EffectKind.ERRORS else self._quiet_slow

    def _quiet(self, kind: EffectKind) -> float:
        fit = self.quiet & ~self.late if kind is EffectKind.SLOW else self.quiet
        return design_effect(self.due[fit], self.events(kind)[fit], scales=self._thresholds.scales)

    @cached_property
    def _quiet_errors(self) -> float:
        return self._quiet(EffectKind.ERRORS)

    @cached_property
    def _quiet_slow(self) -> float:
        return self._quiet(EffectKind.SLOW)

    def late_share(self, windows: Sequence[Window]) -> float:
        inside = self.within(windows)
        return float(np.count_nonzero(self.late & inside)) / max(1, int(np.count_nonzero(inside)))
