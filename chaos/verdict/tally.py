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
Rows = slice | NDArray[np.int64]


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
    """One flow's requests, and what its baseline makes of them. Counted, not judged."""

    def __init__(self, view: HistoryView, flow: Flow, thresholds: Thresholds) -> None:
        samples = view.flows.get(flow)
        if samples is None:
            raise ValueError(f"{flow}: the history has no such flow")
        self.ended = len(samples)  # requests that have a sample
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
        self._rows: dict[tuple[Window, ...], Rows] = {}
        self._tallies: dict[tuple[EffectKind, Contrast, int, bool], Tally] = {}

    def rows(self, windows: Sequence[Window]) -> Rows:
        """Return the index of the requests due in any of the windows: a slice where they are contiguous."""
        key = tuple(windows)
        if key not in self._rows:
            self._rows[key] = self._find_rows(key)
        return self._rows[key]

    def _find_rows(self, windows: Sequence[Window]) -> Rows:
        pieces: list[tuple[int, int]] = []
        for window in sorted(windows, key=lambda one: one.begin):
            first, last = map(int, np.searchsorted(self.due, [window.begin, window.end]))
            if pieces and first <= pieces[-1][1]:
                first, last = pieces[-1][0], max(last, pieces.pop()[1])
            pieces.append((first, last))
        if len(pieces) <= 1:
            return slice(*pieces[0]) if pieces else slice(0, 0)
        return np.concatenate([np.arange(first, last) for first, last in pieces])

    def count(self, windows: Sequence[Window]) -> int:
        """Return how many requests were due in any of the windows."""
        return len(self.due[self.rows(windows)])

    def within(self, windows: Sequence[Window]) -> NDArray[np.bool_]:
        """Return which requests were due in any of the windows."""
        inside = np.zeros(len(self.due), bool)
        inside[self.rows(windows)] = True
        return inside

    @property
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

    def tally(self, kind: EffectKind, pair: Contrast, cut: int, *, timeouts: bool = True) -> Tally:
        """Count as of `cut`. Late samples are left out of slowness: their latency is the loader's own.

        `timeouts`: whether a request that ran out of time, or has not been answered yet, counts as harm.
        """
        key = (kind, pair, cut, timeouts)
        if key not in self._tallies:
            count = self._count_errors if kind is EffectKind.ERRORS else self._count_slow
            n0, events0, _ = count(self.rows(pair.before), cut, timeouts)
            n1, events1, hanging = count(self.rows(pair.after), cut, timeouts)
            self._tallies[key] = Tally(n0, events0, n1, events1, n1 + hanging, events1 + hanging)
        return self._tallies[key]

    def _waits_longer(self, rows: Rows, cut: int, seconds: float) -> NDArray[np.bool_]:
        """Which requests fell due more than so many seconds before the cut."""
        longer: NDArray[np.bool_] = (cut - self.due[rows]) / NANO > seconds
        return longer

    def _count_errors(self, rows: Rows, cut: int, timeouts: bool) -> tuple[int, int, int]:
        """Return (answered, failed among them, without an answer for too long)."""
        known = self.done[rows] <= cut
        errors = known & self.errors[rows]
        if not timeouts:
            errors &= ~self.waited[rows]
        hanging = 0 if known.all() else int(np.count_nonzero(~known & self._waits_longer(rows, cut, self._patience)))
        return int(np.count_nonzero(known)), int(np.count_nonzero(errors)), hanging

    def _count_slow(self, rows: Rows, cut: int, timeouts: bool) -> tuple[int, int, int]:
        """Return (those whose slowness is known, slow among them, 0)."""
        known = self.done[rows] <= cut
        fit = ~self.late[rows]
        if not known.all():
            fit &= known | self._waits_longer(rows, cut, self.slow_threshold)
        slow = self.slow[rows] & fit
        if not timeouts:
            slow &= known & ~self.waited[rows]
        return int(np.count_nonzero(fit)), int(np.count_nonzero(slow)), 0

    def affected(self, pair: Contrast, cut: int) -> Tally:
        """Return which requests failed or were slow: counted once."""
        (n0, events0), (n1, events1) = (
            self._count_affected(self.rows(part), cut) for part in (pair.before, pair.after)
        )
        return Tally(n0, events0, n1, events1, n1, events1)

    def _count_affected(self, rows: Rows, cut: int) -> tuple[int, int]:
        known = self.done[rows] <= cut
        fit = known | self._waits_longer(rows, cut, self.slow_threshold)
        event = fit & ((self.errors[rows] & known) | (self.slow[rows] & ~self.late[rows]))
        return int(np.count_nonzero(fit)), int(np.count_nonzero(event))

    def design_effect(self, kind: EffectKind, pairs: Sequence[Contrast], cut: int) -> float:
        """The larger of that of all load before the fault and that within the windows judged, about their own means.

        The second part is there because a burst that shows only in the fault window is invisible to the first, and
        would otherwise be counted as so many independent witnesses.
        """
        pieces = [self.rows(pair.after) for pair in pairs]
        events = np.concatenate([self.events(kind)[rows] for rows in pieces])
        if not events.any():
            return self.quiet_design_effect(kind)
        due = np.concatenate([self.due[rows] for rows in pieces])
        group = np.repeat(np.arange(len(pieces)), [len(self.due[rows]) for rows in pieces])
        fit = np.concatenate([self.done[rows] <= cut for rows in pieces])
        if kind is EffectKind.SLOW:
            fit &= ~np.concatenate([self.late[rows] for rows in pieces])
        there = design_effect(due[fit], events[fit], scales=self._thresholds.scales, group=group[fit])
        return max(self.quiet_design_effect(kind), there)

    def quiet_design_effect(self, kind: EffectKind) -> float:
        """That of all steady load before the fault: what deflates the baseline, and nothing that came later does."""
        return max(self._thresholds.design_effect, self._quiet_design_effect(kind))

    @cached_property
    def quiet(self) -> NDArray[np.bool_]:
        """Return which requests were due under steady load before the fault."""
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
        late = self.late[self.rows(windows)]
        return float(np.count_nonzero(late)) / max(1, len(late))
