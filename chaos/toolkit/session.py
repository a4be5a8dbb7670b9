"""The running experiment: its cluster, its trial, the faults in force. Actions, probes and the control share it.

The one module of the toolkit that holds the engine's objects, so that activities stay a few lines each. There is at
most one session in a process: Chaos Toolkit itself runs one experiment at a time.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.engine.catalogue import scenario_names
from chaos.engine.deployment import AddedPod
from chaos.engine.progress import Progress
from chaos.engine.restarts import Snapshot, container_snapshot
from chaos.engine.run import Run
from chaos.engine.scenario import SCENARIOS
from chaos.engine.settings import Settings
from chaos.engine.topology import TenantLoad
from chaos.engine.trial import Trial
from chaos.errors import ExperimentFailure, Misuse, NoTargets
from chaos.history.model import EventKind
from chaos.history.result import TrialResult
from chaos.model.placement import Proxy
from chaos.toolkit.driver import FaultDriver
from chaos.toolkit.identities import in_memory
from chaos.toolkit.readings import unsteady_tenants
from chaos.toolkit.targets import proxy_on_path, tenant_named
from chaos.verdict import Finding, Judgement

LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """What an experiment asks from its session."""

    settings: Settings
    mode: str
    name: str  # of the experiment: names its directory
    guard: bool = True  # abort when a bystander outside the predicted set is hurt


@dataclass(slots=True)
class SessionOutcome:
    """The outcome of a session."""

    result: TrialResult | None = None  # None: the experiment broke nothing, so the model had nothing to say
    directory: Path | None = None
    reports: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Session:
    """Open from the control's first hook to its last. Every method may be called from any thread.

    Args:
        options: what is asked.
        run: a run that somebody else opened and will close, whose deployments are shared; None: one of its own.
    """

    def __init__(self, options: ControlOptions, *, progress: Progress, run: Run | None = None) -> None:
        self.options = options
        self.began = time.time()
        self._progress = progress
        self._lent = run
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._finished = False
        self._jobs: list[tuple[str, str]] = []
        self._added: dict[str, Callable[[], AddedPod | None]] = {}  # tenant -> how the server is that was added to it
        self._adding = ExitStack()
        self._identities: dict[str, list[str]] = {}
        self._looked: tuple[float, Judgement] | None = None

    # ---- life

    def open(self) -> None:
        """Open the cluster, deploy mode and tenants, start the load, and take a steady baseline of every flow.

        A deployment that others used before may not have come back from it: then a fresh one is made, once. Raises
        ExperimentFailure when a tenant has errors of its own: nothing that is broken then would prove anything.
        """
        self.run = self._lent or self._stack.enter_context(Run(self.options.settings, progress=self._progress))
        if self._take_baseline() and self._lent is not None:
            self.trial.close()
            shutil.rmtree(self.trial.directory)  # it holds a baseline that nobody asks for
            self.run.redeploy(self.options.mode)
            self._take_baseline()
        self._stack.callback(self.trial.close)
        self.driver = FaultDriver(self.trial)
        if unsteady := self.unsteady():
            raise ExperimentFailure(
                f"{', '.join(unsteady)} had errors before anything was broken: is the machine too busy?"
            )

    def _take_baseline(self) -> list[str]:
        """Take a new trial's baseline; return the tenants that are not steady in it."""
        self.trial: Trial = self.run.trial(self.options.mode, self._free_name())
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
        """Return a free directory name: experiments that share a run may be repeated, and a history is never
        overwritten.
        """
        directory, name, number = self.run.settings.out / "trials" / self.options.mode, self.options.name, 1
        while (directory / name).exists():
            number += 1
            name = f"{self.options.name}-{number}"
        return name

    def close(self) -> SessionOutcome:
        """Undo what is in force, judge the trial, write the reports, take down what is ours. Safe to repeat."""
        closing = SessionOutcome()
        problems = closing.problems
        with self._stack:
            if hasattr(self, "driver"):
                try:
                    self.driver.recover(observe=False)
                    self.driver.await_recovery()
                except Exception as error:
                    problems += [f"a fault was not undone: {one}" for one in getattr(error, "exceptions", (error,))]
                problems += self.driver.overdue
            for namespace, name in self._jobs:
                self.trial.cluster.delete("Job", name, namespace)
            self._jobs.clear()
            try:
                self.remove_servers()
            except Exception as error:
                problems.append(f"a server that was added did not go: {error}")
            if hasattr(self, "trial"):
                closing.directory = self.trial.directory
                if not self._finished and (self.trial.expectation is not None or self.trial.checks):
                    self._finished = True
                    closing.result = self.trial.finish()
                    closing.reports = self._report()
                if self._lent is not None and getattr(self, "driver", None) and self.driver.spoiled:
                    self._lent.discard()
        return closing

    def _report(self) -> list[str]:
        from chaos.report import write_reports

        reports = write_reports(self.run.settings.out, seconds=self.run.seconds)
        return [str(path.resolve()) for path in (reports.html, reports.markdown, reports.json)]

    def note(self, text: str) -> None:
        """Note in the history which activity began or ended."""
        self.trial.note(EventKind.NOTE, {"chaos toolkit": text})

    # ---- targets

    def tenant(self, name: str) -> TenantLoad:
        """Return a tenant by its name or its namespace."""
        return tenant_named(self.trial, name)

    def proxy_of(self, tenant: str, layer: str, side: str = "client") -> Proxy:
        """Return the first proxy of that layer on the path of a tenant's requests, or (side `server`) the last."""
        return proxy_on_path(self.trial, tenant, layer, side)

    # ---- faults

    def play(self, scenario: str) -> None:
        """Play a whole shipped scenario in this trial."""
        if scenario not in scenario_names():
            raise Misuse(f"unknown scenario {scenario!r}: known are {', '.join(scenario_names())}")
        found = SCENARIOS[scenario]
        if why := found.skip_reason(self.trial.mesh.mode):
            raise NoTargets(f"{scenario} does not apply to mode {self.options.mode}: {why}")
        self.driver.first_effect = time.time_ns()
        self.driver.spoiled |= found.redeploys_after
        found.run(self.trial)

    # ---- jobs

    def job_started(self, namespace: str, name: str) -> None:
        """Remember a Job, to delete it at the end."""
        self._jobs.append((namespace, name))

    # ---- servers that are added

    def add_server(self, tenant: str) -> None:
        """Add one server, until `remove_servers` or the session's end."""
        owner = self.tenant(tenant)
        if owner.namespace in self._added:
            raise Misuse(f"{owner.namespace} has one server more already")
        self._added[owner.namespace] = self._adding.enter_context(self.trial.deployment.one_more_server(owner))

    def added_servers(self) -> dict[str, AddedPod | None]:
        """Map a tenant's namespace to the state of its added server; None while it has no address."""
        found = {tenant: look() for tenant, look in self._added.items()}
        return {tenant: pod if pod is not None and pod.address else None for tenant, pod in found.items()}

    def remove_servers(self) -> int:
        """Remove the added servers, and see them gone; return how many."""
        number = len(self._added)
        self._added.clear()
        self._adding.close()
        return number

    # ---- looking

    def judgement(self) -> Judgement | None:
        """Return the judge's present answer; None before anything was broken. Cached for a second, because looks cost
        CPU.
        """
        if self.trial.expectation is None or not self.driver.first_effect:
            return None
        with self._lock:
            if self._looked is None or time.monotonic() - self._looked[0] > LOOK_SECONDS:
                self._looked = (time.monotonic(), self.trial.look())
            return self._looked[1]

    def judgement_with_shifts(self) -> Judgement | None:
        """Return the same with the latency quantiles' intervals, which cost five times as much."""
        with self._lock:
            return None if self.judgement() is None else self.trial.look(shifts=True)

    def identities_of(self, proxy: Proxy) -> list[str]:
        """Return whose private keys the proxy holds; read once, because it costs a helper pod."""
        with self._lock:
            if proxy.container_id not in self._identities:
                self._identities[proxy.container_id] = in_memory(
                    self.trial.cluster, self.trial.deployment.reference_mesh, proxy
                )
            return self._identities[proxy.container_id]

    def wrongly_hurt(self) -> list[str]:
        """Return bystanders that are hurt though no pair of theirs is behind what was broken: the guard aborts on
        them.
        """
        judgement = self.judgement()
        return (
            []
            if judgement is None
            else [
                str(flow.flow) for flow in judgement.flows if flow.expected_share == 0 and flow.finding is Finding.HURT
            ]
        )


_open: list[Session] = []


def current() -> Session:
    """Return the session of the running experiment; raises ExperimentFailure that says how to get one."""
    if not _open:
        raise ExperimentFailure(
            "no mode is deployed: the experiment needs the control chaos.toolkit.control, first in `controls`"
        )
    return _open[-1]


def is_open() -> bool:
    return bool(_open)


def enter(session: Session) -> None:
    """Make it the current session; leave it with `leave`, also when it fails to open."""
    if _open:
        raise ExperimentFailure("an experiment is running in this process already")
    _open.append(session)


def leave() -> None:
    _open.clear()


def recover(fault: str) -> int:
    """Undo the faults of that name, or all (""); return how many. None when nothing was deployed, as in an early
    rollback.
    """
    return current().driver.recover(fault) if is_open() and hasattr(current(), "driver") else 0
