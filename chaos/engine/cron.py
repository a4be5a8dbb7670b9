"""A tenant's CronJob in a trial's mode, whose run loses its proxy: whether the next run comes when it is due."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final

from chaos.engine.beside import inject_alone
from chaos.engine.targets import WHOLE_POD, proxy_serving
from chaos.engine.trial import Trial
from chaos.errors import ExperimentFailure
from chaos.kube.client import Object
from chaos.kube.objects import is_owned_by, is_running, true_conditions
from chaos.mesh import manifests
from chaos.model.job_fate import APP
from chaos.model.placement import Proxy
from chaos.verdict.check import Check, decided

EVERY: Final = 60.0  # seconds: the shortest schedule that there is
LATE: Final = 15.0  # seconds after it was due by which a run must have begun: a pod starts, on a busy machine too
SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"  # on a Job: when it was due
REQUESTS: Final = 80
INTERVAL: Final = 0.05


@dataclass(frozen=True, slots=True)
class CronSeen:
    """What became of a CronJob's first run, and of the one that was due after it.

    Attributes:
        first: the conditions that the first run's Job had when the next was due.
        late: seconds after it was due at which the next run's Job was there; None: it was missed.
    """

    first: tuple[str, ...]
    late: float | None

    def judge(self, *, held: bool) -> list[Check]:
        """Hold it against the prediction. Pure.

        Args:
            held: something keeps Jobs of this mode from ending, so that the next run must be missed.
        """
        first = ", ".join(self.first) or "still running"
        came = "was missed" if self.late is None else f"began {self.late:.1f} s after it was due"
        done = ("Complete" in self.first) is not held
        return [
            decided("the first run never ends" if held else "the first run completes", done, f"it was: {first}"),
            decided(
                "the next run is missed" if held else "the next run is not missed",
                (self.late is None) is held,
                f"the first run was: {first}; the next {came}",
                self.late or 0.0,
                "s",
            ),
        ]


def read_runs(jobs: Iterable[Object]) -> dict[float, Object]:
    """Return a CronJob's Jobs by when they were due, in seconds since the epoch. Pure."""
    found: dict[float, Object] = {}
    for job in jobs:
        if stamp := (job["metadata"].get("annotations") or {}).get(SCHEDULED):
            found[datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()] = job
    return found


class CronRun(AbstractContextManager["CronRun"]):
    """A CronJob that exists while the block runs: a Job of the first tenant every minute, never two at a time. It calls
    the tenant's server, and tries each request several times.
    """

    def __init__(self, trial: Trial, name: str, *, tries: int) -> None:
        self.trial, self.cluster, self.name = trial, trial.cluster, name
        self.tenant = trial.deployment.tenants[0]
        objects = manifests.cron(
            name,
            tenant=self.tenant.name,
            nodes=trial.placement.nodes_of(self.tenant.client),
            requests=REQUESTS,
            interval=INTERVAL,
            tries=tries,
        )
        self._objects = inject_alone(trial, objects)
        self._uid = ""

    def __enter__(self) -> CronRun:
        for obj in self._objects:
            self._uid = self.cluster.apply(obj)["metadata"]["uid"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for obj in self._objects:  # its Jobs go with it, and their pods with them
            self.cluster.delete(obj["kind"], obj["metadata"]["name"], self.tenant.namespace)

        def gone() -> bool:
            pods = self._pods()
            self.trial.excused |= {(pod["metadata"]["uid"], WHOLE_POD) for pod in pods}
            return not pods

        self.cluster.wait(f"{self.name} and its pods are gone", gone, seconds=90)

    def await_first(self) -> tuple[float, Proxy]:
        """Wait until the first run works; return when it was due, and the L4 proxy that serves it; in mode `none` the
        placebo of its node.
        """

        def running() -> Object | None:
            return next((pod for pod in self._pods() if is_running(pod, APP)), None)

        pod = self.cluster.wait(f"the first run of {self.name} works", running, seconds=EVERY + 2 * LATE, every=0.2)
        found = proxy_serving(self.trial.deployment.placement(), pod)
        if found is None:
            raise ExperimentFailure(f"{self.name}: no proxy serves {self.tenant.namespace}/{pod['metadata']['name']}")
        return min(read_runs(self._jobs())), found

    def await_next(self, first: float) -> CronSeen:
        """Watch until the run after the first has begun, or is late."""
        due = first + EVERY
        self.trial.observe_until(round(due * 1e9))
        state = tuple(sorted(true_conditions(read_runs(self._jobs())[first])))
        while time.time() < due + LATE:
            if due in read_runs(self._jobs()):
                return CronSeen(state, time.time() - due)
            self.trial.hold(0.2)
        return CronSeen(state, None)

    def _jobs(self) -> list[Object]:
        found = self.cluster.list("Job", self.tenant.namespace)
        return [job for job in found if is_owned_by(job, {self._uid})]

    def _pods(self) -> list[Object]:
        return self.cluster.list("Pod", self.tenant.namespace, labels=f"app={self.name}")
