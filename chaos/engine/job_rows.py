"""Jobs of several policies that are struck in the same way at the same time: what became of each, beside what the model
says (`chaos.model.job_fate`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from chaos.engine.jobs import JobRun
from chaos.engine.targets import WHOLE_POD, container_of, proxy_serving, workload, workload_of
from chaos.engine.trial import Injection, Trial
from chaos.errors import ExperimentFailure, NotReady, TargetVanished
from chaos.faults.control_plane import ControlPlane
from chaos.faults.drain import evict
from chaos.faults.kill import Kill
from chaos.faults.model import Target
from chaos.faults.restart import Restart
from chaos.kube.client import Object
from chaos.kube.objects import container_status, is_deleting, is_running, true_conditions
from chaos.model.job_fate import APP, DURING, EVICTED_CODE, End, JobFate, Round, Row, Trouble, predict_fate
from chaos.model.placement import Proxy
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE
from chaos.verdict.check import Check, decided, undecided

REQUESTS: Final = 120
LONG: Final = 360  # requests of a Job under which proxies are rolled out, one node after the other
INTERVAL: Final = 0.05
WORK: Final = REQUESTS * (INTERVAL + 0.004) + 0.5  # seconds that one run of the application takes, with its start
DEADLINE: Final = 150.0  # seconds: of the Job, and of our patience
IDLE: Final = 13.0  # seconds without any change: beyond the first back-off of a Job (10 s, and a second of its batches)
STARTS_WITHIN: Final = 90.0  # seconds
BEFORE_END: Final = 1.0  # seconds: the last second
MIDDLE: Final = 2.0  # seconds after its start
REACH: Final = 1.0  # seconds from the request for a kill to its effect, until one was measured


@dataclass(slots=True)
class JobWatch:
    """What is seen of one Job over its life: pods that are deleted meanwhile stay in it.

    Attributes:
        struck: the pod whose proxy was killed, or that was evicted, by UID.
        struck_at: ns: when; 0: there was nothing to strike.
    """

    row: Row
    job: JobRun
    pods: dict[str, Object] = field(default_factory=dict)
    end: End | None = None
    struck: str = ""
    struck_at: int = 0
    _changed: float = field(default_factory=time.monotonic)
    _last: Any = None

    def look(self) -> None:
        """Look once; `end` is set when the Job's end is known."""
        job = self.job.cluster.get("Job", self.job.name, self.job.tenant.namespace)
        now = self.job.pods()
        self.pods |= {pod["metadata"]["uid"]: pod for pod in now}
        state = (tuple(true_conditions(job)), tuple(map(_state_of, now)))
        if state != self._last:
            self._last, self._changed = state, time.monotonic()
        begun = any(container_status(pod, APP).get("containerID") for pod in self.pods.values())
        self.end = detect_end(job, now, idle=time.monotonic() - self._changed, begun=begun)

    def judge(self, predicted: JobFate) -> Check:
        """Hold what became of the Job against the prediction."""
        if self.end is None:
            return undecided(self.row.name, f"the Job had not ended within {DEADLINE:g} s, and still worked")
        seen = detect_fate(self.end, self.pods.values())
        exits = ", ".join(map(str, exits_of(self.pods.values()))) or "nothing"
        said = f"{seen}; its application ended with {exits}"
        fits = seen == predicted or (seen.end is predicted.end is End.FAILED)
        if not fits and (late := detect_late(self.row.trouble, self.pods.get(self.struck), at=self.struck_at)):
            return undecided(self.row.name, f"{said}; {late}")
        return decided(
            self.row.name, fits, said if fits else f"{said}; predicted: {predicted}", seen.retried, "retries"
        )


def _state_of(pod: Object) -> Any:
    status = container_status(pod, APP)
    return (
        pod["metadata"]["uid"],
        pod["status"].get("phase"),
        status.get("restartCount"),
        sorted(status.get("state", {})),
    )


