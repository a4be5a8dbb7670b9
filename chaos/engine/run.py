"""A run: one cluster, its deployments mode by mode, its trials, its directory."""

from __future__ import annotations

import errno
import json
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from chaos import interrupts
from chaos.chance import Seed
from chaos.cluster.providers import Kind, open_cluster
from chaos.doctor.facts import Facts
from chaos.doctor.findings import of_scenario
from chaos.engine.clean import remove_runs
from chaos.engine.deployment import Deployment, reference_deployment
from chaos.engine.examine import examine
from chaos.engine.external import external_deployment, require_consent
from chaos.engine.installed import installed_deployment
from chaos.engine.own import OwnDeployment, own_deployment
from chaos.engine.progress import Progress
from chaos.engine.scenario import NotApplicable, Scenario
from chaos.engine.settings import OF_REFUSED, RUN_FILE, Inconclusive, Settings
from chaos.engine.takedown import reporting_takedown
from chaos.engine.trial import Trial, TrialFailed, TrialInconclusive
from chaos.errors import (
    ApiError,
    EnvironmentUnfit,
    ExperimentFailure,
    Misuse,
    NoEffect,
    NotReady,
    RecoveryFailed,
    SharedfateError,
)
from chaos.external.installations import mesh_installed
from chaos.external.modes import installed_modes, mode_named
from chaos.external.parsing import built_in
from chaos.faults.injection import undo_overdue
from chaos.history.files import write_whole
from chaos.history.model import EventKind
from chaos.history.result import ERROR_FILE, TrialResult
from chaos.history.spans import TRIAL, SpanKind, Spans, write_trace
from chaos.kube.kubeconfig import one_line
from chaos.kube.nodes import read_nodes, refuse_ipv6_alone
from chaos.kube.reach import unanswered
from chaos.mesh.install import Mesh
from chaos.model.modes import ProxyMode
from chaos.names import LABEL_RUN, SYSTEM_NAMESPACE

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})


