"""Cuts (baseline, window) pairs out of a recorded history and has the judge look at each, as a trial does.

The same `judge`, thresholds, looks and sentinels as in `chaos.engine.trial`; lengths and gaps are a trial's:

    held      a baseline of 5 s; 0.3 s in which a fault would be injected; looks at 1, 2, 4, ... 30 s until it is
    decided pulse     the same, with an evidence window of 0.6 s
    gradual   a baseline of 5 s, then three, or six, pairs of 3 s on and 3 s off, 0.6 s apart

The design effect is known from the baseline alone, as in the first trial of a deployment: the least that is known.
The next pair begins 1.2 s after the look that decided, so that pairs of one group and kind share no request. Groups lie
in time beside each other, and the three kinds are three cuts of one history: windows of one history are not
independent, those of one kind and group are as independent as the machine lets them be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from chaos.engine.designs import SWITCH_SECONDS
from chaos.history.model import Samples
from chaos.history.store import History
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import Expectation, FaultEvidence, Finding, Harm, HistoryView, Judgement, Thresholds, judge

NANO: Final = 1_000_000_000
INJECT, BETWEEN, APART = (
    0.3,
    0.6,
    1.2,
)  # s: to inject; to undo and see flows sound; from a decision to the next baseline
EVIDENCE: Final = 0.6  # s: window of a pulse
LEAST: Final = 4.0  # s: a window that the end of the history cuts shorter than this look is not counted
STAGGER: Final = 2.3  # s: between the first baselines of two groups
DEFAULT: Final = Thresholds(bootstrap=0)


@dataclass(frozen=True, slots=True)
class Judged:
    """One flow in one window."""

    kind: FaultShape
    group: int
    begin: float  # s from the history's begin to the fault window's
    flow: Flow
    finding: Finding
    decided: float | None  # s after the fault's begin
    seconds: float  # of fault window that were used
    errors: float  # rise, as share
    slow: float
    design_effect: tuple[float, float]
    why: str


def group_of(flow: Flow) -> int:
    return int(flow.label or 0)


def by_flow(history: History) -> dict[Flow, Samples]:
    """Each flow's samples, in the order in which they were due."""
    rows = history.samples[np.argsort(history.samples["due"], kind="stable")]
    return {flow: rows[rows["flow"] == number] for number, flow in enumerate(history.flows)}


def groups(flows: Mapping[Flow, Samples]) -> list[list[Flow]]:
    """The flows that are judged together, as one trial's are: the same number of each tenant."""
    numbers = sorted({group_of(flow) for flow in flows if not flow.sentinel})
    return [[flow for flow in flows if not flow.sentinel and group_of(flow) == number] for number in numbers]


def part(
    flows: Mapping[Flow, Samples],
    members: Sequence[Flow],
    windows: tuple[Window, ...],
    evidence: FaultEvidence,
    until: int,
) -> HistoryView:
    """What a trial's judge would see: the members and all sentinels, from the baseline's begin to `until`."""
    begin = min(window.begin for window in windows)
    seen = {}
    for flow, rows in flows.items():
        if flow.sentinel or flow in members:
            first, last = np.searchsorted(rows["due"], [begin, until])
            seen[flow] = rows[first:last]
    return HistoryView(seen, windows, evidence, until)


def held_view(
    flows: Mapping[Flow, Samples], members: Sequence[Flow], *, begin: int, fault: int, until: int
) -> HistoryView:
    """A baseline from `begin`, and a fault that has acted since `fault`."""
    baseline = Window(WindowKind.BASELINE, begin, fault - round(INJECT * NANO))
    return part(
        flows, members, (baseline, Window(WindowKind.FAULT, fault, until)), FaultEvidence(True, None, fault), until
    )


