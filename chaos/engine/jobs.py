"""A tenant's Job in a trial's mode: whether its application ended, whether the Job did, and what was retried."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from chaos.engine.beside import inject_alone
from chaos.engine.targets import WHOLE_POD, proxy_serving
from chaos.engine.trial import Trial
from chaos.errors import ApiError, ExperimentFailure
from chaos.kube.client import KINDS
from chaos.kube.objects import container_status, true_conditions
from chaos.mesh import manifests
from chaos.model.job_fate import APP, JobPolicy
from chaos.model.placement import Proxy
from chaos.verdict.check import Check, decided

LINGERS: Final = 6.0  # seconds after its application's end, by which a Job that ends at all has ended
SECONDS: Final = 90.0  # longest wait for a Job
CONTAINER: Final = APP


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The state of a Job."""

    complete: bool
    failed: bool
    pods: int
    app_exit: int | None  # of the last pod's application; None: it did not end
    app_seconds: float  # from the Job's creation to the end of its application
    after_app: float  # seconds after that, when the Job was seen to be complete, or was given up
    first: str  # how the first request ended
    retried: int
    report: dict[str, Any]
    exits: tuple[int, ...] = ()  # of every end of its application, in every pod, restarts included
    answered: int = 0  # requests, over all ends with nothing left undone
    repeated: int = 0  # requests that an end with something left undone had answered: they were made again

    @property
    def successes(self) -> int:
        """How often its application ended with 0."""
        return self.exits.count(0)

    def once(self, requests: int) -> Check:
        """Whether the work was done exactly once: a Job that succeeded twice did it twice."""
        return decided(
            "the Job's work is done exactly once",
            self.successes == 1 and self.answered == requests,
            f"its application ended with {', '.join(map(str, self.exits)) or 'nothing'}; "
            f"{self.answered} requests were answered, {requests} are its work, {self.repeated} were made again",
            self.successes,
            "successes",
        )

    def application(self) -> str:
        """The application's end, in words."""
        if self.app_exit is None:
            return "its application did not end"
        return (
            f"its application ended with {self.app_exit} after {self.app_seconds:.1f} s: "
            f"{self.report.get('ok', 0)} requests answered"
        )


class JobRun(AbstractContextManager["JobRun"]):
    """A Job that exists while the block runs, whatever becomes of it. It calls the first tenant's server.

    Args:
        policy: how it treats the end of its pods; by default it is tried again up to three times.
        seconds: its deadline.
    """

    def __init__(
        self,
        trial: Trial,
        name: str,
        *,
        requests: int = 20,
        interval: float = 0.0,
        tries: int = 1,
        policy: JobPolicy | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self.trial, self.cluster, self.name, self.requests = trial, trial.cluster, f"job-{name}", requests
        self.tenant = trial.deployment.tenants[0]
        objects = manifests.job(
            self.name,
            tenant=self.tenant.name,
            nodes=trial.placement.nodes_of(self.tenant.client),
            requests=requests,
            interval=interval,
            tries=tries,
            deadline_seconds=int(seconds),
            spec=policy.spec if policy else None,
            restart=policy.restart if policy else "Never",
        )
        self._objects = inject_alone(trial, objects)
        self._began = 0.0

    def __enter__(self) -> JobRun:
        self._began = time.monotonic()
        for obj in self._objects:
            self.cluster.apply(obj)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trial.excused |= {(pod["metadata"]["uid"], WHOLE_POD) for pod in self.pods()}
        for obj in self._objects:
            assert KINDS[obj["kind"]][2]
            self.cluster.delete(obj["kind"], obj["metadata"]["name"], self.tenant.namespace)
        self.cluster.wait(f"{self.name} is gone", lambda: not self.pods(), seconds=60)

    def pods(self) -> list[dict[str, Any]]:
        """Its pods, oldest first."""
        found = self.cluster.list("Pod", self.tenant.namespace, labels=f"job-name={self.name}")
        return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def proxy(self, *, seconds: float = 30.0) -> Proxy:
        """The L4 proxy that serves the running Job; in mode `none` the placebo of its node."""

        def running() -> dict[str, Any] | None:
            return next(
                (pod for pod in self.pods() if "running" in container_status(pod, CONTAINER).get("state", {})), None
            )

        pod = self.cluster.wait(f"{self.name} runs", running, seconds=seconds)
        found = proxy_serving(self.trial.deployment.placement(), pod)
        if found is None:
            raise ExperimentFailure(f"{self.name}: no proxy serves {self.tenant.namespace}/{pod['metadata']['name']}")
        return found

    def watch(self) -> JobSeen:
        """Watch until the Job is complete, has failed, or goes on for LINGERS seconds after its application ended."""
        ended_at = 0.0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            status = self.cluster.get("Job", self.name, self.tenant.namespace).get("status", {})
            said = frozenset(true_conditions({"status": status}))
            pods = self.pods()
            state = container_status(pods[-1], CONTAINER).get("state", {}) if pods else {}
            code = state.get("terminated", {}).get("exitCode")
            if ended_at == 0.0 and (code == 0 or (code is not None and pods[-1]["status"].get("phase") == "Running")):
                ended_at = time.monotonic()  # well, or badly in a pod that something else keeps from ending
            if said & {"Complete", "Failed"} or (ended_at and time.monotonic() - ended_at > LINGERS):
                return self._seen(said, pods, state, ended_at or time.monotonic())
            self.trial.hold(0.1)
        raise ExperimentFailure(f"{self.name}: neither its application nor the Job ended within {SECONDS:g} s")

    def _seen(
        self, said: frozenset[str], pods: list[dict[str, Any]], state: dict[str, Any], ended_at: float
    ) -> JobSeen:
        reports = [report for pod in pods if (report := self._report(pod))]
        return JobSeen(
            complete="Complete" in said,
            failed="Failed" in said,
            pods=len(pods),
            app_exit=state.get("terminated", {}).get("exitCode"),
            app_seconds=ended_at - self._began,
            after_app=time.monotonic() - ended_at,
            first=str(reports[0].get("first", "")) if reports else "",
            retried=sum(int(report.get("retried", 0)) for report in reports),
            report=reports[-1] if reports else {},
            exits=detect_exits(pods),
            answered=sum(int(report.get("ok", 0)) for report in reports if not report.get("failed")),
            repeated=sum(int(report.get("ok", 0)) for report in reports if report.get("failed")),
        )

    def _report(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Return the line of JSON that the application prints at its end; empty when there is none."""
        try:
            lines = self.cluster.logs(self.tenant.namespace, pod["metadata"]["name"], container=CONTAINER).splitlines()
        except ApiError:
            return {}
        for line in reversed(lines):
            try:
                return dict(json.loads(line))
            except ValueError:
                continue
        return {}


def detect_exits(pods: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Return the exit codes of a Job's application: for each pod the one before its last start, then its last. Pure."""
    found: list[int] = []
    for pod in pods:
        status = container_status(dict(pod), CONTAINER)
        for state in (status.get("lastState"), status.get("state")):
            if (ended := (state or {}).get("terminated")) is not None:
                found.append(int(ended["exitCode"]))
    return tuple(found)
