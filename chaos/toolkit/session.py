"""The experiment that is running: its cluster, its trial, the faults in force. Actions, probes and the control share it.

The one module of the toolkit that holds the engine's objects, so that activities stay a few lines each. There is at most
one session in a process: Chaos Toolkit itself runs one experiment at a time.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.engine.catalogue import scenario_names
from chaos.engine.progress import Progress
from chaos.engine.restarts import Snapshot, container_snapshot
from chaos.engine.result import TrialResult
from chaos.engine.run import Run
from chaos.engine.scenario import SCENARIOS
from chaos.engine.settings import Settings
from chaos.engine.topology import Tenant
from chaos.engine.trial import RECOVERY_SECONDS, Trial
from chaos.errors import ExperimentFailure, Misuse, NoTargets
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.selection import Selector, select
from chaos.history.model import EventKind, Flow, WindowKind
from chaos.mesh.fate import ProxyInstance, flow_shares, path
from chaos.mesh.modes import Layer
from chaos.toolkit.readings import unsteady_tenants
from chaos.verdict import FaultKind, Finding, Harm, Judgement

GRACE = 5.0  # s after a fault's deadline: until then its undo is this runner's; then the helper's own, and the watchdog's
SIDES = ("client", "server")  # of a path: where it begins, where it ends
_KINDS = {"pulse": FaultKind.PULSE, "held": FaultKind.HELD, "gradual": FaultKind.GRADUAL}


@dataclass(frozen=True, slots=True)
class Wish:
    """What an experiment asks of its session."""

    settings: Settings
    mode: str
    name: str  # of the experiment: names its directory
    guard: bool = True  # abort when a bystander outside the predicted set is hurt


@dataclass(slots=True)
class Held:
    """A fault that acts until it is recovered: by its action, by its deadline or by the session's end."""

    fault: Fault
    begin: int
    stack: ExitStack
    timer: threading.Timer | None = None


