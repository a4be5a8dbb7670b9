"""One trial: one mode, one scenario, one seed. Its log, its expectation, its looks, and its result.

How a fault is laid out in time is in `chaos.engine.designs`, whom it hits in `chaos.engine.targets`. The history is
saved before it is judged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import urllib3

from chaos.chance import Seed
from chaos.engine.deployment import Deployment, detect_contradictions
from chaos.engine.outcome import combined, judgement_of, measures_of
from chaos.engine.outside import FROM_OUTSIDE, detect_deleted, detect_outside, read_nodes_of, read_situation
from chaos.engine.progress import Progress
from chaos.engine.restarts import apart, compare_restarts, container_snapshot
from chaos.engine.targets import WHOLE_POD, Excused, excused_by
from chaos.engine.targets import described as describe
from chaos.engine.topology import REQUEST_TIMEOUT, TenantLoad
from chaos.engine.witness import SecondWitness
from chaos.errors import ExperimentFailure, NoEffect, SharedfateError
from chaos.faults.injection import injected
from chaos.faults.model import Fault, Receipt, Target
from chaos.history.model import Event, EventKind, Outcome, Samples
from chaos.history.result import VERDICTS, TrialResult
from chaos.history.spans import SpanKind
from chaos.history.store import HistoryWriter
from chaos.kube.objects import has_condition
from chaos.load.collector import Collector, Loader, Rate
from chaos.load.feed import LostSamples
from chaos.model.fate import flow_shares, may_move
from chaos.model.faulting import FaultPhase, FaultShape
from chaos.model.flow import Flow, WindowKind
from chaos.model.placement import Placement, Proxy
from chaos.verdict import (
    Expectation,
    Finding,
    Harm,
    HistoryView,
    Judgement,
    Measure,
    Thresholds,
    Verdict,
    judge,
    view_of,
)
from chaos.verdict.check import Check, decided, undecided
from chaos.verdict.measures import over_repeats

READY_AGAIN: Final = "ready again"
_LONGEST_BASELINE: Final = 120.0  # seconds: a slower load than what has its baseline by then is refused
_PATIENCE: Final = 35.0  # seconds until the pace of a load is believed
_ANSWER_POLL: Final = 50_000_000  # ns
_LIVE_SAMPLES: Final = 40_000  # the last ones, that the live line counts: about a minute of the reference load


class TrialFailed(AssertionError):
    """The judge said fail: the sentence, the numbers, and where the history is."""


class TrialInconclusive(AssertionError):
    """The judge could not decide."""


@dataclass(slots=True)
class Injection:
    """A fault in force, by its receipts; when it was seen to be undone (ns), 0 before that."""

    receipts: tuple[Receipt, ...] = ()
    restored_at: int = 0

    @property
    def begin(self) -> int:
        """The instant of the first effect, ns."""
        return min(receipt.injected_at for receipt in self.receipts)


def summary(result: TrialResult) -> str:
    """Return a trial's result as it is shown once it is known: `as predicted; hurt: tenant-a`. Pure."""
    words = VERDICTS[result.verdict]
    if not result.predicted["hurt"] and not result.predicted["unhurt"]:
        return words  # of nobody's harm anything was predicted
    hurt = sorted({flow.partition("/")[0] for flow in result.observed["hurt"]})
    return f"{words}; hurt: {', '.join(hurt) or 'nobody'}"


def detect_too_few(made: Mapping[str, int], need: int, *, elapsed: float) -> str:
    """Return why no baseline of every flow can be had at the pace of the slowest; "" while it can. Pure.

    Args:
        made: requests of each flow so far.
        need: requests of each that a baseline has.
        elapsed: seconds so far.
    """
    if elapsed < _PATIENCE or not made:
        return ""
    flow, count = min(made.items(), key=lambda item: item[1])
    if count * _LONGEST_BASELINE >= need * elapsed:
        return ""
    least = math.ceil(need / _LONGEST_BASELINE)
    return (
        f"{flow} made {count} requests in {elapsed:.0f} s, and a baseline is {need}: is its load running? It needs "
        f"at least {least} requests a second"
    )


