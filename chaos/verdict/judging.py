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
from dataclasses import dataclass

from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, WindowKind
from chaos.verdict import measures, sentences
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
from chaos.verdict.proportions import Count, stratified
from chaos.verdict.quantiles import shifts
from chaos.verdict.tally import Look, Pair, Series, Tally, plan_looks


def judge(
    view: HistoryView, expectation: Expectation, thresholds: Thresholds | None = None, *, look: int | None = None
) -> Judgement:
    """The judgement of a history.

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
    problem = detect_unfit(view, expectation, thresholds)
    if problem:
        return _unknown(problem, done=False)
    looks = plan_looks(view, expectation.fault_shape, thresholds, last=last)
    if not looks:
        return _unknown(f"no look yet: {sentences.first_look(expectation.fault_shape, thresholds)}", done=False)
    court = Court(view, expectation, thresholds)
    for look in looks:
        court.sit(look)
        if court.decided:
            break
    return court.pronounce()


def detect_unfit(view: HistoryView, expectation: Expectation, thresholds: Thresholds) -> str:
    """Why this history cannot be judged at all; empty when it can."""
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
        if flow not in view.flows or not len(view.flows[flow]):
            return f"{flow} made no request"
        series = Series(view, flow, thresholds)
        count = int(series.within(baseline).sum())
        if count < thresholds.baseline_requests:
            return f"{flow} made {count} requests in the baseline, {thresholds.baseline_requests} are needed"
        if not len(series.baseline_latency):
            return f"{flow} had no answered request in the baseline"
    if not view.evidence.effect_seen:
        return "the fault was not seen to act: no evidence of its effect"
    return ""


def contradicts(share: float, low: float, high: float, slack: float) -> bool:
    """Whether the affected share, known to lie in [low, high], clearly belies the expected one.

    It does below share x slack, and above 1 - (1 - share) x slack: with slack a quarter, half the pairs behind the
    target means between 12.5 and 87.5 % of the requests. Wide on purpose: reconnections, pooled connections and the
    edges of a window move the share, while a wrong model of sharing says 0 or 1 where the other is true.
    """
    return high < share * slack or low > 1 - (1 - share) * slack


_Key = tuple[Flow, EffectKind]


@dataclass(frozen=True, slots=True)
class _Bench:
    """One effect on one flow at one look: its counts, and what stands against a claim."""

    kind: EffectKind
    acute: tuple[Tally, ...]
    firm: tuple[Tally, ...]  # acute, of what can be held against the system
    whole: tuple[Tally, ...]
    inflation: float  # in the acute windows and before
    whole_inflation: float  # in the whole windows and before: a pulse's own outage is a burst in it
    allowance: float  # rise that the machine may have caused, by the sentinel
    obstacle: str  # why neither claim can be made
    trouble: str  # why requests that ran out of time are no evidence of harm

    def firm_counts(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.inflation), t.after(self.inflation)) for t in self.firm]

    def acute_counts(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.inflation), t.after(self.inflation)) for t in self.acute]

    def acute_at_worst(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.inflation), t.after_at_worst(self.inflation)) for t in self.acute]

    def whole_at_worst(self) -> list[tuple[Count, Count]]:
        return [(t.before(self.whole_inflation), t.after_at_worst(self.whole_inflation)) for t in self.whole]


class Court:
    """The state of a judgement from look to look. One per call of `judge`; no state outlives it."""

    def __init__(self, view: HistoryView, expectation: Expectation, thresholds: Thresholds) -> None:
        self.view, self.expectation, self.thresholds = view, expectation, thresholds
        self.series = {flow: Series(view, flow, thresholds) for flow in view.flows if len(view.flows[flow])}
        self.judged = [flow for flow in expectation.shares if flow not in expectation.exempt]
        self.reported = self.judged + sorted(flow for flow in expectation.exempt if flow in self.series)
        self.sentinels = [flow for flow in self.series if flow.sentinel]
        self.hurt: dict[tuple[Flow, EffectKind], float] = {}  # seconds after the fault's begin
        self.not_hurt: dict[Flow, float] = {}
        self.trouble: dict[Flow, str] = {}  # of the machine, since the look at which it showed
        self.effects: dict[Flow, dict[EffectKind, Effect]] = {}
        self.look: Look | None = None
        self.notes: list[str] = []
        if not self.sentinels:
            self.notes.append("no sentinel flow: the machine's own trouble cannot be told from harm")

    @property
    def decided(self) -> bool:
        """A further look is not needed: every judged flow has its finding, of the kind that was asked."""
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

    def finding(self, flow: Flow) -> Finding:
        if any((flow, kind) in self.hurt for kind in EffectKind):
            return Finding.HURT
        return Finding.NOT_HURT if flow in self.not_hurt else Finding.INCONCLUSIVE

    def sit(self, look: Look) -> None:
        """Takes one look: tests all flows, and remembers."""
        self.look = look
        seconds = (look.cut - self._begin) / NANO
        for flow in self.reported:
            if trouble := self._trouble(flow, look):
                self.trouble.setdefault(flow, trouble)
        benches = {(flow, kind): self._bench(flow, kind, look) for flow in self.reported for kind in EffectKind}
        for key in self._claims_of_hurt(benches, look):
            self.hurt.setdefault(key, seconds)
        for flow in self.reported:
            self.effects[flow] = {kind: self._effect(flow, benches[flow, kind], look) for kind in EffectKind}
            if all(effect.finding is Finding.NOT_HURT for effect in self.effects[flow].values()):
                self.not_hurt.setdefault(flow, seconds)
            else:
                self.not_hurt.pop(flow, None)

    def _bench(self, flow: Flow, kind: EffectKind, look: Look) -> _Bench:
        series = self.series[flow]
        acute = firm = tuple(series.tally(kind, pair, look.cut) for pair in look.acute)
        if trouble := self.trouble.get(flow, ""):
            firm = tuple(series.tally(kind, pair, look.cut, timeouts=False) for pair in look.acute)
        grade = series.inflation(kind, look.acute, look.cut)
        whole, whole_grade = acute, grade
        if look.whole != look.acute:
            whole = tuple(series.tally(kind, pair, look.cut) for pair in look.whole)
            whole_grade = series.inflation(kind, look.whole, look.cut)
        obstacle = self._obstacle(flow, kind, look, acute)
        return _Bench(
            kind, acute, firm, whole, grade, whole_grade, self._allowance(flow, kind, look), obstacle, trouble
        )

    def _obstacle(self, flow: Flow, kind: EffectKind, look: Look, acute: Sequence[Tally]) -> str:
        fewest, need = min((t.most_n1 for t in acute), default=0), self.thresholds.window_requests
        if fewest < need:
            return f"{fewest} requests in the fault window, {need} are needed"
        return self._lateness(flow, look) if kind is EffectKind.SLOW else ""

    def _lateness(self, flow: Flow, look: Look) -> str:
        late = self.series[flow].late_share([w for pair in look.whole for w in (*pair.before, *pair.after)])
        if late > self.thresholds.late_share:
            return f"the loader itself was late for {late:.0%} of the requests"
        return ""

    def _trouble(self, flow: Flow, look: Look) -> str:
        """Whether the machine was so slow that requests ran out of time by it: empty when it was not.

        A proxy that a stall has driven into time-outs stays there when the machine is well again (each of them costs
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
        for sentinel in self.sentinels:
            if sentinel.client != flow.client:
                continue
            tallies = [self.series[sentinel].tally(kind, pair, look.cut) for pair in look.acute]
            if min(t.n1 for t in tallies) >= self.thresholds.window_requests and min(t.n0 for t in tallies) > 0:
                worst = max(worst, _change([(t.before(1.0), t.after(1.0)) for t in tallies]))
        return worst

    def _claims_of_hurt(self, benches: Mapping[_Key, _Bench], look: Look) -> list[_Key]:
        """Holm's step-down over the family of judged flows and effects; exempt flows are tested without a family."""
        level = self.thresholds.alpha / look.parts
        family = [key for key in benches if key[0] in self.judged]
        claimed = [key for key in benches if key not in family and self._is_hurt(benches[key], level)]
        remaining = list(family)
        while remaining:
            found = [key for key in remaining if self._is_hurt(benches[key], level / len(remaining))]
            if not found:
                break
            claimed += found
            remaining = [key for key in remaining if key not in found]
        return claimed

    def _is_hurt(self, bench: _Bench, alpha: float) -> bool:
        margin = self.thresholds.margin(bench.kind) + bench.allowance
        counts = bench.firm_counts()
        if bench.obstacle or _change(counts) <= margin:
            return False
        if len(counts) > 1 and any(after.share <= before.share for before, after in counts):
            return False  # a switchback must show it in each of its pairs: drift does not come and go with the fault
        return stratified(counts, alpha, self.thresholds.limits)[0] > margin

    def _is_not_hurt(self, bench: _Bench, look: Look) -> str:
        """Why *not hurt* cannot be claimed; empty when it can."""
        if bench.obstacle:
            return bench.obstacle
        thresholds, margin = self.thresholds, self.thresholds.margin(bench.kind)
        counts = bench.whole_at_worst()
        high = stratified(counts, thresholds.alpha * look.spent, thresholds.limits)[1]
        if high >= margin:
            return sentences.too_wide(bench.kind, _change(counts), high, margin)
        if self.expectation.fault_shape is FaultShape.PULSE and bench.kind in self.expectation.harm.kinds:
            if not look.pulse_over:
                return "the pulse is not over"
            counts = bench.acute_at_worst()
            high = stratified(counts, thresholds.alpha, thresholds.limits)[1]
            if high >= thresholds.pulse_margin:
                return "in the pulse " + sentences.too_wide(bench.kind, _change(counts), high, thresholds.pulse_margin)
        return ""

    def _effect(self, flow: Flow, bench: _Bench, look: Look) -> Effect:
        thresholds = self.thresholds
        level = thresholds.alpha / look.parts
        why = ""
        if (flow, bench.kind) in self.hurt:
            finding = Finding.HURT
        else:
            why = self._is_not_hurt(bench, look)
            finding = Finding.INCONCLUSIVE if why else Finding.NOT_HURT
        margin = thresholds.margin(bench.kind)
        counts = bench.acute_counts()
        if why and bench.allowance and _change(counts) > margin:
            why = sentences.machine_trouble(bench.kind, _change(counts), bench.allowance / thresholds.sentinel_factor)
        elif why and bench.trouble and _change(counts) > margin:
            why = sentences.ran_out_of_time(bench.kind, _change(counts), _change(bench.firm_counts()), bench.trouble)
        family = max(1, 2 * len(self.judged))
        low = stratified(bench.firm_counts(), level / family, thresholds.limits)[0]
        worst = bench.acute_at_worst() if finding is Finding.HURT else bench.whole_at_worst()
        high = stratified(worst, thresholds.alpha * look.spent, thresholds.limits)[1]
        n0, n1 = sum(t.n0 for t in bench.acute), sum(t.n1 for t in bench.acute)
        change = _change(counts)
        before = sum(t.hits0 for t in bench.acute) / n0 if n0 else math.nan
        after = sum(t.hits1 for t in bench.acute) / n1 if n1 else math.nan
        return Effect(
            bench.kind,
            finding,
            change,
            low,
            max(high, change),
            before,
            after,
            n0,
            n1,
            n1 / bench.inflation,
            bench.inflation,
            why,
        )

    # What is said in the end

    def pronounce(self) -> Judgement:
        look = self.look
        assert look is not None
        flows = tuple(self._flow_verdict(flow, look) for flow in self.reported)
        opinions = [self._opinion(verdict) for verdict in flows if verdict.expected_share is not None]
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
        )

    def _flow_verdict(self, flow: Flow, look: Look) -> FlowVerdict:
        series, thresholds = self.series[flow], self.thresholds
        errors, slow = (self.effects[flow][kind] for kind in EffectKind)
        finding = self.finding(flow)
        why = "" if finding is not Finding.INCONCLUSIVE else "; ".join(e.why for e in (errors, slow) if e.why)
        tallies = [series.affected(pair, look.cut) for pair in look.acute]
        counts = [(t.before(errors.inflation), t.after(errors.inflation)) for t in tallies]
        affected = (_change(counts), *stratified(counts, thresholds.alpha, thresholds.limits))
        times = [self.hurt[flow, kind] for kind in EffectKind if (flow, kind) in self.hurt]
        decided = min(times) if times else self.not_hurt.get(flow)
        origin = self._origin()
        curve = measures.recovery_curve(series, origin, self.view.until)
        back = measures.recovered_after(series, origin, self.view.until) if finding is Finding.HURT else None
        answered = ~series.errors & ~series.late & (series.done <= look.cut)
        during = series.latency[series.within([w for pair in look.acute for w in pair.after]) & answered]
        shift = shifts(series.baseline_latency, during, resamples=thresholds.bootstrap)
        lost = measures.requests_lost(series, self._begin, origin, back, self.view.until)
        share = None if flow in self.expectation.exempt else self.expectation.shares[flow]
        return FlowVerdict(
            flow, share, finding, errors, slow, affected, series.tau, lost, decided, back, curve, shift, why
        )

    def _origin(self) -> int:
        ends = [w.end for w in self.view.windows_of(WindowKind.FAULT)]
        restored = self.view.evidence.restored
        return max(ends) if restored is None else max(restored, self._begin)

    def _opinion(self, flow: FlowVerdict) -> tuple[Verdict, str]:
        """Whether one flow's finding is what the model said, and the clause that says so."""
        share = flow.expected_share or 0.0
        if flow.finding is Finding.INCONCLUSIVE:
            return Verdict.INCONCLUSIVE, sentences.cannot_tell(flow)
        if share <= 0:
            if flow.finding is Finding.NOT_HURT:
                return Verdict.PASS, sentences.spared(flow)
            return Verdict.FAIL, sentences.wrongly_hurt(flow)
        if flow.finding is Finding.NOT_HURT:
            return Verdict.FAIL, sentences.wrongly_spared(flow)
        wanted = [flow.errors if kind is EffectKind.ERRORS else flow.slow for kind in self.expectation.harm.kinds]
        if not any(effect.finding is Finding.HURT for effect in wanted):
            sure = all(effect.finding is Finding.NOT_HURT for effect in wanted)
            opinion = Verdict.FAIL if sure else Verdict.INCONCLUSIVE
            return opinion, sentences.hurt_otherwise(flow, self.expectation.harm)
        if self.expectation.fault_shape is not FaultShape.GRADUAL and contradicts(
            share, flow.affected[1], flow.affected[2], self.thresholds.share_slack
        ):
            return Verdict.FAIL, sentences.wrong_amount(flow)
        return Verdict.PASS, sentences.rightly_hurt(flow)

    def _measures(self, flows: Sequence[FlowVerdict]) -> dict[str, Measure]:
        found: dict[str, Measure] = {}
        hurt = [flow for flow in flows if flow.finding is Finding.HURT and flow.expected_share]
        if hurt:
            detected = max(flow.decided_after or 0.0 for flow in hurt)
            earlier = [seconds for seconds in (0.0, *self.thresholds.looks) if seconds < detected]
            found["time to detect"] = Measure(detected, max(earlier, default=0.0), detected, "s")
            back = [flow.recovered_after for flow in hurt if flow.recovered_after is not None]
            if len(back) == len(hurt):
                found["time to recover"] = max(back, key=lambda measure: measure.value)
            lost = [flow.requests_lost for flow in hurt if flow.requests_lost is not None]
            found["requests lost"] = Measure(
                sum(m.value for m in lost), sum(m.low for m in lost), sum(m.high for m in lost), "requests"
            )
        spared = [flow for flow in flows if flow.expected_share == 0]
        for kind in EffectKind:
            effects = [flow.errors if kind is EffectKind.ERRORS else flow.slow for flow in spared]
            if effects:
                worst = max(effects, key=lambda effect: effect.change)
                found[f"worst bystander {kind.value}"] = Measure(worst.change, worst.low, worst.high, "share")
        return found


def _change(counts: Sequence[tuple[Count, Count]]) -> float:
    total = sum(after.n for _, after in counts)
    return sum(after.n / total * (after.share - before.share) for before, after in counts) if total else 0.0


__all__ = ["Court", "Pair", "contradicts", "detect_unfit", "judge"]