class Run:
    """Opens the cluster on entering; takes deployments and the cluster down on leaving, whatever happened.

    Args:
        mesh: what deploys the modes; the tests of the scenarios give meshes that are wrong on purpose.
    """

    def __init__(self, settings: Settings, *, progress: Progress, mesh: type[Mesh] = Mesh) -> None:
        self.settings = settings
        self.progress = progress
        self.mesh = mesh
        self.seed = Seed(settings.seed)
        self.id = uuid.uuid4().hex[:8]
        self.began = time.time()
        self.spans = Spans()
        self._stack = ExitStack()
        self._deployment: Deployment | None = None
        self._vacated: Deployment | None = None  # the last one that left the run's namespaces to another
        self._facts: Facts | None = None  # what is known of a cluster that is not of our own making
        self._said: set[str] = set()  # why something cannot run, said already
        self._undeployable: dict[str, str] = {}  # mode -> why it could not be deployed here
        self._mesh = ""  # of a target, once it has been looked at

    def __enter__(self) -> Run:
        settings = self.settings
        set_aside(settings.out)
        try:
            settings.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentUnfit(f"{settings.out}: cannot be made: {error.strerror or error}") from error
        self.progress.step(f"cluster {settings.cluster}: starting")
        try:
            with self.spans.span("cluster", SpanKind.WAIT):
                self._open_cluster()
        except BaseException as error:
            self._stack.close()
            if isinstance(error, Exception):  # a run that is refused has a report too
                kind = settings.cluster.partition(":")[0]
                self._describe({"kind": kind, "version": "", "nodes": settings.nodes}, error=describe_error(error))
            raise
        version = self.cluster.request("GET", "/version")
        self._describe({"kind": self.cluster.kind, "version": version.get("gitVersion", ""), "nodes": settings.nodes})
        return self

    def _open_cluster(self) -> None:
        """Open the cluster, and make it ready for the run's deployments."""
        settings = self.settings
        self.cluster = self._stack.enter_context(
            open_cluster(
                settings.cluster,
                name=f"sf-{self.id}",
                nodes=settings.nodes,
                keep=settings.keep,
                consent=settings.consent,
                kind_options=settings.kind,
            )
        )
        for notice in self.cluster.notices:
            self.progress.step(notice)
        if settings.target is not None:
            self._mesh = require_consent(self.cluster, settings.target, settings.consent).name
            self.progress.step(f"{settings.target.name}: the tenants' mesh is {self._mesh}")
            refuse_ipv6_alone(self.cluster.name, self.cluster.list("Node"))
        else:
            read_nodes(self.cluster)
        undo_overdue(self.cluster, now=time.time_ns())
        self._make_room()
        if settings.mesh_install:
            for mesh in dict.fromkeys(
                one.mesh.name for name, one in installed_modes().items() if name in settings.modes
            ):
                self.progress.step(f"{mesh}: is it installed? if not, it is now, by its own program")
                self._stack.enter_context(mesh_installed(self.cluster, built_in(mesh)))
        if self.cluster.kind != Kind.EMBEDDED and settings.target is None:
            self._facts = examine(self.cluster, settings.modes, run=self.id, said=self.progress.step)

    def _make_room(self) -> None:
        """Make sure that nothing of another run is there. Raises Misuse in a cluster that is not ours, where that run
        may still be going.
        """
        there = self.cluster.find("Namespace", SYSTEM_NAMESPACE)
        if there is None:
            return
        if self.cluster.owned:
            remove_runs(self.cluster)
            return
        other = (there["metadata"].get("labels") or {}).get(LABEL_RUN, "of somebody else")
        raise Misuse(
            f"{self.cluster.name}: namespace {SYSTEM_NAMESPACE} already exists (run {other}): another run goes on, "
            "or "
            f"was left. If it was left: sharedfate clean --cluster {self.settings.cluster}"
        )

    def __exit__(self, *_: object) -> None:
        try:
            if not self.cluster.transient:
                self._end()
            elif self._deployment is not None:
                self._deployment.leave()  # what is in the cluster goes with it, at once
        finally:
            try:
                with interrupts.cuttable(), self.spans.span("cluster goes", SpanKind.WAIT):
                    self._stack.close()
            finally:
                self.write_trace()

    def write_trace(self) -> None:
        """Write the spans so far, where that is asked for."""
        if self.settings.trace:
            write_trace(self.settings.out, self.spans.all(), run=self.id)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.time() - self.began

    def mode(self, name: str) -> ProxyMode:
        return mode_named(name)

    def deployment(self, mode: str, *, own: bool = False) -> Deployment:
        """Return the deployment of a mode; first take down the one of another mode.

        Args:
            own: without the reference tenants, for applications that the caller brings (`OwnDeployment`).

        Raises EnvironmentUnfit when the mode cannot be deployed here, and NotApplicable from then on: it is tried once.
        """
        if (why := self._undeployable.get(mode)) is not None:
            raise NotApplicable(f"mode {mode} could not be deployed, and is not tried again: {why}")
        there = self._deployment
        if there is None or there.mesh.mode.name != mode or isinstance(there, OwnDeployment) is not own:
            self._vacate()
            try:
                # Known before its first object: what a start leaves is taken down.
                there = self._deployment = self._planned(mode, own=own)
                there.spans = self.spans
                with self.spans.span("deploy", SpanKind.WAIT):
                    there.start()
            except BaseException as error:
                self._end_after(error)
                if (cause := unfit(error)) is None:
                    raise
                self._undeployable[mode] = cause
                raise EnvironmentUnfit(f"mode {mode} cannot be deployed here: {cause}") from error
        return there

    def _end_after(self, error: BaseException) -> None:
        """Take down what a start left, namespaces too; note what fails, without hiding the cause."""
        try:
            self._end()
        except Exception as second:
            left = f"not all of it was taken down again: {one_line(second)}: sharedfate clean"
            self.progress.step(left)
            error.add_note(left)

    def _planned(self, mode: str, *, own: bool) -> Deployment:
        settings = self.settings
        if settings.target is not None:
            return external_deployment(
                self.cluster, settings.target, run=self.id, settings=settings, progress=self.progress
            )
        opens = self._facts is not None and self._facts.tried is not None and self._facts.tried.opens
        if not own and (installed := installed_modes().get(mode)) is not None:
            return installed_deployment(self.cluster, installed, run=self.id, settings=settings, progress=self.progress)
        deployment = own_deployment if own else reference_deployment
        return deployment(
            self.cluster, mode, run=self.id, settings=settings, progress=self.progress, mesh=self.mesh, opens=opens
        )

    def redeploy(self, mode: str) -> Deployment:
        """Deploy the mode anew, for a deployment that did not recover from what an earlier trial did to it."""
        self._vacate()
        return self.deployment(mode)

    def discard(self) -> None:
        """Take the deployment down, so that the next trial gets a fresh one: it would see what was done to this one."""
        self._vacate()

    def trial(self, mode: str, scenario: str, *, own: bool = False) -> Trial:
        """Return a new trial in the mode's deployment, once every flow is healthy. What an earlier trial of that name
        left is set aside beneath its directory.

        Args:
            own: over the calls that were added to a deployment of the caller's applications; raises Misuse when none
                was.
        """
        if own and not self.deployment(mode, own=True).tenants:
            raise Misuse(
                "no call is loaded, so nothing would be judged: chaos_load.add(CLIENT, SERVER, reach=...) in a fixture "
                "that the test asks for before chaos_trial, or chaos_new_trial() once it was added; or ask for "
                "chaos_tenants, for the reference tenants"
            )
        directory = self.settings.out / "trials" / mode / scenario
        if directory.exists() and any(directory.iterdir()):
            keep_attempt(directory)
        directory.mkdir(parents=True, exist_ok=True)  # it has begun, even if no load becomes healthy
        deployment = self.deployment(mode, own=own)
        if isinstance(deployment, OwnDeployment):
            deployment.trying = True
        helped = deployment.restore_load()
        trial = Trial(deployment, scenario, directory, seed=self.seed.child(mode, scenario), progress=self.progress)
        for sentence in helped:
            trial.note(EventKind.NOTE, {"healed": sentence})
        return trial

    def attempt(self, mode: str, scenario: Scenario) -> TrialResult:
        """Run the whole trial of a scenario in a mode, and once more with fresh pods when it cannot tell and the
        settings allow.

        Raises EnvironmentUnfit where the doctor says that it cannot run, TrialFailed or TrialInconclusive unless it
        passed, and NotApplicable where it does not apply to a target's mesh.
        """
        try:
            return self._attempt(mode, scenario)
        except (TrialFailed, TrialInconclusive, NotApplicable):
            raise
        except Exception as error:
            directory = self.settings.out / "trials" / mode / scenario.name
            directory.mkdir(parents=True, exist_ok=True)
            (directory / ERROR_FILE).write_text(describe_error(error) + "\n")
            raise

    def _attempt(self, mode: str, scenario: Scenario) -> TrialResult:
        if self._facts is not None:
            self._refuse(mode, scenario)
        if self.settings.target is not None and (why := scenario.skip_reason(self.deployment(mode).mesh.mode)):
            raise NotApplicable(why)
        if self.settings.inconclusive is Inconclusive.RETRY:
            try:
                return self._once(mode, scenario)
            except TrialInconclusive as error:
                why = str(error).splitlines()[0].removeprefix(f"{scenario.name}[{mode}]: ")
                self.progress.step(f"{scenario.name}[{mode}]: {why}: once more, with fresh pods")
                self._vacate()
        return self._once(mode, scenario)

    def _refuse(self, mode: str, scenario: Scenario) -> None:
        """Raise what the doctor says before anything is created: EnvironmentUnfit once per reason, then
        NotApplicable.
        """
        assert self._facts is not None
        faults = sorted(fault.name for fault in scenario.faults)
        found = of_scenario(self._facts, scenario.name, mode_named(mode), faults)
        if found.can:
            return
        if found.why in self._said:
            raise NotApplicable(f"{found.subject} cannot run here: {found.why}")
        self._said.add(found.why)
        raise EnvironmentUnfit(f"{found.subject} cannot run here: {found.why}")

    def _once(self, mode: str, scenario: Scenario) -> TrialResult:
        spoiled = True  # what ended in the midst of a fault is no ground for the next trial
        try:
            with (
                self.spans.span(TRIAL, SpanKind.WORK, mode=mode, scenario=scenario.name),
                closing(self.trial(mode, scenario.name)) as trial,
            ):
                try:
                    try:
                        scenario.run(trial)
                        spoiled = scenario.redeploys_after
                    except NoEffect as error:
                        trial.without_effect(error)
                    except (RecoveryFailed, ExceptionGroup) as error:
                        if not (failures := detect_not_recovered(error)):
                            raise
                        trial.not_recovered(failures)
                    return trial.conclude()
                except (SharedfateError, urllib3.exceptions.HTTPError) as error:
                    if not (found := trial.outside()):
                        raise
                    raise trial.interrupted(found, error) from error
        finally:
            if spoiled:
                self.discard()

    def _vacate(self) -> None:
        """End the deployment, for another one of the run."""
        deployment, self._deployment = self._deployment, None
        if deployment is not None and not self.settings.keep:
            self._vacated = deployment
            self._take_down(deployment, deployment.vacate)

    def _end(self) -> None:
        """Take down the last deployment, and what an earlier one left to it."""
        last, self._deployment, self._vacated = self._deployment or self._vacated, None, None
        if last is not None and not self.settings.keep:
            self._take_down(last, last.stop)

    def _take_down(self, deployment: Deployment, remove: Callable[[], None]) -> None:
        if interrupts.hurried():
            self.progress.step(f"{deployment.mesh.mode.name}: left as it is: sharedfate clean")
            return
        title = f"{deployment.mesh.mode.name}: taking down"
        self.progress.step(title)
        with (
            interrupts.cuttable(),
            reporting_takedown(deployment.cluster, deployment.mesh.run, self.progress, title),
            self.spans.span("take down", SpanKind.WAIT),
        ):
            remove()

    def _describe(self, cluster: dict[str, Any], *, error: str = "") -> None:
        header: dict[str, Any] = {
            "version": 1,
            "run": self.id,
            "started": datetime.fromtimestamp(self.began, UTC).isoformat(),
            "seed": self.settings.seed,
            "budget_millicores": self.settings.budget,
            "cluster": cluster,
            **({"error": error} if error else {}),
        }
        if (target := self.settings.target) is not None:
            header["target"] = {
                "mesh": self._mesh or target.name,  # of a target whose mesh is to be detected: what was found
                "tenants": {name: list(spaces) for name, spaces in target.tenants.items()},
            }
        write_whole(self.settings.out / RUN_FILE, json.dumps(header, indent=1) + "\n")


