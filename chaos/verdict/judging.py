"""The rules of a verdict: which flows were hurt, and whether that is what the sharing model said.

At each look every judged flow is tested twice for each effect. *Hurt*: the lower bound of the rise exceeds the margin;
alpha is split evenly over looks and by Holm's step-down (1979) over flows and effects. *Not hurt*: the upper bounds of
both effects lie below their margins; alpha is split over looks alone, for a wrong *pass* needs every claim of a
conjunction, and the one on the flow that is truly hurt already keeps the level (intersection-union: Berger, 1982).
Hurt once is hurt for good; not hurt must hold at the last look.

Called by the engine at each look of a live trial, and by `sharedfate check` on saved histories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from chaos.history.model import NO_POD, Outcome, Samples
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import measures, sentences
from chaos.verdict.looks import Contrast, Look, plan_looks
from chaos.verdict.model import (
    NANO,
    Effect,
    EffectKind,
    Expectation,
    Finding,
    FlowVerdict,
    HistoryView,
    Judgement,
    Measure,
    Thresholds,
    Verdict,
    merge,
)
from chaos.verdict.proportions import Count, limits, rise_at_most, stratified
from chaos.verdict.quantiles import shifts
from chaos.verdict.recovery import Recovery, Return, judge_recovery
from chaos.verdict.tally import Series, Tally


def judge(
    view: HistoryView, expectation: Expectation, thresholds: Thresholds | None = None, *, look: int | None = None
) -> Judgement:
    """Judge a history.

    Args:
        view: what happened. For look k of a live trial it must hold every sample that was done by that instant.
        expectation: what the sharing model says.
        thresholds: by default, the documented ones.
        look: take no look beyond this index. By default looks are taken in order until one decides, as a live trial
            does, so that a saved history gets the answer that it got when it ran.

    Never raises: what it cannot judge, its own failure included, is *inconclusive* with the reason.
    """
    chosen = thresholds or Thresholds()
    try:
        return _judge(view, expectation, chosen, look)
    except Exception as error:  # the one place where any error is an answer: a judge that fails knows nothing
        return _unknown(f"the judge failed: {type(error).__name__}: {error}", done=True)


def _unknown(reason: str, *, done: bool) -> Judgement:
    return Judgement(Verdict.INCONCLUSIVE, reason, (), done, -1, 0.0)


def _judge(view: HistoryView, expectation: Expectation, thresholds: Thresholds, last: int | None) -> Judgement:
    series = {flow: Series(view, flow, thresholds) for flow in view.flows}
    problem = detect_unfit(view, series, expectation, thresholds)
    if problem:
        return _unknown(problem, done=False)
    looks = plan_looks(view, expectation.fault_shape, thresholds, last=last)
    if not looks:
        return _unknown(f"no look yet: {sentences.first_look(expectation.fault_shape, thresholds)}", done=False)
    test = SequentialTest(view, series, expectation, thresholds)
    for look in looks:
        test.take_look(look)
        # A held fault is watched to its end: what was claimed early may not be true of what comes late.
        if test.decided and expectation.fault_shape is not FaultShape.HELD:
            break
    return test.conclude()


def detect_unfit(
    view: HistoryView, series: Mapping[Flow, Series], expectation: Expectation, thresholds: Thresholds
) -> str:
    """Return why this history cannot be judged at all; empty when it can."""
    judged = [flow for flow in expectation.shares if flow not in expectation.exempt]
    if not judged:
        return "no flow is expected to be hurt or unhurt: nothing was checked"
    baseline = view.windows_of(WindowKind.BASELINE)
    if not baseline:
        return "the history has no baseline window"
    if not view.windows_of(WindowKind.FAULT):
        return "the history has no fault window"
    seconds = sum(w.end - w.begin for w in baseline) / NANO
    if seconds < thresholds.baseline_seconds:
        return f"the baseline lasted {seconds:.1f} s, {thresholds.baseline_seconds:g} s are needed"
    for flow in judged:
        if flow not in series or not series[flow].ended:
            return f"{flow} made no request"
        count = series[flow].count(baseline)
        if count < thresholds.baseline_requests:
            return f"{flow} made {count} requests in the baseline, {thresholds.baseline_requests} are needed"
        if not len(series[flow].baseline_latency):
            return f"{flow} had no answered request in the baseline"
    if unnamed := detect_unnamed(view.flows):
        return f"the loader cannot be trusted: {unnamed}"
    if not view.evidence.effect_seen:
        return "the fault was not seen to act: no evidence of its effect"
    if view.evidence.doubt:
        return f"the fault was not seen to act: {view.evidence.doubt}"
    return ""


def detect_unnamed(flows: Mapping[Flow, Samples]) -> str:
    """Return what tells that a loader stamps failures as answered: answers that name no server, where the flow's others
    do. Empty when nothing does, or when no answer names one (applications that are not ours).
    """
    for flow, samples in flows.items():
        servers = samples["server"][samples["outcome"] == Outcome.OK]
        unnamed = int(np.count_nonzero(servers == NO_POD))
        if 0 < unnamed < len(servers):
            return f"{unnamed} of {len(servers)} answers to {flow} name no server that gave them, and the others do"
    return ""


def tolerated(share: float, slack: float) -> tuple[float, float]:
    """Between which shares of affected requests an expected share is not belied.

    A share of 1 is belied below 1 - slack: so much of the traffic went past the target. In between the bounds are
    wider, up to slack + 0.3 at a half, for reconnections and pooled connections move the share.
    """
    wide = slack + 1.2 * share * (1 - share)
    return share * (1 - wide), 1 - (1 - share) * (1 - wide)


def contradicts(share: float, low: float, high: float, slack: float) -> bool:
    """Whether the affected share, known to lie in [low, high], contradicts the expected one, from either side."""
    least, most = tolerated(share, slack)
    return high < least or low > most


_Key = tuple[Flow, EffectKind]
_REPEATS: Final = 3  # pulses from which repeats can be told from a flow's own bursts
_LATE_SECONDS: Final = (4.5, 9.0)  # e^-4.5 of a flow's own bursts of a second last so long
_ONSET_SECONDS: Final = 1.5  # of harm that begins with an undo: an own burst begins there, and lasts, in 0.1 % of them
_MOST_OF_HOLD: Final = 0.85  # of a hold's half seconds: so many show slowness that the fault brings
_HALF: Final = NANO // 2
_UNDO_CLAIMS: Final = 3  # that share `undo_alpha`: late harm, no recovery, harm by the undo
_ALL: Final = np.iinfo(np.int64).max - 1


@dataclass(frozen=True, slots=True)
class EffectCounts:
    """One effect on one flow at one look: its counts, and what prevents a claim."""

    kind: EffectKind
    fault_only: tuple[Tally, ...]
    attributable: tuple[Tally, ...]  # fault-only, of what can be held against the system
    injection_to_look: tuple[Tally, ...]
    quiet_design_effect: float  # of steady load: deflates the baseline alone
    design_effect: float  # in the fault-only windows and before
    long_design_effect: float  # in the whole windows and before: a pulse's own outage is a burst in it
    allowance: float  # rise that the machine may have caused, by the sentinel
    blocking_reason: str  # why neither claim can be made
    machine_fault: str  # why requests that ran out of time are no evidence of harm

    def attributable_counts(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.quiet_design_effect), t.after(self.design_effect)) for t in self.attributable]

    def fault_only_counts(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.quiet_design_effect), t.after(self.design_effect)) for t in self.fault_only]

    def fault_only_at_worst(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.quiet_design_effect), t.after_at_worst(self.design_effect)) for t in self.fault_only]

    def injection_to_look_at_worst(self) -> list[tuple[Count, Count]]:
        return [
            (t.before(self.quiet_design_effect), t.after_at_worst(self.long_design_effect))
            for t in self.injection_to_look
        ]


class SequentialTest:
    """The state of a judgement from look to look. One per call of `judge`; no state outlives it."""

    def __init__(
        self, view: HistoryView, series: Mapping[Flow, Series], expectation: Expectation, thresholds: Thresholds
    ) -> None:
        self.view, self.expectation, self.thresholds = view, expectation, thresholds
        self.series = {flow: one for flow, one in series.items() if one.ended}
        self.judged = [flow for flow in expectation.shares if flow not in expectation.exempt]
        self.reported = self.judged + sorted(flow for flow in expectation.exempt if flow in self.series)
        self.sentinels: dict[str, list[Flow]] = {}  # by client
        for flow in self.series:
            if flow.sentinel:
                self.sentinels.setdefault(flow.client, []).append(flow)
        self.hurt: dict[tuple[Flow, EffectKind], float] = {}  # seconds after the fault's begin
        self.not_hurt: dict[Flow, float] = {}
        self.machine_fault: dict[Flow, str] = {}  # of the machine, since the look at which it showed
        self.effects: dict[Flow, dict[EffectKind, Effect]] = {}
        self.look: Look | None = None
        self.notes: list[str] = []
        if not self.sentinels:
            self.notes.append("no sentinel flow: the machine's own trouble cannot be told from harm")

    @property
    def decided(self) -> bool:
        """Whether no further look is needed: every judged flow has its finding, of the kind that was asked."""
        return all(self._is_decided(flow) for flow in self.judged)

    def _is_decided(self, flow: Flow) -> bool:
        finding = self.finding(flow)
        if finding is not Finding.HURT or not self.expectation.shares[flow]:
            return finding is not Finding.INCONCLUSIVE
        wanted = [self.effects[flow][kind].finding for kind in self.expectation.harm.kinds]
        return Finding.HURT in wanted or set(wanted) == {Finding.NOT_HURT}

    @property
    def _begin(self) -> int:
        return self.view.windows_of(WindowKind.FAULT)[0].begin

    @property
    def _looked_from(self) -> int:
        """From when looks count: of repeated pulses the last one's begin."""
        return self.view.windows_of(WindowKind.FAULT)[-1].begin if self._is_pulse else self._begin

    @property
    def _is_pulse(self) -> bool:
        return self.expectation.fault_shape is FaultShape.PULSE

    def finding(self, flow: Flow) -> Finding:
        if any((flow, kind) in self.hurt for kind in EffectKind):
            return Finding.HURT
        return Finding.NOT_HURT if flow in self.not_hurt else Finding.INCONCLUSIVE

    def take_look(self, look: Look) -> None:
        """Take one look: test all flows, and keep the findings."""
        self.look = look
        seconds = (look.cut - self._looked_from) / NANO
        for flow in self.reported:
            if trouble := self._machine_fault(flow, look):
                self.machine_fault.setdefault(flow, trouble)
        counted = {(flow, kind): self._count(flow, kind, look) for flow in self.reported for kind in EffectKind}
        claims = self._claims_of_hurt(counted, look)
        if self.expectation.fault_shape is FaultShape.HELD:
            # A burst of the flow's own looks like harm while it lasts: of a flow that should not be hurt the claim
            # must still stand at the end of the hold.
            standing = frozenset(claims)
            self.hurt = {
                key: first for key, first in self.hurt.items() if key in standing or self.expectation.shares.get(key[0])
            }
        for key in claims:
            self.hurt.setdefault(key, seconds)
        for flow in self.reported:
            self.effects[flow] = {kind: self._effect(flow, counted[flow, kind], look) for kind in EffectKind}
            if all(effect.finding is Finding.NOT_HURT for effect in self.effects[flow].values()):
                self.not_hurt.setdefault(flow, seconds)
            else:
                self.not_hurt.pop(flow, None)

    def _count(self, flow: Flow, kind: EffectKind, look: Look) -> EffectCounts:
        series = self.series[flow]
        fault_only = attributable = tuple(series.tally(kind, pair, look.cut) for pair in look.fault_only)
        if trouble := self.machine_fault.get(flow, ""):
            attributable = tuple(series.tally(kind, pair, look.cut, timeouts=False) for pair in look.fault_only)
        design_effect = series.design_effect(kind, look.fault_only, look.cut)
        injection_to_look, long_design_effect = fault_only, design_effect
        if look.injection_to_look != look.fault_only:
            injection_to_look = tuple(series.tally(kind, pair, look.cut) for pair in look.injection_to_look)
            long_design_effect = series.design_effect(kind, look.injection_to_look, look.cut)
        blocking_reason = self._blocking_reason(flow, kind, look, fault_only)
        return EffectCounts(
            kind,
            fault_only,
            attributable,
            injection_to_look,
            series.quiet_design_effect(kind),
            design_effect,
            long_design_effect,
            self._allowance(flow, kind, look),
            blocking_reason,
            trouble,
        )

    def _blocking_reason(self, flow: Flow, kind: EffectKind, look: Look, fault_only: Sequence[Tally]) -> str:
        fewest, need = min((t.most_n1 for t in fault_only), default=0), self.thresholds.window_requests
        if fewest < need:
            return f"{fewest} requests in the fault window, {need} are needed"
        return self._lateness(flow, look) if kind is EffectKind.SLOW else ""

    def _lateness(self, flow: Flow, look: Look) -> str:
        late = self.series[flow].late_share([w for pair in look.injection_to_look for w in (*pair.before, *pair.after)])
        if late > self.thresholds.late_share:
            return sentences.loader_late(late)
        return ""

    def _machine_fault(self, flow: Flow, look: Look) -> str:
        """Whether the machine was so slow that requests ran out of time by it: empty when it was not.

        A proxy that a stall has driven into time-outs stays there after the machine has recovered (each of them costs
        its connection, and each new one a handshake), so that trouble at one look counts at all later ones.
        """
        if lateness := self._lateness(flow, look):
            return lateness
        rise = self._sentinel_rise(flow, EffectKind.SLOW, look)
        return sentences.sentinel_slow(rise) if rise > self.thresholds.slow_margin else ""

    def _allowance(self, flow: Flow, kind: EffectKind, look: Look) -> float:
        """The rise that machine trouble may explain: sentinel_factor times that of the client's moved sentinel."""
        rise = self._sentinel_rise(flow, kind, look)
        return (
            self.thresholds.sentinel_factor * rise
            if rise > self.thresholds.sentinel_share * self.thresholds.margin(kind)
            else 0.0
        )

    def _sentinel_rise(self, flow: Flow, kind: EffectKind, look: Look) -> float:
        """By how much the share of the client's sentinel rose in the windows of the hurt test; 0 when too little is
        known of it.
        """
        worst = 0.0
        for sentinel in self.sentinels.get(flow.client, []):
            tallies = [self.series[sentinel].tally(kind, pair, look.cut) for pair in look.fault_only]
            if min(t.n1 for t in tallies) >= self.thresholds.window_requests and min(t.n0 for t in tallies) > 0:
                worst = max(worst, _change([(t.before(1.0), t.after(1.0)) for t in tallies]))
        return worst

    def _claims_of_hurt(self, counted: Mapping[_Key, EffectCounts], look: Look) -> list[_Key]:
        """Holm's step-down over the family of judged flows and effects; exempt flows are tested without a family."""
        level = self.thresholds.alpha / look.parts
        judged = frozenset(self.judged)
        remaining = [key for key in counted if key[0] in judged]
        claimed = [key for key in counted if key[0] not in judged and self._is_hurt(key[0], counted[key], look, level)]
        while remaining:
            found = [key for key in remaining if self._is_hurt(key[0], counted[key], look, level / len(remaining))]
            if not found:
                break
            claimed += found
            newly = frozenset(found)
            remaining = [key for key in remaining if key not in newly]
        return claimed

    def _is_hurt(self, flow: Flow, effect_counts: EffectCounts, look: Look, alpha: float) -> bool:
        margin = self.thresholds.margin(effect_counts.kind) + effect_counts.allowance
        counts = effect_counts.attributable_counts()
        if effect_counts.blocking_reason or _change(counts) <= margin:
            return False
        if len(counts) > 1 and any(after.share <= before.share for before, after in counts):
            return False  # a switchback must show it in each of its pairs: drift does not come and go with the fault
        if not self._in_every_pulse(flow, effect_counts.kind, look):
            return False
        return stratified(counts, alpha, self.thresholds.limits)[0] > margin

    def _in_every_pulse(self, flow: Flow, kind: EffectKind, look: Look) -> bool:
        """Whether repeated pulses each show a rise: a burst of the flow's own meets one of them, not all.

        A single pulse is as short as a flow's own change of speed, so that slowness needs repeats.
        """
        if self.expectation.fault_shape is not FaultShape.PULSE:
            return True
        pulses = [pulse for contrast in look.fault_only for pulse in contrast.after]
        if len(pulses) < _REPEATS and kind is EffectKind.SLOW:
            return False
        baseline, series = look.fault_only[0].before, self.series[flow]
        tallies = [series.tally(kind, Contrast(baseline, (pulse,)), look.cut) for pulse in pulses]
        return all(_change([(t.before(1.0), t.after(1.0))]) > self.thresholds.margin(kind) for t in tallies)

    def _is_not_hurt(self, flow: Flow, effect_counts: EffectCounts, look: Look) -> str:
        """Why *not hurt* cannot be claimed; empty when it can."""
        if effect_counts.blocking_reason:
            return effect_counts.blocking_reason
        thresholds, margin = self.thresholds, self.thresholds.margin(effect_counts.kind)
        counts = effect_counts.injection_to_look_at_worst()
        high = rise_at_most(counts, thresholds.alpha * look.spent, thresholds.limits)
        if high >= margin:
            return sentences.too_wide(effect_counts.kind, _change(counts), high, margin)
        if self.expectation.fault_shape is FaultShape.PULSE and effect_counts.kind in self.expectation.harm.kinds:
            if not look.pulse_over:
                return "the pulse is not over"
            return self._pulse_shows_harm(flow, effect_counts, look)
        return ""

    def _pulse_shows_harm(self, flow: Flow, effect_counts: EffectCounts, look: Look) -> str:
        """Why a pulse does not allow *not hurt*: a rise above what the baseline explains, or too few requests."""
        thresholds, counts = self.thresholds, effect_counts.fault_only_at_worst()
        pulses = len(look.fault_only[0].after)
        margin = thresholds.pulses_margin if pulses >= _REPEATS else thresholds.pulse_margin
        where = f"in {pulses} pulses " if pulses > 1 else "in the pulse "
        explained = max(limits(before, thresholds.pulse_alpha, thresholds.limits)[1] for before, _ in counts)
        if max(after.share for _, after in counts) > explained:
            return where + sentences.rise_shows(effect_counts.kind, _change(counts), explained)
        high = rise_at_most(counts, thresholds.pulse_alpha, thresholds.limits)
        if high >= margin:
            return where + sentences.too_wide(effect_counts.kind, _change(counts), high, margin)
        return ""

    def _effect(self, flow: Flow, effect_counts: EffectCounts, look: Look) -> Effect:
        thresholds = self.thresholds
        level = thresholds.alpha / look.parts
        why = ""
        if (flow, effect_counts.kind) in self.hurt:
            finding = Finding.HURT
        else:
            why = self._is_not_hurt(flow, effect_counts, look)
            finding = Finding.INCONCLUSIVE if why else Finding.NOT_HURT
        margin = thresholds.margin(effect_counts.kind)
        counts = effect_counts.fault_only_counts()
        if why and effect_counts.allowance and _change(counts) > margin:
            why = sentences.machine_trouble(
                effect_counts.kind, _change(counts), effect_counts.allowance / thresholds.sentinel_factor
            )
        elif why and effect_counts.machine_fault and _change(counts) > margin:
            why = sentences.ran_out_of_time(
                effect_counts.kind,
                _change(counts),
                _change(effect_counts.attributable_counts()),
                effect_counts.machine_fault,
            )
        family = max(1, 2 * len(self.judged))
        low = stratified(effect_counts.attributable_counts(), level / family, thresholds.limits)[0]
        worst = (
            effect_counts.fault_only_at_worst()
            if finding is Finding.HURT
            else effect_counts.injection_to_look_at_worst()
        )
        high = rise_at_most(worst, thresholds.alpha * look.spent, thresholds.limits)
        n0, n1 = sum(t.n0 for t in effect_counts.fault_only), sum(t.n1 for t in effect_counts.fault_only)
        change = _change(counts)
        before = sum(t.events0 for t in effect_counts.fault_only) / n0 if n0 else math.nan
        after = sum(t.events1 for t in effect_counts.fault_only) / n1 if n1 else math.nan
        return Effect(
            effect_counts.kind,
            finding,
            change,
            low,
            max(high, change),
            before,
            after,
            n0,
            n1,
            n1 / effect_counts.design_effect,
            effect_counts.design_effect,
            why,
        )

    # What is said in the end

    def conclude(self) -> Judgement:
        look = self.look
        assert look is not None
        self._claim_late_harm(look)
        self._withdraw_own_slowness(look)
        self._note_resolution(look)
        flows = tuple(self._summarise_flow(flow, look) for flow in self.reported)
        opinions = [self._flow_verdict(verdict) for verdict in flows if verdict.expected_share is not None]
        returns = [self._return(verdict) for verdict in flows if verdict.expected_share is not None]
        opinions += [opinion for opinion in returns if opinion is not None]
        verdict = merge([opinion for opinion, _ in opinions])
        said = [sentence for opinion, sentence in opinions if opinion is verdict]
        if self.view.evidence.recovered is False:
            verdict = Verdict.FAIL
            said = ["the system was not seen to recover after the fault was undone", *said]
        last = look.index + 1 >= look.parts
        return Judgement(
            verdict,
            sentences.reason(verdict, said),
            flows,
            self.decided or last,
            look.index,
            look.seconds,
            self._measures(flows),
            tuple(self.notes),
            all(opinion is None for opinion in returns),
        )

    def _summarise_flow(self, flow: Flow, look: Look) -> FlowVerdict:
        series, thresholds = self.series[flow], self.thresholds
        errors, slow = (self.effects[flow][kind] for kind in EffectKind)
        finding = self.finding(flow)
        why = "" if finding is not Finding.INCONCLUSIVE else "; ".join(e.why for e in (errors, slow) if e.why)
        tallies = [series.affected(pair, look.cut) for pair in self._own_outage(series, look)]
        quiet = series.quiet_design_effect(EffectKind.ERRORS)
        counts = [(t.before(quiet), t.after(errors.design_effect)) for t in tallies]
        affected = (_change(counts), *stratified(counts, thresholds.share_alpha, thresholds.limits))
        times = [self.hurt[flow, kind] for kind in EffectKind if (flow, kind) in self.hurt]
        decided = min(times) if times else self.not_hurt.get(flow)
        origin = self._origin()
        curve = measures.recovery_curve(series, origin, self.view.until)
        costs = self._measures_of_harm([flow])
        hurt = finding is Finding.HURT
        answered = ~series.errors & ~series.late & (series.done <= look.cut)
        during = series.latency[series.within([w for pair in look.fault_only for w in pair.after]) & answered]
        shift = shifts(series.baseline_latency, during, resamples=thresholds.bootstrap)
        share = None if flow in self.expectation.exempt else self.expectation.shares[flow]
        after = self._recovery(flow, not_hurt=share == 0 and finding is not Finding.HURT)
        return FlowVerdict(
            flow,
            share,
            finding,
            errors,
            slow,
            affected,
            series.slow_threshold,
            costs.get("requests lost"),
            decided,
            costs.get("time to recover") if hurt else None,
            curve,
            shift,
            why,
            costs.get("outage") if hurt else None,
            str(after.found) if after else "",
        )

    def _own_outage(self, series: Series, look: Look) -> list[Contrast]:
        """The fault's windows, each until the flow's last affected request: what share of it went by the target is
        asked of the time in which the target was missing, not of that until its successor was seen."""
        if self.expectation.fault_shape is FaultShape.GRADUAL:
            return list(look.fault_only)
        affected = series.due[series.errors | (series.slow & ~series.late)]
        found = []
        for contrast in look.fault_only:
            trimmed = []
            for window in contrast.after:
                inside = affected[(affected >= window.begin) & (affected < window.end)]
                trimmed.append(Window(window.kind, window.begin, int(inside[-1]) + 1) if len(inside) else window)
            found.append(Contrast(contrast.before, tuple(trimmed)))
        return found

    def _recovery(self, flow: Flow, *, not_hurt: bool) -> Recovery | None:
        """What is known of a flow after the undo; None while the fault is in force, or where that is not asked."""
        if not self.expectation.recovery or self.view.evidence.restored is None:
            return None
        gradual = self.expectation.fault_shape is FaultShape.GRADUAL
        origin = self._origin()
        if gradual:  # flows are helped to come back, and then watched
            origin = max([w.begin for w in self.view.windows_of(WindowKind.RECOVERY)], default=origin)
        watched = [w.end for w in self.view.windows_of(WindowKind.WATCH) if w.begin >= origin]
        return judge_recovery(
            self.series[flow],
            not_hurt=not_hurt and not gradual,  # an on/off design has looked at its off time all along
            origin=origin,
            until=max(watched, default=self.view.until),
            kinds=(EffectKind.ERRORS,) if gradual else tuple(EffectKind),
            thresholds=self.thresholds,
            equivalent=self._is_equivalent,
            worse=self._is_worse,
        )

    def _count_of(
        self, flow: Flow, kind: EffectKind, window: Window, *, spared: bool = False
    ) -> tuple[EffectCounts, Look]:
        """One effect on one flow in one window after the fault, beside its baseline.

        Of a flow that a hold spared the hold is steady load too, and more than the baseline: what failed in it makes
        the claim harder, never easier.
        """
        before, hold = self.view.windows_of(WindowKind.BASELINE), self.view.windows_of(WindowKind.FAULT)
        spared = spared and self.expectation.fault_shape is FaultShape.HELD
        pairs = (Contrast((*before, *hold) if spared else before, (window,)),)
        look = Look(0, window.end, 1, 1.0, pairs, pairs)
        counts = self._count(flow, kind, look)
        if spared:
            in_hold = self.series[flow].design_effect(kind, (Contrast(before, hold),), window.end)
            counts = replace(counts, quiet_design_effect=max(counts.quiet_design_effect, in_hold))
        return counts, look

    def _is_equivalent(self, flow: Flow, kind: EffectKind, window: Window) -> bool:
        effect_counts, _ = self._count_of(flow, kind, window)
        thresholds = self.thresholds
        high = rise_at_most(effect_counts.injection_to_look_at_worst(), thresholds.recovery_alpha, thresholds.limits)
        return not effect_counts.blocking_reason and high < thresholds.margin(kind)

    def _is_worse(self, flow: Flow, kind: EffectKind, window: Window, *, spared: bool) -> bool:
        """Whether the flow was clearly worse than its baseline, over the window or in a part of it.

        An outage is one long burst, and over a window that holds it and sound time its requests count as few. So the
        parts are tested too, each by itself, where the whole rise is above the margin as well. Of a flow that the fault
        spared, a burst of its own rarely lasts as long as a stretch, or begins with the undo and lasts as long as the
        first part. Of another the window is the few seconds by which it must be back: it must be down in all of them.
        """
        family = max(1, 2 * len(self.judged))
        whole, look = self._count_of(flow, kind, window, spared=spared)
        alpha = self.thresholds.undo_alpha / _UNDO_CLAIMS / 2 / family  # half for the whole, half for its parts
        if self._is_hurt(flow, whole, look, alpha) and (spared or self._stayed(flow, kind, window)):
            return True
        if _change(whole.attributable_counts()) <= self.thresholds.margin(kind) + whole.allowance:
            return False
        onset, stretches = _parts(window)
        parts = [part for part in stretches if self._stayed(flow, kind, part)]
        if onset and self._stayed(flow, kind, onset) and not (spared and self._rose_before(flow, kind)):
            parts.append(onset)
        level = alpha / (1 + len(stretches))
        return any(self._is_hurt(flow, *self._count_of(flow, kind, part, spared=spared), level) for part in parts)

    def _rose_before(self, flow: Flow, kind: EffectKind) -> bool:
        """Whether the flow failed in the last half second of the fault already."""
        last = Window(WindowKind.FAULT, self._fault_end - _HALF, self._fault_end)
        return self._rise(flow, kind, last) > self.thresholds.margin(kind)

    def _rise(self, flow: Flow, kind: EffectKind, window: Window) -> float:
        """By how much the share of affected requests in a window exceeds that of the baseline."""
        tally = self.series[flow].tally(kind, Contrast(self.view.windows_of(WindowKind.BASELINE), (window,)), _ALL)
        return _change([(tally.before(1.0), tally.after(1.0))])

    def _stayed(self, flow: Flow, kind: EffectKind, window: Window) -> bool:
        """Whether each half second of a window shows at least half of its rise: harm that was there all the time, no
        shorter burst."""
        begins = range(window.begin, window.end - _HALF + 1, _HALF)
        least = max(self.thresholds.margin(kind), self._rise(flow, kind, window) / 2)
        return all(self._rise(flow, kind, Window(window.kind, begin, begin + _HALF)) > least for begin in begins)

    def _claim_late_harm(self, look: Look) -> None:
        """Harm that came late in a held fault, and then stayed, is too long a burst for the looks at all of it.

        It must have stayed for _LATE_SECONDS: shorter ones may be a burst of the flow's own. Errors alone: a flow's own
        change of speed may stay as long.
        """
        if self.expectation.fault_shape is not FaultShape.HELD:
            return
        kind = EffectKind.ERRORS
        level = self.thresholds.undo_alpha / _UNDO_CLAIMS / max(1, len(self.judged) * len(_LATE_SECONDS))
        end = min(self.view.windows_of(WindowKind.FAULT)[-1].end, look.cut)
        for flow in self.judged:
            for seconds in _LATE_SECONDS:
                part = Window(WindowKind.FAULT, end - round(seconds * NANO), end)
                if (flow, kind) in self.hurt or part.begin <= self._begin:
                    continue
                if self._stayed(flow, kind, part) and self._is_hurt(flow, *self._count_of(flow, kind, part), level):
                    self.hurt[flow, kind] = (look.cut - self._begin) / NANO
                    self.effects[flow][kind] = replace(self.effects[flow][kind], finding=Finding.HURT, why="")
                    self.not_hurt.pop(flow, None)
                    self.notes.append(sentences.late_harm(flow, seconds))

    def _note_resolution(self, look: Look) -> None:
        """Says which harm *not hurt* cannot exclude: clusters so rare that the watch may have missed all of them."""
        missed = self._missed(look)
        if any(finding is Finding.NOT_HURT for finding in map(self.finding, self.judged)):
            self.notes.append(sentences.unseen_clusters(look.seconds, missed))
        pulses = sum(len(contrast.after) for contrast in look.fault_only)
        if self.expectation.fault_shape is FaultShape.PULSE:
            few = pulses < _REPEATS
            margin = self.thresholds.pulse_margin if few else self.thresholds.pulses_margin
            self.notes.append(sentences.unseen_in_pulses(pulses, margin, few=few))

    def _missed(self, look: Look) -> float:
        """Length of clusters (s) at the margin of errors of which none may show in the watch, with chance 1 %."""
        return look.seconds * self.thresholds.errors_margin / -math.log(self.thresholds.pulse_alpha)

    def _withdraw_own_slowness(self, look: Look) -> None:
        """Takes back *hurt* by slowness of a held fault that did not come and go with it, or was not there meanwhile.

        A server that switches between two speeds for seconds at a time does so without a fault, and a short baseline
        need not have seen it. That it does so within half a second of the begin and of the undo, and not in between, is
        rare.
        """
        if self.expectation.fault_shape is not FaultShape.HELD or self.view.until <= self._fault_end + NANO:
            return
        for flow in self.reported:
            if (flow, EffectKind.SLOW) not in self.hurt:
                continue
            if self._came_and_went(flow, look):
                if not self.expectation.shares.get(flow) and (flow, EffectKind.ERRORS) not in self.hurt:
                    self.notes.append(sentences.slower_meanwhile(flow))
            else:
                del self.hurt[flow, EffectKind.SLOW]
                effect = self.effects[flow][EffectKind.SLOW]
                self.effects[flow][EffectKind.SLOW] = replace(
                    effect, finding=Finding.INCONCLUSIVE, why=sentences.own_slowness(effect.change)
                )

    def _came_and_went(self, flow: Flow, look: Look) -> bool:
        begin, half = self._begin, NANO // 2
        undone = max(self._fault_end, self.view.evidence.restored or 0)
        series = self.series[flow]

        def share(start: int) -> float:
            tally = series.tally(EffectKind.SLOW, Contrast((), (Window(WindowKind.FAULT, start, start + half),)), _ALL)
            return tally.events1 / tally.n1 if tally.n1 else math.nan

        before, early = share(begin - half), share(begin)
        late, after = share(self._fault_end - half), share(undone + half)
        rise = self.effects[flow][EffectKind.SLOW].change / 2
        if not (early - before > rise and late - after > rise):
            return False
        usual = self.effects[flow][EffectKind.SLOW].baseline
        pieces = [share(start) - usual > rise for start in range(begin, self._fault_end - half + 1, half)]
        return sum(pieces) >= _MOST_OF_HOLD * len(pieces)

    @property
    def _fault_end(self) -> int:
        return max(w.end for w in self.view.windows_of(WindowKind.FAULT))

    def _return(self, flow: FlowVerdict) -> tuple[Verdict, str] | None:
        """What a flow's return, or its absence, says against the system; None when it is back, or that is not asked."""
        match flow.after_undo:
            case Return.NOT_BACK:
                return Verdict.FAIL, sentences.not_back(flow, self.thresholds)
            case Return.HURT_BY_UNDO:
                return Verdict.FAIL, sentences.hurt_by_undo(flow)
            case Return.UNKNOWN:
                return Verdict.INCONCLUSIVE, sentences.not_seen_back(flow, self.thresholds)
        return None

    def _origin(self) -> int:
        ends = [w.end for w in self.view.windows_of(WindowKind.FAULT)]
        restored = self.view.evidence.restored
        return max(ends) if restored is None else max(restored, self._begin)

    def _flow_verdict(self, flow: FlowVerdict) -> tuple[Verdict, str]:
        """Whether one flow's finding is what the model said, and the clause that says so."""
        share = flow.expected_share or 0.0
        if flow.finding is Finding.INCONCLUSIVE:
            return Verdict.INCONCLUSIVE, sentences.cannot_tell(flow)
        if share <= 0:
            if flow.finding is Finding.NOT_HURT:
                return Verdict.PASS, sentences.rightly_not_hurt(flow)
            return Verdict.FAIL, sentences.wrongly_hurt(flow)
        if flow.finding is Finding.NOT_HURT:
            return Verdict.FAIL, sentences.wrongly_not_hurt(flow)
        wanted = [flow.errors if kind is EffectKind.ERRORS else flow.slow for kind in self.expectation.harm.kinds]
        if not any(effect.finding is Finding.HURT for effect in wanted):
            sure = all(effect.finding is Finding.NOT_HURT for effect in wanted)
            opinion = Verdict.FAIL if sure else Verdict.INCONCLUSIVE
            return opinion, sentences.hurt_otherwise(flow, self.expectation.harm)
        if self.expectation.fault_shape is not FaultShape.GRADUAL:
            least, most = tolerated(share, self.thresholds.share_slack)
            value, low, high = flow.affected
            if contradicts(share, low, high, self.thresholds.share_slack):
                return Verdict.FAIL, sentences.wrong_amount(flow, least, most)
            if not least <= value <= most:
                return Verdict.INCONCLUSIVE, sentences.wrong_amount(flow, least, most)
        return Verdict.PASS, sentences.rightly_hurt(flow)

    def _measures(self, flows: Sequence[FlowVerdict]) -> dict[str, Measure]:
        found: dict[str, Measure] = {}
        hurt = [flow for flow in flows if flow.finding is Finding.HURT and flow.expected_share]
        if hurt:
            detected = max(flow.decided_after or 0.0 for flow in hurt)
            earlier = [seconds for seconds in (0.0, *self.thresholds.looks) if seconds < detected]
            found["time to detect"] = Measure(detected, max(earlier, default=0.0), detected, "s")
            found |= self._measures_of_harm([flow.flow for flow in hurt])
        bystanders = [flow for flow in flows if flow.expected_share == 0]
        for kind in EffectKind:
            effects = [flow.errors if kind is EffectKind.ERRORS else flow.slow for flow in bystanders]
            if effects:
                worst = max(effects, key=lambda effect: effect.change)
                found[f"worst bystander {kind.value}"] = Measure(worst.change, worst.low, worst.high, "share")
        return found

    def _measures_of_harm(self, hurt: Sequence[Flow]) -> dict[str, Measure]:
        """What the fault cost these flows together; of a pulse over its repeats, without the time in which its target
        was replaced."""
        if not self._is_pulse:
            costs = _costs([self.series[flow] for flow in hurt], self._begin, self._origin(), self.view.until)
            if self.expectation.fault_shape is FaultShape.GRADUAL:  # of what comes and goes it says nothing
                costs.pop("outage", None)
            return costs
        pulses, watches = self.view.windows_of(WindowKind.FAULT), self.view.windows_of(WindowKind.RECOVERY)
        each: list[dict[str, Measure]] = []
        for number, pulse in enumerate(pulses):
            ends = [watch.end for watch in watches if watch.begin >= pulse.end][:1]
            until = min([self.view.until, *ends, *(later.begin for later in pulses[number + 1 : number + 2])])
            each.append(_costs([self.series[flow] for flow in hurt], pulse.begin, pulse.end, until))
        name = self.view.evidence.fault.replace("-", " ") or "pulse"
        return {
            kind: measures.over_repeats([costs[kind] for costs in each], name)
            for kind in each[0]
            if all(kind in costs for costs in each)
        }


