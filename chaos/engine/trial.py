"""One trial: one mode, one scenario, one seed. Baseline, fault, looks, recovery, judgement, in nested scopes.

Windows are cut by evidence that the faults bring back, never by the clock; the history is saved before it is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from chaos.chance import Seed
from chaos.engine.deployment import REQUEST_TIMEOUT, SOUND_SECONDS, Deployment
from chaos.engine.progress import Progress
from chaos.engine.restarts import compare_restarts, container_snapshot
from chaos.engine.shown import combined, judgement_of, measures_of
from chaos.engine.topology import Tenant
from chaos.errors import ExperimentFailure, NoEffect, NotReady
from chaos.faults.injection import injected
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.selection import container_target, workload_target
from chaos.faults.workload import KINDS
from chaos.history.model import Event, EventKind, Outcome, Samples
from chaos.history.result import TrialResult
from chaos.history.store import HistoryWriter
from chaos.load.collector import Collector
from chaos.model.fate import flow_shares, may_move
from chaos.model.faulting import FaultPhase, FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.model.placement import Placement, Proxy
from chaos.verdict import Expectation, Finding, Harm, HistoryView, Judgement, Thresholds, Verdict, judge, view_from
from chaos.verdict.check import Check, undecided

SWITCH_SECONDS: Final = (
    2.5  # of each window of a switchback that is judged: three pairs at 200/s exclude the margin of errors
)
RECOVERY_SECONDS: Final = 3.0  # watched after a held fault is undone
_ANSWER_POLL: Final = 50_000_000  # ns


class TrialFailed(AssertionError):
    """The judge said fail: the sentence, the numbers, and where the history is."""


class TrialInconclusive(AssertionError):
    """The judge could not say."""


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
        self.scenario = scenario
        self.directory = directory
        self.seed = seed
        self.progress = progress
        self.thresholds = thresholds or Thresholds()
        self.placement: Placement = deployment.placement()
        self.expectation: Expectation | None = None
        self.checks: list[Check] = []  # of a trial that shows claims instead of breaking something
        self.judgement: Judgement | None = None
        self.target = ""
        self.began = time.time_ns()
        # Steady load of this trial: what earlier ones did to the load is no noise of the machine.
        self.since = max(deployment.since, deployment.quiet_since)
        self.unexpected_restarts: list[str] = []
        self.pairs_done = 0  # on/off pairs of a gradual fault
        self.may_restart: set[str] = set()  # UIDs of pods whose restart the model expects
        self.mended_at = 0  # ns: when the last fault was seen to be undone
        directory.mkdir(parents=True, exist_ok=True)
        self._writer = HistoryWriter(directory, {"mode": self.mesh.mode.name, "scenario": scenario, "seed": seed.value})
        self._before = container_snapshot(self.cluster, deployment.namespaces)
        self._recording = ExitStack()
        if deployment.recorder is not None:
            self._recording.enter_context(deployment.recorder.into(self._writer))
        self._collector = Collector(self.cluster, deployment.loaders(), self._writer, every=deployment.settings.every)
        self.note(EventKind.TRIAL, {"mode": self.mesh.mode.name, "scenario": scenario, "seed": seed.value})
        self.note(
            EventKind.PLACEMENT,
            {
                "pods": [pod.as_dict() for pod in self.placement.pods],
                "proxies": [proxy.as_dict() for proxy in self.placement.proxies],
            },
        )

    # ---- the log

    def note(self, kind: EventKind, data: Mapping[str, Any], *, at: int | None = None) -> None:
        """Add an event to the history."""
        self._writer.event(kind, data, at=at)

    def window(self, kind: WindowKind, begin: int, end: int | None, why: str) -> None:
        self.note(EventKind.WINDOW, {"kind": str(kind), "begin": begin, "end": end, "why": why})

    # ---- what the model says

    def expect_fate_of(
        self, *proxies: Proxy, fault_shape: FaultShape, harm: Harm = Harm.EITHER, exempt: Sequence[Flow] = ()
    ) -> Expectation:
        """Expect harm to just the flows whose pairs lie behind the proxies, by the share of them that does. Flows whose
        clients may move to other paths are exempt."""
        shares = flow_shares(self.placement, proxies)
        spared = frozenset(exempt) | {Flow(*call) for call in may_move(self.placement, proxies)}
        self.expectation = Expectation(
            {Flow(*call): share for call, share in shares.items()}, exempt=spared, harm=harm, fault_shape=fault_shape
        )
        self._writer.note(since=self.since, expectation=self.expectation.as_dict(), thresholds=asdict(self.thresholds))
        return self.expectation

    def flows_behind(self, *proxies: Proxy) -> frozenset[Flow]:
        """The flows of which any traffic passes one of the proxies."""
        return frozenset(Flow(*call) for call, share in flow_shares(self.placement, proxies).items() if share > 0)

    def client_container(self, tenant: Tenant) -> Target:
        """The loader of a tenant, as a fault's target."""
        pod = self.deployment.client_pod(tenant)
        self.target = f"{tenant.client} overloads {tenant.server}"
        return container_target(pod, "client")

    def container(self, proxy: Proxy) -> Target:
        """The live container of a proxy, as a fault's target."""
        target = container_target(self.cluster.get("Pod", proxy.pod, proxy.namespace), proxy.container)
        self.target = str(target)
        return target

    def show(self, check: Check) -> None:
        """A claim was looked at. A trial that shows claims needs no expectation: its verdict is the worst of theirs."""
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
        """The fault was not seen to act: nobody's fate was tried, so nothing is judged, and the trial is
        inconclusive.
        """
        self.expectation = None
        self.show(undecided("effect", str(error)))

    def workload(self, kind: str, key: str) -> Target:
        """A workload, by namespace/name, as a fault's target."""
        namespace, _, name = key.partition("/")
        target: Target = workload_target(self.cluster.get(kind, name, namespace))
        self.target = f"{kind} {target}"
        return target

    def workload_named(self, key: str) -> Target:
        """The workload of a tenant, by namespace/name, whichever kind it is of."""
        namespace, _, name = key.partition("/")
        return self.workload(next((kind for kind in KINDS if self.cluster.find(kind, name, namespace)), KINDS[0]), key)

    def workload_of(self, proxy: Proxy) -> Target:
        """The workload that a proxy's pod belongs to, as a fault's target."""
        meta = self.cluster.get("Pod", proxy.pod, proxy.namespace)["metadata"]
        while owner := next((one for one in meta.get("ownerReferences") or [] if one.get("controller")), None):
            kind, meta = owner["kind"], self.cluster.get(owner["kind"], owner["name"], proxy.namespace)["metadata"]
        return self.workload(kind, f"{proxy.namespace}/{meta['name']}")

    # ---- the course of a trial

    def baseline(self) -> None:
        """Let every flow have its baseline: seconds and requests as the thresholds ask, of the time that flows have
        been sound.
        """
        self.progress.step(f"{self.name}: baseline")
        begin, need = self._baseline_begin(), self.thresholds

        def enough() -> bool:
            self._show()
            if time.time_ns() - begin < need.baseline_seconds * 1e9:
                return False
            samples, _ = self._writer.snapshot()
            fresh = samples[samples["due"] >= begin]
            table = self._writer.flows
            counts = {flow: int((fresh["flow"] == number).sum()) for number, flow in enumerate(table)}
            return all(counts.get(flow, 0) >= need.baseline_requests for flow in self.deployment.flows)

        try:
            self.cluster.wait("a baseline of every flow", enough, seconds=need.baseline_seconds + 30, every=0.1)
        except NotReady as error:
            raise ExperimentFailure(f"{self.name}: {error}: is the load running?") from error
        self.window(WindowKind.BASELINE, begin, time.time_ns(), "enough requests of each flow")

    def _baseline_begin(self) -> int:
        """Since when flows have been sound. Quiet time before this trial counts, unless a request failed in it."""
        sound = max(self.deployment.sound_since, self.deployment.since)
        self._collector.poll_now()
        samples, _ = self._writer.snapshot()
        failed = samples["due"][samples["outcome"] != Outcome.OK]
        self.since = steady_since(failed[failed < sound], self.since)
        self._writer.note(since=self.since)
        quiet = max(self.since, sound - int(self.thresholds.baseline_seconds * 1e9))
        return sound if quiet >= sound or ((failed >= quiet) & (failed < sound)).any() else quiet

    @contextmanager
    def fault(self, fault: Fault, *targets: Target, seconds: float = 60.0) -> Iterator[tuple[Receipt, ...]]:
        """Inject, and undo on leaving; every phase and its evidence goes into the history."""
        self.progress.step(f"{self.name}: {fault.name} {', '.join(map(str, targets))}")
        for target in targets:
            self.may_restart.update(self._pods_of(target))

        def tell(phase: FaultPhase, receipt: Receipt) -> None:
            seen_at = {FaultPhase.INJECTED: receipt.injected_at, FaultPhase.RECOVERED: receipt.recovered_at}
            at = seen_at.get(phase, 0) or time.time_ns()
            facts = {"phase": phase.word, "at": at, "fault": receipt.fault, "target": str(receipt.target)}
            self.note(EventKind.FAULT, {**facts, "evidence": dict(receipt.evidence)}, at=at)
            if phase is FaultPhase.RECOVERED:
                self.mended_at = max(self.mended_at, at)
                self.deployment.disturbed()

        with injected(self.cluster, fault, *targets, run=self.deployment.run, seconds=seconds, tell=tell) as receipts:
            yield receipts

    def _pods_of(self, target: Target) -> set[str]:
        """UIDs of the pods that a fault on the target may restart, and of what goes with them: a pod's own waypoint."""
        if target.kind != "workload":
            return {target.uid}
        selector = self.cluster.get(target.workload_kind, target.name, target.namespace)["spec"]["selector"][
            "matchLabels"
        ]
        labels = ",".join(f"{name}={value}" for name, value in selector.items())
        pods = {pod["metadata"]["uid"] for pod in self.cluster.list("Pod", target.namespace, labels=labels)}
        return pods | {
            pod["metadata"]["uid"]
            for pod in self.cluster.list("Pod", target.namespace)
            if any(owner["uid"] in pods for owner in pod["metadata"].get("ownerReferences") or [])
        }

    def switchback(
        self,
        fault: Fault,
        *targets: Target,
        aggressor: Tenant | None = None,
        before_look: Callable[[Sequence[Window]], None] = lambda _: None,
    ) -> Judgement:
        """Baseline, then on/off pairs of a fault that bites by degrees, until the judge needs no more of them.

        The ramp before the effect belongs to neither window, nor does the time that flows take to be sound again.

        Args:
            aggressor: the tenant that is the fault itself: its own flow pauses meanwhile.
            before_look: told of the windows in which the fault was held, before the judge looks: time to state an
                expectation that rests on what was seen of the fault.
        """
        held: list[Window] = []
        self.baseline()
        hold = self.thresholds.settle + SWITCH_SECONDS
        judgement: Judgement | None = None
        for pairs in self.thresholds.pairs:
            while self.pairs_done < pairs:
                if aggressor is not None:
                    self.deployment.pause(aggressor)
                with self.fault(fault, *targets) as receipts:
                    begin = time.time_ns()
                    self.hold(hold)
                    end = time.time_ns()
                held.append(Window(WindowKind.FAULT, begin, end))
                self.window(
                    WindowKind.FAULT,
                    begin,
                    end,
                    f"held: {'; '.join(str(r.evidence.get('why', fault.name)) for r in receipts)}",
                )
                if aggressor is not None:
                    self.deployment.resume(aggressor)
                self.heal_what_fails()
                quiet = self.deployment.sound_since
                self._observe_until(quiet + int(hold * 1e9))
                self.window(WindowKind.RECOVERY, quiet, time.time_ns(), "undone, and flows sound")
                self.pairs_done += 1
            before_look(held)
            judgement = self.look()
            if judgement.done:
                break
        assert judgement is not None
        return judgement

    def break_and_watch(self, fault: Fault, *targets: Target, seconds: float = 60.0) -> Judgement:
        """Baseline, fault, looks and recovery of a fault that is over by itself (pulse) or acts until it is undone
        (held).
        """
        self.baseline()
        if fault.shape is FaultShape.PULSE:
            with self.fault(fault, *targets, seconds=seconds) as receipts:
                begin = min(receipt.injected_at for receipt in receipts)
            # The fault is left only when its recovery was seen, and that says since when the successor has served.
            end = self.mended_at
            self.window(WindowKind.FAULT, begin, end, "first effect until recovery was seen")
            self.window(WindowKind.RECOVERY, end, None, "recovery seen")
            return self.look_until_done(begin, end=end)
        with self.fault(fault, *targets, seconds=seconds) as receipts:
            begin = min(receipt.injected_at for receipt in receipts)
            self.window(WindowKind.FAULT, begin, None, "first effect")
            judgement = self.look_until_done(begin)
            end = time.time_ns()
        self.window(WindowKind.FAULT, begin, end, "first effect until it was undone")
        self.window(WindowKind.RECOVERY, time.time_ns(), None, "undone, and seen so")
        self.hold(RECOVERY_SECONDS)
        return judgement

    def heal(self, *tenants: Tenant) -> None:
        """Start the paused flows of these tenants again, slowly, and write down how long their paths took to bear
        them.
        """
        for sentence in self.deployment.heal(tenants):
            self.note(EventKind.NOTE, {"healed": sentence})

    def heal_what_fails(self) -> None:
        """Help the flows that do not come back by themselves."""
        for sentence in self.deployment.heal():
            self.note(EventKind.NOTE, {"healed": sentence})

    def look_until_done(self, begin: int, *, end: int | None = None) -> Judgement:
        """Judge at each look of the schedule until nothing more can change; looks wait for samples, not for the
        clock.
        """
        expectation = self._expected()
        judgement: Judgement | None = None
        for index, after in enumerate(self.thresholds.looks):
            instant = begin + int(after * 1e9)
            self._observe_until(instant)
            judgement = judge(self.view(until=instant), expectation, self.thresholds, look=index)
            self.note(EventKind.LOOK, _look(index, judgement))
            if judgement.done and (end is None or instant >= end):
                break
        assert judgement is not None
        return judgement

    def hold(self, seconds: float) -> None:
        """Let the load go on for that long: the length of an observation, not a wait for something."""
        self._observe_until(time.time_ns() + int(seconds * 1e9))

    def look(self) -> Judgement:
        """Judge what has come so far (switchback: after so many on/off pairs)."""
        until = time.time_ns()
        self._collector.poll_now()
        judgement = judge(self.view(until=until), self._expected(), self.thresholds)
        self.note(EventKind.LOOK, _look(judgement.look, judgement))
        return judgement

    def view(self, until: int | None = None) -> HistoryView:
        """What the judge sees at that instant."""
        pending = self._collector.pending()
        samples, events = self._writer.snapshot()
        return view_from(samples, events, flows=self._writer.flows, until=until, pending=pending, since=self.since)

    def samples_of(self, flow: Flow) -> Samples:
        """The samples of one flow so far."""
        self._collector.poll_now()
        found: Samples = self._writer.snapshot()[0]
        rows: Samples = found[found["flow"] == self._writer.flows.index(flow)]
        return rows

    def events(self) -> list[Event]:
        """The log so far."""
        return list(self._writer.snapshot()[1])

    def finish(self) -> TrialResult:
        """Compare restarts, save the history, judge it once more as a whole, and write the result."""
        after = container_snapshot(self.cluster, self.deployment.namespaces)
        if self.checks:
            self.deployment.disturbed()  # whatever was done to show its claims
        self.unexpected_restarts = compare_restarts(self._before, after, expected=self.may_restart)
        self._await_answers(time.time_ns())
        self._collector.finish(stop_flows=False)
        judgement: Judgement | None = None
        shares: Mapping[Flow, float] = {}
        if self.expectation is not None or not self.checks:
            expectation = self._expected()
            judgement = self.judgement = judge(self.view(), expectation, self.thresholds)
            shares = {flow: share for flow, share in expectation.shares.items() if flow not in expectation.exempt}
        whole = judgement_of(judgement.as_dict() if judgement else None, self.checks)
        return self._write_result(
            *combined(judgement.as_dict() if judgement else None, self.checks),
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
            },
            judgement=whole,
        )

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
        """The trial's result, beside its history. A restart that nobody expected fails it, whatever was judged."""
        if self.unexpected_restarts:
            verdict, reason = (
                Verdict.FAIL,
                f"containers restarted that should not have: {'; '.join(self.unexpected_restarts)}",
            )
        result = TrialResult(
            mode=self.mesh.mode.name,
            scenario=self.scenario,
            target=self.target,
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
        self.note(EventKind.TRIAL, {"end": True, "verdict": str(verdict), "reason": reason})
        self._recording.close()
        self._writer.close()
        result.write(self.directory)
        return result

    def close(self) -> None:
        """Stop gathering and close the history, however the trial ended. Safe to repeat."""
        self._recording.close()
        self._collector.stop()
        self._writer.close()

    def conclude(self) -> TrialResult:
        """Finish, and raise TrialFailed or TrialInconclusive unless the trial passed."""
        __tracebackhide__ = True
        result = self.finish()
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

    def _observe_until(self, instant: int) -> None:
        while (left := instant - time.time_ns()) > 0:
            self.deployment.clock.wait(min(left / 1e9, 0.5))
            self._show()
        self._collector.poll_now()

    def _await_answers(self, instant: int) -> None:
        """Until every request that fell due before the instant has ended; each does within its time-out."""
        latest = instant + int(2 * REQUEST_TIMEOUT * 1e9)  # its connection may have been waited for as well
        while time.time_ns() < latest:
            self._observe_until(time.time_ns() + _ANSWER_POLL)
            if not any((due <= instant).any() for due in self._collector.pending().values()):
                return

    def _show(self) -> None:
        rates = [rate for rate in self._collector.rates() if not rate.flow.sentinel]
        total = sum(rate.per_second for rate in rates)
        if total:
            errors = sum(rate.per_second * rate.errors for rate in rates) / total
            self.progress.live(rate=total, errors=errors, text=self.name)


def steady_since(failed: NDArray[np.int64], quiet: int) -> int:
    """When the load is steady: from the quiet instant on, once no request failed for half a second. What an earlier
    trial broke may fail for a while after it was mended, as clients learn of it, and is no noise of the machine.

    Args:
        failed: when the requests that failed were due, ns.
    """
    edges = np.concatenate(([quiet], np.sort(failed[failed >= quiet])))
    apart = np.flatnonzero(np.diff(edges) >= SOUND_SECONDS * 1e9)
    return int(edges[apart[0] if len(apart) else -1])


def _look(index: int, judgement: Judgement) -> dict[str, Any]:
    return {"look": index, "done": judgement.done, "verdict": str(judgement.verdict), "reason": judgement.reason}