def unfit(error: BaseException) -> str | None:
    """Return why a cluster could not take a deployment, in one line; None for an error of any other kind."""
    if isinstance(error, BaseExceptionGroup):
        causes = [unfit(one) for one in error.exceptions]
        return None if None in causes else "; ".join(dict.fromkeys(str(cause) for cause in causes))
    if isinstance(error, urllib3.exceptions.HTTPError):
        return unanswered(error)
    if isinstance(error, (SharedfateError, ConnectionError)):
        return one_line(error)
    if isinstance(error, OSError) and (error.errno in _UNWRITABLE or "No space left" in str(error)):
        return f"the run directory cannot be written: {error.strerror or one_line(error)}"
    return None


def unfit_for_trial(error: BaseException) -> str | None:
    """Return why a cluster could not run a trial, in one line; None where the experiment itself, or the system,
    broke.
    """
    if isinstance(error, BaseExceptionGroup):
        causes = [unfit_for_trial(one) for one in error.exceptions]
        return None if None in causes else "; ".join(dict.fromkeys(str(cause) for cause in causes))
    broke = isinstance(error, ExperimentFailure) and not isinstance(error, (ApiError, NotReady))
    return None if broke else unfit(error)


def detect_not_recovered(error: BaseException) -> list[str]:
    """Return what an undo did not restore, a sentence each; empty for any other error."""
    if isinstance(error, BaseExceptionGroup):
        return [sentence for one in error.exceptions for sentence in detect_not_recovered(one)]
    return [" ".join(str(error).split())] if isinstance(error, RecoveryFailed) else []


def describe_error(error: BaseException) -> str:
    """Return an error in one line, as reports hold it."""
    return unfit(error) or one_line(error)


def set_aside(out: Path) -> None:
    """Make room for a run: rename an earlier run's directory to `OUT.previous`, replacing the one before it; delete one
    that was refused before its first trial.
    """
    if not (out / RUN_FILE).is_file():
        return  # there is none, or one that holds no run: parse_settings has refused any other
    if {path.name for path in out.iterdir()} <= {RUN_FILE, *OF_REFUSED}:
        shutil.rmtree(out)
        return
    previous = out.with_name(f"{out.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    out.rename(previous)


def keep_attempt(directory: Path) -> None:
    """Move a trial's directory to `attempt-1` inside a new one, so that nothing of the first attempt is lost."""
    aside = directory.with_name(f"{directory.name}.attempt")
    directory.rename(aside)
    directory.mkdir()
    aside.rename(directory / "attempt-1")