def _costs(series: Sequence[Series], begin: int, origin: int, until: int) -> dict[str, Measure]:
    """Requests lost by all flows together, their longest outage, and the time until the last was back (none when one
    was not)."""
    found: dict[str, Measure] = {}
    back = [measures.recovered_after(one, origin, until) for one in series]
    known = [one for one in back if one is not None]
    if len(known) == len(series):
        found["time to recover"] = max(known, key=lambda measure: measure.value)
    each = [measures.requests_lost(one, begin, origin, after, until) for one, after in zip(series, back, strict=True)]
    if out := [gap for one in series if (gap := measures.outage(one, [begin], until)) is not None]:
        found["outage"] = max(out, key=lambda measure: measure.value)
    lost = [one for one in each if one is not None]
    if lost:
        found["requests lost"] = Measure(
            sum(m.value for m in lost), sum(m.low for m in lost), sum(m.high for m in lost), "requests"
        )
    return found


def _parts(window: Window) -> tuple[Window | None, list[Window]]:
    """(the first 1.5 s of a window, its stretches of 4.5 s, one each 1.5 s); of a shorter window none."""
    length, step = round(_LATE_SECONDS[0] * NANO), round(_ONSET_SECONDS * NANO)
    if window.end - window.begin < length:
        return None, []
    begins = range(window.begin, window.end - length + 1, step)
    return Window(window.kind, window.begin, window.begin + step), [
        Window(window.kind, begin, begin + length) for begin in begins
    ]


def _change(counts: Sequence[tuple[Count, Count]]) -> float:
    total = sum(after.n for _, after in counts)
    return sum(after.n / total * (after.share - before.share) for before, after in counts) if total else 0.0
