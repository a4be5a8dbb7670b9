"""Looks: the moments at which the judge may decide, and which windows it compares then. Counting is `tally`'s.

A look sees the history as it stood at its instant. The windows of a pulse and of a held fault are compared with the
baseline; those of a gradual fault with the off time around each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from chaos.model.faulting import FaultShape
from chaos.model.flow import Window, WindowKind
from chaos.verdict.model import NANO, HistoryView, Thresholds


@dataclass(frozen=True, slots=True)
class Contrast:
    """A stretch with the fault and the stretch it is compared with, each of one or more windows."""

    before: tuple[Window, ...]
    after: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One of the moments at which the judge may decide."""

    index: int
    cut: int  # ns: the instant
    parts: int  # for the hurt test, alpha is split evenly into so many
    spent: float  # for the not-hurt test, the share of alpha that is spent at this look
    fault_only: tuple[Contrast, ...]  # what the hurt test compares
    injection_to_look: tuple[Contrast, ...]  # what the not-hurt test compares
    pulse_over: bool = True  # a pulse: its window has closed

    @property
    def seconds(self) -> float:
        return sum(w.end - w.begin for pair in self.injection_to_look for w in pair.after) / NANO


def plan_looks(view: HistoryView, fault_shape: FaultShape, thresholds: Thresholds, *, last: int | None) -> list[Look]:
    """Return the looks that the view has data for, in order, up to index `last`."""
    gradual = fault_shape is FaultShape.GRADUAL
    looks = _plan_switchback(view, thresholds) if gradual else _plan_timed(view, fault_shape, thresholds)
    return looks if last is None else [look for look in looks if look.index <= last]


def _plan_timed(view: HistoryView, fault_shape: FaultShape, thresholds: Thresholds) -> list[Look]:
    faults = view.windows_of(WindowKind.FAULT)
    baseline = view.windows_of(WindowKind.BASELINE)
    if not faults or not baseline:
        return []
    pulses = fault_shape is FaultShape.PULSE
    begin = faults[-1].begin if pulses else faults[0].begin  # looks are taken after the last of repeated pulses
    start = faults[0].begin if view.evidence.injected is None else min(faults[0].begin, view.evidence.injected)
    closed = faults[-1].end
    looks: list[Look] = []
    for index, seconds in enumerate(thresholds.looks):
        due_at = begin + round(seconds * NANO)
        if fault_shape is FaultShape.PULSE:
            cut, end = due_at, due_at
        else:
            cut, end = min(due_at, closed), min(due_at, closed)
        if cut > view.until:
            break
        fault_only = tuple(Window(w.kind, w.begin, min(w.end, cut)) for w in faults if w.begin < cut)
        injection_to_look = (
            fault_only
            if fault_shape is FaultShape.HELD
            else _after_each(faults, view.windows_of(WindowKind.RECOVERY), start, seconds, end)
        )
        over = view.evidence.restored is not None or closed < view.until
        looks.append(
            Look(
                index,
                cut,
                len(thresholds.looks),
                thresholds.spending[index],
                (Contrast(baseline, fault_only),),
                (Contrast(baseline, injection_to_look),),
                over and closed <= cut,
            )
        )
        if fault_shape is FaultShape.HELD and closed <= due_at:
            break
    return looks


def _after_each(
    pulses: tuple[Window, ...], recoveries: tuple[Window, ...], start: int, seconds: float, until: int
) -> tuple[Window, ...]:
    """From each pulse's begin (the first one's injection) as long as the look waits, and not beyond the watch after
    it: then its target is replaced, for the next pulse."""
    begins = [start, *(pulse.begin for pulse in pulses[1:])]
    ends = [*(min([later.begin, *_watched(pulse, recoveries)]) for pulse, later in pairwise(pulses)), until]
    length = round(seconds * NANO)
    return tuple(
        Window(WindowKind.FAULT, begin, min(end, max(begin + length, pulse.end)))
        for begin, end, pulse in zip(begins, ends, pulses, strict=True)
        if begin < until
    )


def _watched(pulse: Window, recoveries: tuple[Window, ...]) -> list[int]:
    """Return the end of the watch after a pulse, if there is one."""
    return [recovery.end for recovery in recoveries if recovery.begin >= pulse.end][:1]


def _plan_switchback(view: HistoryView, thresholds: Thresholds) -> list[Look]:
    """Pairs of an on window and the off time around it; an off window between two is split, half to each.

    Halves keep the pairs independent, and comparing with both sides takes out what drifts steadily. The last pair has
    the same rule, whether or not another follows, so that a finished trial is counted as it was while it ran.
    """
    faults = view.windows_of(WindowKind.FAULT)
    off = sorted((w for w in view.windows if w.kind is not WindowKind.FAULT), key=lambda w: w.begin)
    settle = round(thresholds.settle * NANO)
    pairs: list[Contrast] = []
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
            pairs.append(Contrast((before, after), (on,)))
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