@dataclass(slots=True)
class Closing:
    """What a session came to."""

    result: TrialResult | None = None  # None: the experiment broke nothing, so the model had nothing to say
    directory: Path | None = None
    reports: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Session:
    """Open from the control's first hook to its last. Every method may be called from any thread.

    Args:
        wish: what is asked.
        run: a run that somebody else opened and will close, whose deployments are shared; None: one of its own.
    """

    def __init__(self, wish: Wish, *, progress: Progress, run: Run | None = None) -> None:
        self.wish = wish
        self.began = time.time()
        self._progress = progress
        self._lent = run
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._held: list[Held] = []
        self._broken: list[ProxyInstance] = []
        self._jobs: list[tuple[str, str]] = []
        self._looked: tuple[float, Judgement] | None = None
        self.overdue: list[str] = []  # undos by deadline that failed
        self.first_effect = 0  # ns; 0: nothing was broken yet

    # ---- life

    def open(self) -> None:
        """Cluster, mode, tenants, load, and a steady baseline of every flow.

        A deployment that others used before may not have come back from it: then a fresh one is made, once. Raises
        ExperimentFailure when a tenant has errors of its own: nothing that is broken then would prove anything.
        """
        self.run = self._lent or self._stack.enter_context(Run(self.wish.settings, progress=self._progress))
        if self._take_baseline() and self._lent is not None:
            self.trial.close()
            shutil.rmtree(self.trial.directory)  # it holds a baseline that nobody asks for
            self.run.redeploy(self.wish.mode)
            self._take_baseline()
        self._stack.callback(self.trial.close)
        if unsteady := self.unsteady():
            raise ExperimentFailure(f"{', '.join(unsteady)} had errors before anything was broken: is the machine too busy?")

    def _take_baseline(self) -> list[str]:
        """A new trial and its baseline; the tenants that are not steady in it."""
        self.trial: Trial = self.run.trial(self.wish.mode, self._free_name())
        self.before: Snapshot = container_snapshot(self.trial.cluster, self.trial.deployment.namespaces)
        try:
            self.trial.baseline()
        except BaseException:
            self.trial.close()
            raise
        return self.unsteady()

    def unsteady(self) -> list[str]:
        """Tenants whose share of errors is above the margin by itself."""
        found: list[str] = unsteady_tenants(self.trial.view(), (), self.trial.thresholds)["value"]
        return found

    def _free_name(self) -> str:
        """Experiments that share a run may be repeated: a history is never written over."""
        directory, name, number = self.run.settings.out / "trials" / self.wish.mode, self.wish.name, 1
        while (directory / name).exists():
            number += 1
            name = f"{self.wish.name}-{number}"
        return name

    def close(self) -> Closing:
        """Undo what is in force, judge the trial, write the reports, take down what is ours. Safe to repeat."""
        closing = Closing()
        problems = closing.problems
        with self._stack:
            try:
                self.recover(observe=0.0)
            except Exception as error:
                problems += [f"a fault was not undone: {one}" for one in getattr(error, "exceptions", (error,))]
            problems += self.overdue
            for namespace, name in self._jobs:
                self.trial.cluster.delete("Job", name, namespace)
            self._jobs.clear()
            if hasattr(self, "trial"):
                closing.directory = self.trial.directory
                if self.trial.expectation is not None and self.trial.judgement is None:
                    closing.result = self.trial.finish()
                    closing.reports = self._report()
        return closing

    def _report(self) -> list[str]:
        from chaos.report import write_reports

        reports = write_reports(self.run.settings.out, seconds=self.run.seconds)
        return [str(reports.html), str(reports.markdown), str(reports.json)]

    def note(self, text: str) -> None:
        """A line in the history: which activity began or ended."""
        self.trial.note(EventKind.NOTE, {"chaos toolkit": text})

    # ---- targets

    def tenant(self, name: str) -> Tenant:
        """By its name or its namespace; raises Misuse naming all that exist."""
        for tenant in self.trial.deployment.tenants:
            if name in (tenant.name, tenant.namespace):
                return tenant
        known = ", ".join(tenant.namespace for tenant in self.trial.deployment.tenants)
        raise Misuse(f"unknown tenant {name!r}: known are {known}")

    def proxy_of(self, tenant: str, layer: str, side: str = "client") -> ProxyInstance:
        """The proxy of that layer on the path of a tenant's requests that comes first, or (side `server`) last.

        The placebo where the mode has no proxy; raises NoTargets where it has none of that layer.
        """
        if side not in SIDES:
            raise Misuse(f"side is {side!r}: it is {' or '.join(SIDES)}")
        deployment = self.trial.deployment
        placement = deployment.placement()
        owner = self.tenant(tenant)
        if not placement.mode.hops:
            return deployment.proxy_to_break(self.trial.seed)
        passed = [proxy for pair in placement.pairs() if pair.client.workload_key == owner.client
                  for hop in path(placement, pair) for proxy in hop]
        for proxy in passed if side == "client" else reversed(passed):
            if layer == "any" or Layer(layer) in proxy.layers:
                return proxy
        raise NoTargets(f"no {layer} proxy on the path of {owner.namespace} in mode {placement.mode.name}: nothing would be tested")

    # ---- faults

    def break_proxy(self, fault: Fault, proxy: ProxyInstance, *, deadline: float, harm: Harm = Harm.EITHER) -> list[Receipt]:
        """Inject into one proxy and expect harm to just its fate group. A pulse is over when this returns."""
        self.expect([proxy], fault.shape, harm)
        return self.inject(fault, self.trial.container(proxy), deadline=deadline)

    def break_spared(self, fault: Fault, proxy: ProxyInstance, *, deadline: float) -> list[Receipt]:
        """Inject into one proxy whose fate group may or may not be hurt: it is reported, and only the others are judged."""
        self._spare(self._flows_behind([proxy]))
        return self.inject(fault, self.trial.container(proxy), deadline=deadline)

    def break_workload(self, fault: Fault, workload: str, namespace: str, *, deadline: float) -> list[Receipt]:
        """Inject into a workload. Flows through its pods are reported, the others must not be hurt; its pods may restart."""
        targets = select(self.trial.cluster, fault.targets, Selector(workload=workload, namespace=namespace))
        name = workload.partition("/")[2]
        placement = self.trial.deployment.placement()
        inside = [p for p in placement.proxies if p.namespace == namespace and p.pod.startswith(f"{name}-")]
        own = {Flow(*call) for call in placement.calls if f"{namespace}/{name}" in call}
        self._spare(own | self._flows_behind(inside))
        self.trial.may_restart.update(pod["metadata"]["uid"] for pod in self.trial.cluster.list("Pod", namespace)
                                      if pod["metadata"]["name"].startswith(f"{name}-"))
        self.trial.target = ", ".join(map(str, targets))
        return self.inject(fault, *targets, deadline=deadline)

    def break_node(self, fault: Fault, node: str, *, deadline: float) -> list[Receipt]:
        """Inject into a node. Flows with a pod or a proxy on it are reported, the others must not be hurt."""
        tenants = self.trial.deployment.tenants
        chosen = {"first": tenants[0].client_nodes[0], "second": tenants[-1].client_nodes[0]}.get(node, node)
        targets = select(self.trial.cluster, frozenset({"node"}), Selector(node=chosen))
        placement = self.trial.deployment.placement()
        there = {Flow(pair.client.workload_key, pair.server.workload_key) for pair in placement.pairs()
                 if chosen in (pair.client.node, pair.server.node)}
        self._spare(there | self._flows_behind([proxy for proxy in placement.proxies if proxy.node == chosen]))
        self.trial.may_restart.update(pod.uid for pod in placement.pods if pod.node == chosen)
        self.trial.may_restart.update(proxy.uid for proxy in placement.proxies if proxy.node == chosen)
        self.trial.target = ", ".join(map(str, targets))
        return self.inject(fault, *targets, deadline=deadline)

    def _flows_behind(self, proxies: Sequence[ProxyInstance]) -> set[Flow]:
        shares = flow_shares(self.trial.deployment.placement(), proxies)
        return {Flow(*call) for call, share in shares.items() if share > 0}

    def _spare(self, flows: set[Flow]) -> None:
        """Expect nothing of these flows, and no harm to any other."""
        self.trial.expect_fate_of(*self._broken, fault_kind=FaultKind.HELD, harm=Harm.EITHER, exempt=sorted(flows))

    def inject(self, fault: Fault, *targets: Target, deadline: float, noisy: Tenant | None = None) -> list[Receipt]:
        """Inject; a held fault is in force until `recover` or its deadline. The expectation must be stated before.

        Args:
            noisy: the tenant whose own flow pauses meanwhile, and starts again slowly.
        """
        with ExitStack() as stack:
            if noisy:
                stack.callback(self.trial.heal, noisy)
                self.trial.deployment.pause(noisy)
            receipts = list(stack.enter_context(self.trial.fault(fault, *targets, seconds=deadline + GRACE)))
            begin = min(receipt.injected_at for receipt in receipts)
            self.first_effect = self.first_effect or begin
            self.trial.window(WindowKind.FAULT, begin, None, "first effect")
            held = Held(fault, begin, stack.pop_all())
        with self._lock:
            self._held.append(held)
        if fault.shape == "pulse":
            self.recover(fault.name, observe=0.0)
        else:
            held.timer = threading.Timer(deadline, self._expire, args=(held, deadline))
            held.timer.daemon = True
            held.timer.start()
        return receipts

    def recover(self, fault: str = "", *, observe: float = RECOVERY_SECONDS) -> int:
        """Undo the faults of that name (or all), newest first; how many. Nothing in force is no error: an undo is idempotent.

        Args:
            observe: seconds of load to watch afterwards, so that recovery is seen.
        """
        with self._lock:
            chosen = [held for held in reversed(self._held) if fault in ("", held.fault.name)]
            failures: list[Exception] = []
            for held in chosen:
                try:
                    self._undo(held)
                except Exception as error:  # one undo that fails does not stop the others; all are raised below
                    failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(chosen)} faults were not undone: {failures[0]}", failures)
        if chosen and observe:
            self.trial.hold(observe)
        return len(chosen)

    def _undo(self, held: Held) -> None:
        self._held.remove(held)
        if held.timer is not None:
            held.timer.cancel()
        end = time.time_ns()
        held.stack.close()
        if held.fault.shape == "pulse":  # over by itself: its window ends when the successor was seen to serve
            end = self.trial.mended_at
        self.trial.window(WindowKind.FAULT, held.begin, end, "first effect until it was over")
        self.trial.window(WindowKind.RECOVERY, time.time_ns(), None, "undone, and seen so")

    def _expire(self, held: Held, deadline: float) -> None:
        with self._lock:
            if held not in self._held:
                return
            try:
                self._undo(held)
                self.note(f"{held.fault.name}: undone by its deadline of {deadline:g} s")
            except Exception as error:
                self.overdue.append(f"{held.fault.name}: not undone by its deadline of {deadline:g} s: {error}")

    def switch(self, fault: Fault, target: Target, proxies: Sequence[ProxyInstance], *, deadline: float, pairs: int,
               noisy: Tenant | None = None) -> int:
        """On and off until the judge has decided, at most so many times: what bites by degrees needs it, for drift cancels.

        Args:
            noisy: the tenant whose aggressor stands in the place of its own flow, which is reported and not judged.

        Returns the pairs done.
        """
        if pairs not in (steps := self.trial.thresholds.pairs):
            raise Misuse(f"pairs is {pairs}: the judge looks after {' or '.join(map(str, steps))}")
        self.expect(proxies, "gradual", Harm.EITHER, [Flow(noisy.client, noisy.server)] if noisy else ())
        for number in range(1, pairs + 1):
            self._switch_once(fault, target, deadline, noisy)
            self.trial.pairs_done = number
            if number in steps and (judgement := self.judgement()) is not None and judgement.done:
                break
        return self.trial.pairs_done

    def _switch_once(self, fault: Fault, target: Target, deadline: float, noisy: Tenant | None) -> None:
        hold = self.trial.thresholds.settle + 2.0
        if noisy:
            self.trial.deployment.pause(noisy)
        try:
            with self.trial.fault(fault, target, seconds=deadline):
                begin = time.time_ns()
                self.first_effect = self.first_effect or begin
                self.trial.hold(hold)
                end = time.time_ns()
            self.trial.window(WindowKind.FAULT, begin, end, f"{fault.name} held")
        finally:
            if noisy:
                self.trial.heal(noisy)
        quiet = time.time_ns()
        self.trial.hold(hold)
        self.trial.window(WindowKind.RECOVERY, quiet, time.time_ns(), f"{fault.name} ended")

    def expect(self, proxies: Sequence[ProxyInstance], shape: str, harm: Harm, exempt: Sequence[Flow] = ()) -> None:
        """Expect harm to just the flows behind these proxies, and behind all that were broken before."""
        self._broken += [proxy for proxy in proxies if proxy not in self._broken]
        self.trial.expect_fate_of(*self._broken, fault_kind=_KINDS[shape], harm=harm, exempt=exempt)

    def play(self, scenario: str) -> None:
        """A shipped scenario, whole, in this trial."""
        if scenario not in scenario_names():
            raise Misuse(f"unknown scenario {scenario!r}: known are {', '.join(scenario_names())}")
        found = SCENARIOS[scenario]
        if why := found.applies(self.trial.mesh.mode):
            raise NoTargets(f"{scenario} does not apply to mode {self.wish.mode}: {why}")
        self.first_effect = time.time_ns()
        found.run(self.trial)

    # ---- jobs

    def job_started(self, namespace: str, name: str) -> None:
        """Remember a Job, to delete it at the end."""
        self._jobs.append((namespace, name))

    # ---- looking

    def judgement(self) -> Judgement | None:
        """What the judge says now; None before anything was broken. Asked again within half a second, the same."""
        if self.trial.expectation is None or not self.first_effect:
            return None
        with self._lock:
            if self._looked is None or time.monotonic() - self._looked[0] > 0.5:
                self._looked = (time.monotonic(), self.trial.look())
            return self._looked[1]

    def wrongly_hurt(self) -> list[str]:
        """Bystanders that are hurt though none of their pairs is behind what was broken: what a guard aborts on."""
        judgement = self.judgement()
        return [] if judgement is None else [
            str(flow.flow) for flow in judgement.flows if flow.expected_share == 0 and flow.finding is Finding.HURT]


_open: list[Session] = []


def current() -> Session:
    """The session of the running experiment; raises ExperimentFailure that says how to get one."""
    if not _open:
        raise ExperimentFailure("no mode is deployed: the experiment needs the control chaos.toolkit.control, first in `controls`")
    return _open[-1]


def is_open() -> bool:
    return bool(_open)


def enter(session: Session) -> None:
    """Make it the current one; it must be left again with `leave`, also when it does not open."""
    if _open:
        raise ExperimentFailure("an experiment is running in this process already")
    _open.append(session)


def leave() -> None:
    _open.clear()


def recover(fault: str) -> int:
    """Undo the faults of that name, or all (""); how many. A rollback may come when nothing was deployed: then none."""
    return current().recover(fault) if is_open() else 0


def told(receipts: list[Receipt]) -> dict[str, Any]:
    """What an action says of its fault, for the journal."""
    first = receipts[0]
    return {"fault": first.fault, "targets": [str(receipt.target) for receipt in receipts], "injected_at": first.injected_at,
            "evidence": dict(first.evidence)}