def quiet_views(
    flows: Mapping[Flow, Samples],
    members: Sequence[Flow],
    kind: FaultShape,
    *,
    begin: int,
    end: int,
    thresholds: Thresholds,
) -> HistoryView | None:
    """The history of a trial that begins then, as far as the recording goes; None when that is not far enough."""
    base = round(thresholds.baseline_seconds * NANO)
    fault = begin + base + round(INJECT * NANO)
    if kind is FaultShape.GRADUAL:
        return _switchback_view(flows, members, begin=begin, end=end, thresholds=thresholds)
    if fault + round(LEAST * NANO) > end:
        return None
    until = min(end, fault + round(thresholds.looks[-1] * NANO))
    if kind is FaultShape.HELD:
        return held_view(flows, members, begin=begin, fault=fault, until=until)
    over = fault + round(EVIDENCE * NANO)
    windows = (
        Window(WindowKind.BASELINE, begin, begin + base),
        Window(WindowKind.FAULT, fault, over),
        Window(WindowKind.RECOVERY, over, until),
    )
    return part(flows, members, windows, FaultEvidence(True, True, fault, over), until)


def _switchback_view(
    flows: Mapping[Flow, Samples], members: Sequence[Flow], *, begin: int, end: int, thresholds: Thresholds
) -> HistoryView | None:
    hold = round((thresholds.settle + SWITCH_SECONDS) * NANO)
    at = begin + round(thresholds.baseline_seconds * NANO)
    windows = [Window(WindowKind.BASELINE, begin, at)]
    at += round(INJECT * NANO)
    first = at
    while len(windows) < 1 + 2 * thresholds.pairs[-1]:
        off = at + hold + round(BETWEEN * NANO)
        if off + hold > end:
            break
        windows += [Window(WindowKind.FAULT, at, at + hold), Window(WindowKind.RECOVERY, off, off + hold)]
        at = off + hold + round(BETWEEN * NANO)
    if len(windows) < 1 + 2 * thresholds.pairs[0]:
        return None
    until = windows[-1].end
    return part(flows, members, tuple(windows), FaultEvidence(True, True, first, until), until)


def judged(
    view: HistoryView, members: Sequence[Flow], kind: FaultShape, thresholds: Thresholds, *, origin: int
) -> tuple[list[Judged], Judgement]:
    """The judge's answer to one window, flow by flow. A window that is not fit to be judged is inconclusive, as a trial
    would be.
    """
    harm = Harm.ERRORS if kind is FaultShape.PULSE else Harm.EITHER
    answer = judge(view, Expectation.nobody(members, harm=harm, fault_shape=kind), thresholds)
    fault = view.windows_of(WindowKind.FAULT)[0].begin
    if not answer.flows:
        return [
            Judged(
                kind,
                group_of(flow),
                (fault - origin) / NANO,
                flow,
                Finding.INCONCLUSIVE,
                None,
                0.0,
                0.0,
                0.0,
                (0.0, 0.0),
                answer.reason,
            )
            for flow in members
        ], answer
    return [
        Judged(
            kind,
            group_of(one.flow),
            (fault - origin) / NANO,
            one.flow,
            one.finding,
            one.decided_after,
            answer.seconds,
            one.errors.change,
            one.slow.change,
            (one.errors.design_effect, one.slow.design_effect),
            one.why,
        )
        for one in answer.flows
    ], answer


def judge_quiet(
    history: History, *, kinds: Sequence[FaultShape] = tuple(FaultShape), thresholds: Thresholds = DEFAULT
) -> Iterator[Judged]:
    """Every window of a history without a fault. Each *hurt* among them is wrong."""
    flows = by_flow(history)
    origin, end = int(history.header["begin"]), int(history.header["end"])
    for kind in kinds:
        for number, members in enumerate(groups(flows)):
            at = origin + round(number * STAGGER * NANO)
            while (view := quiet_views(flows, members, kind, begin=at, end=end, thresholds=thresholds)) is not None:
                found, answer = judged(view, members, kind, thresholds, origin=origin)
                yield from found
                at = last_instant(view, kind, answer, thresholds) + round(APART * NANO)


def last_instant(view: HistoryView, kind: FaultShape, answer: Judgement, thresholds: Thresholds) -> int:
    """When the trial would have ended: at the look that decided."""
    if answer.look < 0:
        return view.until
    if kind is FaultShape.GRADUAL:
        return [w.end for w in view.windows_of(WindowKind.RECOVERY)][thresholds.pairs[answer.look] - 1]
    return min(view.until, view.windows_of(WindowKind.FAULT)[0].begin + round(thresholds.looks[answer.look] * NANO))