def detect_unseeing(
    tenants: Iterable[TenantLoad], shares: Mapping[tuple[str, str], float], shape: FaultShape
) -> frozenset[Flow]:
    """Return the flows behind a fault that would not see it, by how they are loaded: connections that are only accepted
    end well as long as a process lives, whatever it does. Pure.
    """
    if shape is FaultShape.PULSE:  # a process that is gone refuses, or what stands before it closes
        return frozenset()
    calls = [(tenant.client, tenant.server) for tenant in tenants if tenant.accepted_only]
    return frozenset(Flow(*call) for call in calls if shares.get(call))


class Trial:
    """What a scenario is given. `directory` takes the history and the result."""

    def __init__(
        self,
        deployment: Deployment,
        scenario: str,
        directory: Path,
        *,
        seed: Seed,
        progress: Progress,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.deployment = deployment
        self.mesh = deployment.mesh
        self.cluster = deployment.cluster
        self.spans = deployment.spans
        self.scenario = scenario
        self.directory = directory
        self.seed = seed
        self.progress = progress
        self.thresholds = thresholds or Thresholds()
        self.placement: Placement = deployment.placement()
        self.expectation: Expectation | None = None
        self.doubts: list[str] = []  # why the trial cannot be judged, whatever its flows say
        self.unrestored: list[str] = []  # what an undo did not restore: the trial fails, whatever its flows say
        self.checks: list[Check] = []  # of a trial that shows claims instead of breaking something
        self.judgement: Judgement | None = None
        self.targets: dict[str, None] = {}  # what was broken, as the result names it
        self.began = time.time_ns()
        self.since = deployment.steady.undisturbed  # what earlier trials did to the load is no noise of the machine
        self.unexpected_restarts: list[str] = []
        self.measures: dict[str, Measure] = {}  # that a design takes besides the judge's
        self._ready: list[Measure] = []  # of each kill: how long until its container was ready again
        self.pairs_done = 0  # on/off pairs of a gradual fault
        self.excused: set[Excused] = set()  # what the model expects to restart
        self.nobody_at_risk = ""  # why no claim about sharing can pass
        self._first_fault = 0  # ns: when its effect was seen
        self._looked_at = 0  # ns: when the last look was taken
        self._restored = 0  # ns: when the last fault was seen to be undone
        directory.mkdir(parents=True, exist_ok=True)
        stated = {"mode": self.mesh.mode.name, "scenario": scenario, "seed": seed.value}
        self._writer = HistoryWriter(directory, {**stated, "run": deployment.run})
        self._before = container_snapshot(self.cluster, deployment.namespaces)
        self._situation = read_situation(self.cluster, deployment.namespaces)
        self._acts_on_nodes = False
        self._from_outside: list[str] = []
        self._recording = ExitStack()
        if deployment.recorder is not None:
            self._recording.enter_context(deployment.recorder.into(self._writer))
        self._collector = Collector(
            self.cluster,
            deployment.loaders(),
            self._writer,
            every=deployment.settings.every,
            own_servers=deployment.own_servers,
            detail=deployment.settings.history,
        )
        self.note(EventKind.TRIAL, stated)
        self.note(
            EventKind.PLACEMENT,
            {
                "pods": [pod.as_dict() for pod in self.placement.pods],
                "proxies": [proxy.as_dict() for proxy in self.placement.proxies],
            },
        )

        for sentence in deployment.contradictions:
            self.note(EventKind.NOTE, {"contradicted": sentence})

    # ---- the log

    def note(self, kind: EventKind, data: Mapping[str, Any], *, at: int | None = None) -> None:
        """Add an event to the history."""
        self._writer.event(kind, data, at=at)

    def window(self, kind: WindowKind, begin: int, end: int | None, why: str) -> None:
        self.note(EventKind.WINDOW, {"kind": str(kind), "begin": begin, "end": end, "why": why})

    # ---- what the model says

    def expect_fate_of(
        self, *proxies: Proxy, shape: FaultShape, harm: Harm = Harm.EITHER, exempt: Sequence[Flow] = ()
    ) -> Expectation:
        """Expect harm to exactly the flows with pairs behind the proxies, by their share. Flows whose clients may move
        to other paths are exempt, as are those behind that would not see a hang: connections that are only accepted.

        Args:
            shape: of the fault that will break them.
        """
        shares = flow_shares(self.placement, proxies)
        exempt_flows = frozenset(exempt) | {Flow(*call) for call in may_move(self.placement, proxies)}
        unseeing = detect_unseeing(self.deployment.tenants, shares, shape)
        exempt_flows |= unseeing
        expectation = self.expect(
            {Flow(*call): share for call, share in shares.items()}, shape=shape, harm=harm, exempt=exempt_flows
        )
        if proxies and self.mesh.mode.hops and not any(shares.values()):
            self.nobody_at_risk = f"no flow passes {', '.join(map(str, proxies))}"
        elif unseeing and all(Flow(*call) in exempt_flows for call, share in shares.items() if share):
            self.nobody_at_risk = (
                f"{', '.join(map(str, sorted(unseeing)))}: its connections are only accepted, which a proxy or a "
                "kernel does for whoever hangs behind it: say what to send, or what answer to await"
            )
        return expectation

    def expect(
        self, shares: Mapping[Flow, float], *, shape: FaultShape, harm: Harm = Harm.EITHER, exempt: Iterable[Flow] = ()
    ) -> Expectation:
        """Expect harm to exactly the flows with a share, by it; of exempt ones nothing."""
        self.expectation = Expectation(shares, exempt=frozenset(exempt), harm=harm, fault_shape=shape, recovery=True)
        stated = {"expectation": self.expectation.as_dict(), "thresholds": self.thresholds.as_dict()}
        self._writer.note(since=self.since, **stated)
        return self.expectation

    def show(self, check: Check) -> None:
        """Record a check. A trial with checks needs no expectation: its verdict is the worst of theirs."""
        self.progress.step(f"{self.name}: {check}")
        self.note(
            EventKind.NOTE,
            {
                "check": check.name,
                "verdict": str(check.verdict),
                "sentence": check.sentence,
                "value": check.value,
                "unit": check.unit,
            },
        )
        self.checks.append(check)

    def without_effect(self, error: NoEffect) -> None:
        """Record that the fault was not seen to act: nobody was at risk, so the trial is inconclusive."""
        self.expectation = None
        self.show(undecided("effect", str(error)))

    def not_recovered(self, failures: Sequence[str]) -> None:
        """Record that an undo did not restore what it should: the trial fails."""
        self.unrestored += failures
        if self.expectation is None:
            self.show(decided("recovery", False, "; ".join(failures)))

    # ---- the course of a trial

    def baseline(self) -> None:
        """Give every flow its baseline: seconds and requests as the thresholds ask, of the time since flows are
        healthy.
        """
        self.progress.step(f"{self.name}: baseline")
        begin, need = self._measure_steady_load(), self.thresholds

        def enough() -> bool:
            self._show()
            if time.time_ns() - begin < need.baseline_seconds * 1e9:
                return False
            counts = self._writer.by_flow().made_since(begin)
            made = {str(flow): counts.get(flow, 0) for flow in self.deployment.flows}
            if why := detect_too_few(made, need.baseline_requests, elapsed=(time.time_ns() - begin) / 1e9):
                raise ExperimentFailure(f"{self.name}: {why}")
            return all(count >= need.baseline_requests for count in made.values())

        with self.spans.span("baseline", SpanKind.OBSERVATION):
            self.cluster.wait("a baseline of every flow", enough, seconds=2 * _LONGEST_BASELINE, every=0.1)
        self.window(WindowKind.BASELINE, begin, time.time_ns(), "enough requests of each flow")

    def _measure_steady_load(self) -> int:
        """Write into the header since when the load is steady; return from where the baseline is read."""
        self._collector.poll_now()
        failed = self._writer.by_flow().failed()
        self.since, begin = self.deployment.steady.measure(failed, seconds=self.thresholds.baseline_seconds)
        self._writer.note(since=self.since)
        return begin

    @contextmanager
    def fault(self, fault: Fault, *targets: Target, seconds: float = 60.0, described: str = "") -> Iterator[Injection]:
        """Inject, and undo on leaving; every phase, its evidence and the second witness's reading go into the history.

        Args:
            seconds: deadline, after which whoever sees the receipt undoes it.
            described: how the result names the target.
        """
        self.progress.step(f"{self.name}: {fault.name} {', '.join(map(str, targets))}")
        self.targets.update(dict.fromkeys([described] if described else map(describe, targets)))
        for target in targets:
            self.excused |= excused_by(self.cluster, fault, target)
        injection = Injection()

        def on_phase(phase: FaultPhase, receipt: Receipt) -> None:
            seen_at = {FaultPhase.INJECTED: receipt.injected_at, FaultPhase.RECOVERED: receipt.recovered_at}
            at = seen_at.get(phase, 0) or time.time_ns()
            facts = {"phase": phase.word, "at": at, "fault": receipt.fault, "target": str(receipt.target)}
            self.note(EventKind.FAULT, {**facts, "evidence": dict(receipt.evidence)}, at=at)
            if phase is FaultPhase.INJECTED and not self._first_fault:
                self._first_fault = at
            if phase is FaultPhase.RECOVERED:
                injection.restored_at = max(injection.restored_at, at)
                self._note_ready(receipt)
                self._restored = max(self._restored, at)
                self.deployment.mark_disturbed()

        self._acts_on_nodes |= any(target.kind == "node" for target in targets)
        witnesses = [SecondWitness(self.cluster, fault, target) for target in targets]
        for witness in witnesses:
            witness.before()
        with ExitStack() as undoing, ExitStack() as acting:
            with self.spans.span(f"inject {fault.name}", SpanKind.FAULT):
                injection.receipts = receipts = acting.enter_context(
                    injected(self.cluster, fault, *targets, run=self.deployment.run, seconds=seconds, on_phase=on_phase)
                )
            if fault.shape is FaultShape.PULSE:
                _ask_during(witnesses, receipts)
            try:
                yield injection
            finally:
                undoing.enter_context(self.spans.span(f"undo {fault.name}", SpanKind.FAULT))
            if fault.shape is not FaultShape.PULSE:
                _ask_during(witnesses, receipts)
        for witness in witnesses:
            self._hear(witness)

    def _note_ready(self, receipt: Receipt) -> None:
        """Measure when a killed container was ready again by the API: where its readiness is its pod's, callers have no
        endpoint until then, though it serves earlier.
        """
        if ready := int(receipt.evidence.get("ready_at", 0)):
            seconds = (ready - receipt.injected_at) / 1e9
            self._ready.append(Measure(seconds, seconds, seconds, "s"))
            self.measures[READY_AGAIN] = over_repeats(self._ready, "kill")

    def _hear(self, witness: SecondWitness) -> None:
        """Record whether the second witness saw the fault act."""
        witness.after(self.events())
        doubt = witness.doubt()
        self.note(
            EventKind.FAULT,
            {
                "phase": "witness",
                "fault": witness.fault.name,
                "target": str(witness.target),
                "witness": str(witness.fault.witness),
                "seen": not doubt,
                "doubt": doubt,
                "evidence": witness.seen,
            },
            at=witness.began,
        )
        if doubt:
            self.doubts.append(f"the fault was not seen to act: {doubt}")

    def recovery_origin(self) -> int:
        """The instant at which the last fault was seen to be undone, ns, from which recovery is measured; 0 for
        none.
        """
        return self._restored

    def restore_load(self, *tenants: TenantLoad) -> None:
        """Start the paused flows of these tenants again, slowly, and record how long their paths took to carry them;
        without tenants, restore the flows that do not recover by themselves.
        """
        for sentence in self.deployment.restore_load(tenants or None):
            self.note(EventKind.NOTE, {"healed": sentence})

    def end_recovery(self) -> None:
        """End the time after the last fault: what follows no longer belongs to it."""
        self._collector.poll_now()
        self.window(WindowKind.RECOVERY, self._restored, time.time_ns(), "undone, and seen so; a fresh pod comes")

    def end_watch(self, origin: int) -> None:
        """End the watch for the return of the flows with the look that was taken last: what was seen back then is not
        asked again of the moments that the trial takes to end.

        Args:
            origin: ns, from when on flows had to come back.
        """
        self.window(WindowKind.WATCH, origin, self._looked_at, "every flow was seen back, or the time for it is over")

    def renew(self, proxy: Proxy) -> Proxy:
        """Replace a proxy's pod by a fresh one, and return the proxy there, once every flow is healthy. A loader in
        that pod ends its requests before.

        Raises NotReady when no proxy comes that serves the same flows by the same shares.
        """
        self.progress.step(f"{self.name}: a fresh pod in place of {proxy}")
        deployment, shares = self.deployment, flow_shares(self.placement, [proxy])
        inside = [one for one in deployment.tenants if one.loader(self.cluster)["metadata"]["uid"] == proxy.uid]
        for tenant in inside:
            self._collector.retire(Loader(tenant.namespace, proxy.pod))
        old = {one.uid for one in self.placement.proxies}
        self.excused.add((proxy.uid, WHOLE_POD))
        self.cluster.delete("Pod", proxy.pod, proxy.namespace)

        def successor() -> Proxy | None:
            now = deployment.placement()
            for one in now.proxies:
                alike = (one.namespace, one.container, one.layers) == (proxy.namespace, proxy.container, proxy.layers)
                if alike and one.uid not in old and flow_shares(now, [one]) == shares:
                    pod = self.cluster.find("Pod", one.pod, one.namespace)
                    return one if pod is not None and has_condition(pod, "Ready") else None
            return None

        with self.spans.span("fresh pod", SpanKind.WAIT):
            found: Proxy = self.cluster.wait(
                f"a fresh pod in place of {proxy}, ready, that serves the same flows", successor, seconds=90, every=0.1
            )
        for tenant in inside:
            deployment.resume(tenant)
            self._collector.add(Loader(tenant.namespace, tenant.loader(self.cluster)["metadata"]["name"]))
        deployment.mark_disturbed()
        for sentence in deployment.restore_load():
            self.note(EventKind.NOTE, {"healed": sentence})
        self.placement = deployment.placement()
        fresh = container_snapshot(self.cluster, deployment.namespaces)
        gone = {key: one for key, one in self._before.items() if key[0] != proxy.uid}
        self._before = {**{key: one for key, one in fresh.items() if key[0] == found.uid}, **gone}
        self.note(EventKind.NOTE, {"renewed": str(proxy), "by": str(found)})
        return found

    def baseline_between(self, seconds: float) -> None:
        """Extend the baseline once the load was left alone for long enough."""
        with self.spans.span("load settles", SpanKind.WAIT):
            self.observe_until(self.deployment.steady.undisturbed)
        begin = time.time_ns()
        self.hold(seconds)
        self.window(WindowKind.BASELINE, begin, time.time_ns(), "steady load before the next repeat")

    def look_until_done(self, begin: int, *, least: float = 0.0, most: float = 0.0) -> Judgement:
        """Judge at each look of the schedule until nothing more can change; looks wait for samples, not for the clock.

        Args:
            least: seconds after `begin` until which the flows are watched, whatever the judge says before.
            most: seconds after `begin`, beyond which no look is taken; 0: all that the judge has.
        """
        expectation = self._expected()
        end = begin + int(least * 1e9)
        judgement: Judgement | None = None
        with self.spans.span("looks", SpanKind.OBSERVATION):
            for index, after in enumerate(self.thresholds.looks):
                instant = begin + int(after * 1e9)
                if judgement is not None and ((judgement.done and instant >= end) or (most and after > most)):
                    break
                if self._is_overtaken(begin, index, most):
                    continue
                self.observe_until(instant)
                judgement = judge(self.view(until=instant), expectation, self._quick, look=index)
                self.note(EventKind.LOOK, _look(index, judgement))
            self.observe_until(end)
        assert judgement is not None
        return judgement

    def _is_overtaken(self, begin: int, index: int, most: float) -> bool:
        """Whether the instant of the next look has passed: it takes this one too, and of many flows each takes time."""
        later = self.thresholds.looks[index + 1 : index + 2]
        return any(begin + int(after * 1e9) <= time.time_ns() for after in later if not most or after <= most)

    def hold(self, seconds: float) -> None:
        """Keep the load running for that long: the length of an observation, not a wait for an event."""
        with self.spans.span("hold", SpanKind.OBSERVATION):
            self.observe_until(time.time_ns() + int(seconds * 1e9))

    def look(self, *, shifts: bool = False) -> Judgement:
        """Judge the samples so far; of a switchback, its on/off pairs so far.

        Args:
            shifts: with the intervals of latency quantiles, which cost five times as much.
        """
        self._looked_at = until = time.time_ns()
        self._collector.poll_now()
        judgement = judge(self.view(until=until), self._expected(), self.thresholds if shifts else self._quick)
        self.note(EventKind.LOOK, _look(judgement.look, judgement))
        return judgement

    @property
    def _quick(self) -> Thresholds:
        """Return cheaper thresholds for looks at a live trial, which share the machine with the load."""
        return replace(self.thresholds, bootstrap=0)

    def view(self, until: int | None = None) -> HistoryView:
        """Return what the judge sees at that instant; by default at the last one of which anything is known."""
        pending = self._collector.pending()
        flows, events = self._writer.by_flow(), self._writer.events()
        if until is None:
            last = int(self._writer.tail(_LIVE_SAMPLES)["done"].max(initial=0))
            until = max(last, *(event.at for event in events))
        return view_of(flows, events, until=until, pending=pending, since=self.since)

    def samples_of(self, flow: Flow) -> Samples:
        """The samples of one flow so far, by when they fell due."""
        self._collector.poll_now()
        return self._writer.by_flow()[flow]

    def number_of_pod(self, name: str) -> int | None:
        """Return a pod's number in the samples, by `namespace/name`; None for one that never answered."""
        pods = self._writer.pods
        return pods.index(name) if name in pods else None

    def events(self) -> list[Event]:
        """The log so far."""
        return list(self._writer.events())

    def outside(self) -> list[str]:
        """Return what somebody else did since the trial began, a sentence each; nothing while the cluster is not
        reached.
        """
        try:
            now = read_nodes_of(self.cluster, self._situation)
        except (SharedfateError, urllib3.exceptions.HTTPError):
            return []
        whole = not self._acts_on_nodes
        proxies = {proxy.container for proxy in self.placement.proxies}
        found = detect_outside(self._situation, now, since=self.began / 1e9, proxies=proxies, nodes=whole)
        events = self.events()
        ours = {uid for uid, container in self.excused if container == WHOLE_POD}
        told = {str(event.data["uid"]): str(event.data["disrupted"]) for event in events if "disrupted" in event.data}
        others = [sentence for uid, sentence in told.items() if uid not in ours]
        asked = {str(event.data["deletion"]): str(event.data["asked"]) for event in events if "deletion" in event.data}
        deleted = detect_deleted(self._situation, now, told=asked, excused={*told, *ours})
        return [*found, *(others if whole else []), *(deleted if whole else [])]

    def interrupted(self, outside: Sequence[str], error: BaseException) -> TrialInconclusive:
        """Handle an error that somebody else's action explains: write the result, and return the error to raise."""
        self._collector.stop()
        reason = f"{FROM_OUTSIDE}: {'; '.join(outside)} (the trial ended there: {' '.join(str(error).split())})"
        self._write_result(
            Verdict.INCONCLUSIVE,
            reason,
            predicted={"hurt": [], "unhurt": []},
            observed={"hurt": [], "unhurt": [], "inconclusive": []},
            measures={},
            judgement={"flows": [], "notes": [], "verdict": str(Verdict.INCONCLUSIVE), "reason": reason},
        )
        return TrialInconclusive(f"{self.name}: {reason}\n  seed {self.seed}, history {self.directory}")

    def finish(self) -> TrialResult:
        """Compare restarts, save the history, judge it once more as a whole, and write the result."""
        after = container_snapshot(self.cluster, self.deployment.namespaces)
        self._from_outside = self.outside()
        if self.checks:
            self.deployment.mark_disturbed()  # whatever was done to show its claims
        (before, watchdogs), (now, watching) = apart(self._before), apart(after)
        self.unexpected_restarts = compare_restarts(before, now, excused=self.excused)
        if lost := compare_restarts(watchdogs, watching, excused=self.excused):
            self.doubts.append(f"this machine, or the cluster, was too busy for our own watchdog: {'; '.join(lost)}")
        ended = time.time_ns()
        self._await_answers(ended)
        counts = self.deployment.read_counts()  # before the last samples: what others answered by then is among them
        try:
            self._collector.finish(stop_flows=False)
        except LostSamples as error:
            self.doubts.append(f"the loader cannot be trusted: {error}")
        self._compare_counts(counts)
        judgement: Judgement | None = None
        shares: Mapping[Flow, float] = {}
        if self.expectation is not None or not self.checks:
            expectation = self._expected()
            judgement = self.judgement = judge(self.view(until=ended), expectation, self.thresholds)
            shares = {flow: share for flow, share in expectation.shares.items() if flow not in expectation.exempt}
        found = judgement.as_dict() if judgement else None
        verdict, reason = combined(found, self.checks)
        if verdict is not Verdict.PASS:  # whoever asks why may want all that is known
            self.doubts += [f"the loader cannot be trusted: {problem}" for problem in self._collector.fetch_whole()]
        return self._write_result(
            verdict,
            reason,
            predicted={
                "hurt": [str(f) for f, s in shares.items() if s > 0],
                "unhurt": [str(f) for f, s in shares.items() if s == 0],
            },
            observed={
                name: judgement.observed(finding) if judgement else []
                for name, finding in (
                    ("hurt", Finding.HURT),
                    ("unhurt", Finding.NOT_HURT),
                    ("inconclusive", Finding.INCONCLUSIVE),
                )
            },
            measures={
                **({name: asdict(measure) for name, measure in judgement.measures.items()} if judgement else {}),
                **measures_of(self.checks),
                **{name: asdict(measure) for name, measure in self.measures.items()},
            },
            judgement=judgement_of(found, self.checks),
        )

    def _compare_counts(self, counts: dict[str, dict[str, Any]]) -> None:
        """Compare the loaders' counts with the servers' own, and record both. What others answered is no contradiction,
        but a failure of its own cause.

        Args:
            counts: as the deployment read them before the last samples were fetched.
        """
        for tenant, one in counts.items():
            if misrouted := self._collector.misrouted(tenant):
                one["answered"] -= misrouted
                self.deployment.stop_counting(tenant)
        self.note(EventKind.LOADER, {"phase": "served", "counts": counts})
        self.doubts += [f"the loader cannot be trusted: {sentence}" for sentence in detect_contradictions(counts)]

    def _write_result(
        self,
        verdict: Verdict,
        reason: str,
        *,
        predicted: Mapping[str, list[str]],
        observed: Mapping[str, list[str]],
        measures: Mapping[str, Mapping[str, Any]],
        judgement: Mapping[str, Any],
    ) -> TrialResult:
        """Write the trial's result beside its history. An unexpected restart fails it, whatever the judge said."""
        if verdict is Verdict.PASS and self.nobody_at_risk and not self.checks:
            self.doubts.append(
                f"nobody was put at risk, so that nothing was shown about sharing: {self.nobody_at_risk}"
            )
        if self.doubts:
            verdict, reason = Verdict.INCONCLUSIVE, "; ".join(dict.fromkeys(self.doubts))
        if self.unrestored:
            verdict, reason = Verdict.FAIL, f"the system did not recover: {'; '.join(self.unrestored)}"
        if self.unexpected_restarts:
            verdict, reason = (
                Verdict.FAIL,
                f"containers restarted that should not have: {'; '.join(self.unexpected_restarts)}",
            )
        if self._from_outside:
            verdict, reason = Verdict.INCONCLUSIVE, f"{FROM_OUTSIDE}: {'; '.join(self._from_outside)}"
        result = TrialResult(
            mode=self.mesh.mode.name,
            scenario=self.scenario,
            target=", ".join(self.targets),
            seed=self.seed.value,
            seconds=(time.time_ns() - self.began) / 1e9,
            predicted=predicted,
            observed=observed,
            measures=measures,
            verdict=str(verdict),
            reason=reason,
            history=f"trials/{self.mesh.mode.name}/{self.scenario}",
            judgement=judgement,
        )
        self._recording.close()
        self._collector.stop()
        self._writer.end({"verdict": str(verdict), "reason": reason}, result=result.text())
        self._writer.close()
        result.write(self.directory)
        return result

    def close(self) -> None:
        """Stop collecting and close the history, however the trial ended. Safe to repeat."""
        self._recording.close()
        self._collector.stop()
        self._writer.close()

    def conclude(self) -> TrialResult:
        """Finish, and raise TrialFailed or TrialInconclusive unless the trial passed."""
        __tracebackhide__ = True
        with self.spans.span("judge", SpanKind.WORK):
            result = self.finish()
        self.progress.step(f"{self.name}: {summary(result)}")
        if result.verdict != Verdict.PASS:
            kind = TrialFailed if result.verdict == Verdict.FAIL else TrialInconclusive
            raise kind(
                f"{self.name}: {result.reason}\n  predicted hurt: {', '.join(result.predicted['hurt']) or 'nobody'}"
                f"\n  observed hurt: {', '.join(result.observed['hurt']) or 'nobody'}"
                f"\n  seed {self.seed}, history {self.directory}"
            )
        return result

    @property
    def name(self) -> str:
        return f"{self.scenario}[{self.mesh.mode.name}]"

    def _expected(self) -> Expectation:
        if self.expectation is None:
            raise ExperimentFailure(f"{self.name}: the scenario stated no expectation, so nothing was tested")
        return self.expectation

    def observe_until(self, instant: int) -> None:
        """Keep the load running until that instant, ns, and fetch its samples."""
        while (left := instant - time.time_ns()) > 0:
            self.deployment.clock.wait(min(left / 1e9, 0.5))
            self._show()
        self._collector.poll_now()

    def _await_answers(self, instant: int) -> None:
        """Wait until every request that was due before the instant has ended; each does within its timeout."""
        latest = instant + int(2 * REQUEST_TIMEOUT * 1e9)  # its connection may have been waited for as well
        while time.time_ns() < latest:
            self.observe_until(time.time_ns() + _ANSWER_POLL)
            if not any((due <= instant).any() for due in self._collector.pending().values()):
                return

    def _show(self) -> None:
        if line := live_line(self.name, self._collector.rates(), self._lost_since_fault()):
            self.progress.live(line)

    def _lost_since_fault(self) -> dict[str, int] | None:
        """Count by client namespace the requests that failed since the first fault; None before it."""
        if not self._first_fault:
            return None
        samples = self._writer.tail(_LIVE_SAMPLES)
        bad = samples[(samples["due"] >= self._first_fault) & (samples["outcome"] != Outcome.OK)]
        lost: dict[str, int] = {}
        table = self._writer.flows
        for flow, count in zip(table, np.bincount(bad["flow"], minlength=len(table)).tolist(), strict=True):
            if not flow.sentinel:
                name = flow.client.partition("/")[0]
                lost[name] = lost.get(name, 0) + count
        return lost


def live_line(name: str, rates: Sequence[Rate], lost: Mapping[str, int] | None) -> str:
    """Describe a trial's present state: before its fault the share of errors, then what each tenant has lost since. ""
    without a request. Pure.
    """
    mine = [rate for rate in rates if not rate.flow.sentinel]
    total = sum(rate.per_second for rate in mine)
    if not total:
        return ""
    if lost is None:
        errors = sum(rate.per_second * rate.errors for rate in mine) / total
        return f"{name}: {total:.0f} requests/s, {errors:.2%} errors"
    counts = ", ".join(f"{tenant} {count}" for tenant, count in sorted(lost.items()))
    return f"{name}: {total:.0f} requests/s; lost since the fault: {counts}"


def _ask_during(witnesses: Sequence[SecondWitness], receipts: Sequence[Receipt]) -> None:
    for witness, receipt in zip(witnesses, receipts, strict=True):
        witness.during(receipt)


def _look(index: int, judgement: Judgement) -> dict[str, Any]:
    return {"look": index, "done": judgement.done, "verdict": str(judgement.verdict), "reason": judgement.reason}