def detect_end(job: Object, pods: Iterable[Object], *, idle: float, begun: bool) -> End | None:
    """Return how a Job ended; None while it works. It never ends when each pod of it that has not ended holds an
    application that has, for longer than any back-off; it never begins when none has started for as long. Pure.

    Args:
        idle: seconds without a change.
        begun: its application was started in any pod that it had.
    """
    said = true_conditions(job)
    if "Complete" in said:
        return End.COMPLETED
    if "Failed" in said:
        return End.FAILED
    there = [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running") and not is_deleting(pod)]
    if there and not begun and idle > IDLE:
        return End.WAITED
    done = there and all("terminated" in container_status(pod, APP).get("state", {}) for pod in there)
    return End.HUNG if done and idle > IDLE else None


def exits_of(pods: Iterable[Object]) -> list[int]:
    """Return the exit codes of the application: of each pod the one before its last start, then its last. Pure."""
    return [code for pod in pods for code in _exits(pod)]


def _exits(pod: Object) -> list[int]:
    status = container_status(pod, APP)
    ends = [(status.get(which) or {}).get("terminated") for which in ("lastState", "state")]
    return [int(end["exitCode"]) for end in ends if end is not None]


def detect_fate(end: End, pods: Iterable[Object]) -> JobFate:
    """Derive a Job's fate from every pod that it had. Pure."""
    starts, done, units = 0, dict[str, int](), set[str]()
    for pod in pods:
        status = container_status(pod, APP)
        unit = str((pod["metadata"].get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", ""))
        if status.get("containerID"):
            starts += 1 + int(status.get("restartCount", 0))
            units.add(unit)
        done[unit] = done.get(unit, 0) + _exits(pod).count(0)
    return JobFate(end, starts - len(units), any(count > 1 for count in done.values()))


def detect_late(trouble: Trouble, pod: Object | None, *, at: int) -> str:
    """Return why a kill may have come after the application's end, by which nothing can be said of its policy; "" when
    it came before, or was meant to come after. Pure.

    Args:
        pod: that was struck.
        at: ns. The application's end is known to the second.
    """
    if trouble not in DURING and trouble is not Trouble.EVICTED:
        return ""
    status = container_status(pod, APP) if pod is not None else {}
    first = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated")
    if not at or first is None or (trouble is Trouble.EVICTED and first["exitCode"] == EVICTED_CODE):
        return ""
    ended = datetime.fromisoformat(first["finishedAt"].replace("Z", "+00:00")).timestamp()
    return "" if at / 1e9 < ended else "it may have been struck after its application's end"


class JobRounds:
    """Runs rounds of Jobs in one trial, each struck as its round says. A proxy that is shared is made anew in between,
    for the kubelet delays a container that was killed before.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial, self.cluster = trial, trial.cluster
        self._reach = REACH

    def run(self, one: Round) -> list[Check]:
        """Run one round, and return a check for each of its Jobs."""
        mode = self.trial.mesh.mode
        shared, late = None, ""
        with ExitStack() as later:  # an undo waits for a proxy in the pod, which may only go with its Job
            if one.trouble is Trouble.NEVER_READY:
                self._keep_unready(later)
            with ExitStack() as jobs:
                watches = [JobWatch(row, jobs.enter_context(self._job(row))) for row in one.rows]
                if one.trouble is not Trouble.NEVER_READY:
                    try:
                        shared = self._strike(one.trouble, watches, self._await_start(watches), later)
                    except NotReady as error:
                        late = str(error)
                self._settle(watches)
        if shared is not None:
            self.trial.renew(shared)
        found = [watch.judge(predict_fate(mode, watch.row.policy, watch.row.trouble)) for watch in watches]
        return [*found, decided(f"Jobs come as far as their trouble: {one.trouble}", False, late)] if late else found

    def _job(self, row: Row) -> JobRun:
        name = f"{row.policy.name}-{row.trouble.name.lower().replace('_', '-')}"
        requests = LONG if row.trouble is Trouble.UPGRADED else REQUESTS
        return JobRun(self.trial, name, requests=requests, interval=INTERVAL, policy=row.policy, seconds=DEADLINE)

    def _keep_unready(self, later: ExitStack) -> None:
        """Let no proxy get anything new until `later` is left: what a Job's pod needs never comes."""
        if self.trial.mesh.mode.hops:
            target = workload(self.cluster, f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}", "Deployment")
            later.enter_context(self.trial.fault(ControlPlane(), target, seconds=DEADLINE + STARTS_WITHIN))

    def _upgrade(self, proxy: Proxy, later: ExitStack) -> None:
        """Roll the Job's proxy out; where it is a container of the Job's pod, those of another workload's pods."""
        if self.trial.mesh.mode.in_pod:
            target = workload(self.cluster, self.trial.deployment.tenants[-1].server)
        else:
            target = workload_of(self.cluster, proxy)
        later.enter_context(self.trial.fault(Restart(), target, seconds=DEADLINE + STARTS_WITHIN))

    def _await_start(self, watches: Sequence[JobWatch]) -> float:
        """Wait until every Job's first pods run; return when, by the monotonic clock."""

        def running() -> bool:
            return all(
                len([pod for pod in watch.job.pods() if is_running(pod, APP)]) >= watch.row.policy.parallelism
                for watch in watches
            )

        self.cluster.wait("every Job's first pods run", running, seconds=STARTS_WITHIN, every=0.1)
        return time.monotonic()

    def _strike(self, trouble: Trouble, watches: Sequence[JobWatch], began: float, later: ExitStack) -> Proxy | None:
        """Strike each Job once; return the proxy that they share, if it was that which was killed."""
        placement = self.trial.deployment.placement()
        targets: dict[str, tuple[Proxy, Target]] = {}
        for watch in watches:
            pod = min(
                (one for one in watch.job.pods() if is_running(one, APP)), key=lambda one: str(one["metadata"]["name"])
            )
            proxy = proxy_serving(placement, pod)
            if proxy is None:
                raise ExperimentFailure(f"{watch.job.name}: no proxy serves {pod['metadata']['name']}")
            watch.struck = pod["metadata"]["uid"]
            targets[watch.row.name] = (proxy, container_of(self.cluster, proxy))
        self._await_moment(trouble, watches, began)
        if trouble is Trouble.EVICTED:
            for watch in watches:
                meta = next(pod for pod in watch.job.pods() if pod["metadata"]["uid"] == watch.struck)["metadata"]
                watch.struck_at = time.time_ns()
                self.trial.excused.add((meta["uid"], WHOLE_POD))
                evict(self.cluster, meta["namespace"], meta["name"], meta["uid"])
            return None
        if trouble is Trouble.UPGRADED:
            struck_at = time.time_ns()
            for watch in watches:
                watch.struck_at = struck_at
            self._upgrade(next(iter(targets.values()))[0], later)
            return None
        unique = {target.container_id: (proxy, target) for proxy, target in targets.values()}
        asked = time.time_ns()
        with ThreadPoolExecutor(max_workers=len(unique)) as pool:
            struck = dict(zip(unique, pool.map(lambda pair: self._kill(pair[1], later), unique.values()), strict=True))
        for watch in watches:
            watch.struck_at = struck[targets[watch.row.name][1].container_id]
        if reached := max(struck.values()):
            self._reach = (reached - asked) / 1e9
        if self.trial.mesh.mode.in_pod:
            return None
        later.close()  # a shared proxy comes back while the Jobs run
        proxy, _ = next(iter(unique.values()))
        return proxy

    def _kill(self, target: Target, later: ExitStack) -> int:
        """Kill a proxy, to be seen whole, or gone with its Job, when `later` is left; return when, ns. 0: it had ended
        before.
        """
        held = self.trial.fault(Kill(), target, seconds=DEADLINE + STARTS_WITHIN)
        try:
            injection: Injection = held.__enter__()
        except TargetVanished:
            return 0

        def undo() -> None:
            try:
                held.__exit__(None, None, None)
            except TargetVanished:
                return

        later.callback(undo)
        return injection.begin

    def _await_moment(self, trouble: Trouble, watches: Sequence[JobWatch], began: float) -> None:
        match trouble:
            case Trouble.AT_START:
                return
            case Trouble.MIDWAY | Trouble.EVICTED | Trouble.UPGRADED:
                moment = began + MIDDLE
            case Trouble.LAST_SECOND:
                moment = began + WORK - BEFORE_END - self._reach
            case Trouble.AFTER:
                self.cluster.wait("every Job's work is done", lambda: all(map(_work_done, watches)), seconds=DEADLINE)
                return
            case Trouble.NEVER_READY:  # nothing strikes it
                return
        self.trial.hold(max(0.0, moment - time.monotonic()))

    def _settle(self, watches: Sequence[JobWatch]) -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            for watch in watches:
                if watch.end is None:
                    watch.look()
            if all(watch.end is not None for watch in watches):
                return
            self.trial.hold(0.2)


def _work_done(watch: JobWatch) -> bool:
    return any(0 in _exits(pod) for pod in watch.job.pods())


def tally(checks: Iterable[Check]) -> Mapping[str, int]:
    """Count the Jobs by how they ended. Pure."""
    counts: dict[str, int] = {}
    for check in checks:
        end = next((str(one) for one in End if check.sentence.startswith(str(one))), "not known")
        counts[end] = counts.get(end, 0) + 1
    return counts
