"""Job: run pods to completion, count each finished pod exactly once (finalizer `job-tracking`), retry with back-off.

As upstream: changes are batched for one second, a Job's end is announced (SuccessCriteriaMet, FailureTarget) before
it is final (Complete, Failed), and a retry comes 10 s, 20 s, 40 s … after the last failure's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api.errors import StatusError
from chaos.embedded.clock import parse_time, stamp
from chaos.embedded.controllers.base import (
    BURST,
    Controller,
    Keys,
    Source,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    its_controller,
    itself,
    phase,
    pod_from_template,
)
from chaos.embedded.controllers.job_rules import (
    BACKOFF_FIRST,
    INDEX,
    INDEX_FAILURES,
    INDEX_IGNORED,
    JobBackoff,
    counts_as_failed,
    failures_with,
    format_indexes,
    index_of,
    index_remaining,
    is_failed,
    is_index_failed,
    is_over,
    last_failed,
    limits_each_index,
    parse_indexes,
    past_restarts,
    policy_verdict,
    removal_order,
    success_verdict,
    wanted_active,
)
from chaos.embedded.objects import condition
from chaos.embedded.resources import JOB, POD, Object
from chaos.embedded.store import Key, WatchEvent, copy

TRACKING: Final = "batch.kubernetes.io/job-tracking"
BATCH: Final = 1.0  # seconds

_LIMIT = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
_DEADLINE = ("DeadlineExceeded", "Job was active longer than specified deadline")
_FAILED_INDEXES = ("FailedIndexes", "Job has failed indexes")
_FAILED_INDEXES_LIMIT = ("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
_COMPLETE = ("CompletionsReached", "Reached expected number of succeeded pods")


class JobController(Controller):
    name = "job-controller"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._backoff: dict[str, JobBackoff] = {}

    def sources(self) -> Sequence[Source]:
        return [(JOB, itself), (POD, its_controller("Job"))]

    def enqueue(self, keys: Keys, event: WatchEvent) -> None:
        """Queue new Jobs and new specs at once, all else in batches of a second."""
        job_event = event.object["kind"] == "Job"
        if job_event and event.type == "DELETED":
            self._backoff.pop(event.object["metadata"]["uid"], None)
        before = event.before
        at_once = job_event and (
            event.type != "MODIFIED"
            or before is None
            or before["spec"] != event.object["spec"]
            or is_terminating(event.object)
        )
        for key in keys:
            if at_once:
                self.queue.add(key)
            else:
                self.queue.add_after(key, BATCH)

    def reconcile(self, key: Key) -> float | None:
        job = self.store.find(JOB, *key)
        self._release_orphans(key, job)
        if job is None:
            return None
        pods = self._claim(job)
        if is_over(job):
            self._backoff.pop(job["metadata"]["uid"], None)
            for pod in pods:
                self._untrack(pod)
            return None
        if (
            is_terminating(job)
            or job["spec"].get("managedBy", "kubernetes.io/job-controller") != "kubernetes.io/job-controller"
        ):
            return None
        return _Pass(self, job, pods).run()

    def _claim(self, job: Object) -> list[Object]:
        """The Job's pods by owner; adopt orphans that a hand-made selector matches."""
        uid = job["metadata"]["uid"]
        if job["spec"].get("manualSelector"):
            return self.claim(JOB, job)
        return [
            pod
            for pod in self.store.list(POD, job["metadata"]["namespace"])
            if (controller_of(pod) or {}).get("uid") == uid
        ]

    def _release_orphans(self, key: Key, job: Object | None) -> None:
        """Remove our finalizer from pods whose Job is gone or replaced."""
        for pod in self.store.list(POD, key[0]):
            ref = controller_of(pod)
            if (
                ref is not None
                and ref["kind"] == "Job"
                and ref["name"] == key[1]
                and (job is None or ref["uid"] != job["metadata"]["uid"])
            ):
                self._untrack(pod)

    def _untrack(self, pod: Object) -> None:
        if TRACKING in pod["metadata"].get("finalizers", []):
            meta = pod["metadata"]
            self.store.mutate(POD, meta["namespace"], meta["name"], _drop_tracking, uid=meta["uid"])

    def backoff(self, job: Object, ended: Sequence[Object]) -> JobBackoff:
        """The Job's back-off, updated with the newly finished pods and remembered."""
        uid = job["metadata"]["uid"]
        found = self._backoff[uid] = self._backoff.get(uid, JobBackoff()).after(ended)
        return found


class _Pass:
    """One reconciliation of one Job."""

    def __init__(self, controller: JobController, job: Object, pods: Sequence[Object]) -> None:
        self.controller = controller
        self.job = job
        self.spec: Mapping[str, Any] = job["spec"]
        self.status: dict[str, Any] = copy(job.get("status", {}))
        self.conditions: list[dict[str, Any]] = self.status.get("conditions", [])
        self.now = controller.clock.now()
        self.indexed = job["spec"].get("completionMode") == "Indexed"
        self.again: float | None = None
        self._look(pods)

    def _look(self, pods: Sequence[Object]) -> None:
        """Classify the pods: running, terminating, and finished but not counted."""
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self.pods = list(pods)
        self.active = [pod for pod in pods if is_active(pod)]
        self.terminating = sum(is_terminating(pod) and not is_finished(pod) for pod in pods)
        self.tracked = [pod for pod in pods if TRACKING in pod["metadata"].get("finalizers", [])]
        self.succeeded = [
            pod
            for pod in self.tracked
            if phase(pod) == "Succeeded" and pod["metadata"]["uid"] not in uncounted.get("failed", [])
        ]
        self.lost = [pod for pod in self.tracked if is_failed(self.job, pod)]
        self.failed_indexes = parse_indexes(self.status.get("failedIndexes", ""))
        self.waiting: Mapping[int, Object] = {}
        if limits_each_index(self.job):
            self.failed_indexes |= {index_of(pod) for pod in self.lost if is_index_failed(self.job, pod)}
            self.waiting = last_failed(
                self.job,
                self.tracked,
                settled=frozenset(self._done() | self.failed_indexes),
                active=frozenset(index_of(pod) for pod in self.active),
            )

    def run(self) -> float | None:
        event = self.controller.recorder.event
        suspended = bool(self.spec.get("suspend"))
        if "startTime" not in self.status and not suspended:
            self.status["startTime"] = stamp(self.now)
        backoff = self.controller.backoff(self.job, [*self.succeeded, *self.lost])
        released: list[Object] = []  # to be let go without being counted
        end = self._end()
        if end is not None:
            kind, reason, message = end
            released = self._end_pods(counted=kind == "FailureTarget")
            self._set(kind, "True", reason, message)
        elif suspended:
            if self._set("Suspended", "True", "JobSuspended", "Job suspended"):
                event(self.job, "Normal", "Suspended", "Job suspended")
            self._remove(self.active)
            self.status.pop("startTime", None)
        else:
            if condition({"status": {"conditions": self.conditions}}, "Suspended") is not None and self._set(
                "Suspended", "False", "JobResumed", "Job resumed"
            ):
                event(self.job, "Normal", "Resumed", "Job resumed")
                self.status["startTime"] = stamp(self.now)
            self._manage(backoff)
            self._deadline_due()
        self._write(end, released)
        return self.again

    def _end_pods(self, *, counted: bool) -> list[Object]:
        """Delete running pods because the Job ends. A failing Job counts every pod that has not succeeded as failed,
        without waiting; a successful one returns the pods to release uncounted.
        """
        rest = [pod for pod in self.tracked if pod not in self.succeeded and pod not in self.lost]
        for pod in self.active:
            self._delete(pod)
        self.terminating += len(self.active)
        self.active, self.waiting = [], {}
        if not counted:
            return rest
        self.lost += rest
        return []

    def _remove(self, pods: Sequence[Object]) -> None:
        """Delete surplus pods; they count neither as failed nor as succeeded."""
        for pod in pods:
            self.controller._untrack(pod)
            self._delete(pod)
        self._look(self.controller._claim(self.job))

    # ---- deciding

    def _done(self) -> set[int]:
        done = parse_indexes(self.status.get("completedIndexes", ""))
        return done | {
            index_of(pod) for pod in self.succeeded if 0 <= index_of(pod) < (self.spec.get("completions") or 0)
        }

    def _successes(self) -> int:
        return len(self._done()) if self.indexed else self.status.get("succeeded", 0) + len(self.succeeded)

    def _end(self) -> tuple[str, str, str] | None:
        """(interim condition, reason, message) when the Job ends now or its end was announced."""
        for held in self.conditions:
            if held["type"] in ("FailureTarget", "SuccessCriteriaMet") and held["status"] == "True":
                return held["type"], held["reason"], held["message"]
        for pod in self.lost:
            verdict = policy_verdict(self.job, pod)
            if verdict is not None and verdict[0] == "FailJob":
                return "FailureTarget", "PodFailurePolicy", verdict[1]
        limit = self.spec.get("backoffLimit", 6)
        failed = self.status.get("failed", 0) + sum(counts_as_failed(self.job, pod) for pod in self.lost)
        if failed > limit or past_restarts(self.job, self.pods):
            return ("FailureTarget", *_LIMIT)
        if self._overdue() is not None and self._overdue() == 0:
            return ("FailureTarget", *_DEADLINE)
        if self.failed_indexes:
            most = self.spec.get("maxFailedIndexes")
            if most is not None and len(self.failed_indexes) > most:
                return ("FailureTarget", *_FAILED_INDEXES_LIMIT)
            if len(self.failed_indexes | self._done()) >= self.spec["completions"]:
                return ("FailureTarget", *_FAILED_INDEXES)
        if self.indexed and (met := success_verdict(self.job, self._done())) is not None:
            return "SuccessCriteriaMet", "SuccessPolicy", met
        completions = self.spec.get("completions")
        if completions is None:
            complete = self._successes() > 0 and not self.active
        else:
            complete = self._successes() >= completions and not self.spec.get("suspend")
        return ("SuccessCriteriaMet", *_COMPLETE) if complete else None

    def _overdue(self) -> float | None:
        """Seconds left of the active deadline; 0 when it has passed, None when there is none."""
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is None or "startTime" not in self.status or self.spec.get("suspend"):
            return None
        return max(0.0, float(deadline) - (self.now - parse_time(self.status["startTime"])).total_seconds())

    def _deadline_due(self) -> None:
        left = self._overdue()
        if left is not None:
            self.again = left if self.again is None else min(self.again, left)

    def _manage(self, backoff: JobBackoff) -> None:
        """Create missing pods, as the back-off permits, or delete surplus ones."""
        wanted = wanted_active(self.job, len(self.active), self._successes())
        busy = len(self.active) + (self.terminating if self.spec.get("podReplacementPolicy") == "Failed" else 0)
        if len(self.active) > wanted:
            self._remove(sorted(self.active, key=removal_order)[: len(self.active) - wanted])
            return
        missing = wanted - busy
        if missing <= 0:
            return
        left = 0.0 if limits_each_index(self.job) else backoff.remaining(self.now)
        if left > 0:
            self.again = left
            return
        if missing > BURST:
            missing, self.again = BURST, 0.0
        for index in self._free_indexes(missing) if self.indexed else [-1] * missing:
            self._create(index)

    def _free_indexes(self, number: int) -> list[int]:
        """The indexes that may have a pod now; schedules another pass for those whose back-off runs."""
        taken = self._done() | self.failed_indexes | {index_of(pod) for pod in self.active}
        if self.spec.get("podReplacementPolicy") == "Failed":
            taken |= {index_of(pod) for pod in self.pods if is_terminating(pod) and not is_finished(pod)}
        free = [index for index in range(self.spec["completions"]) if index not in taken][:number]
        waits = {index: index_remaining(self.waiting.get(index), self.now) for index in free}
        if later := [left for left in waits.values() if left > 0]:
            self.again = min(later)
        return [index for index in free if not waits[index]]

    def _create(self, index: int) -> None:
        meta = self.job["metadata"]
        pod = pod_from_template(self.spec["template"], owner_resource=JOB, owner=self.job)
        pod["metadata"]["finalizers"] = [TRACKING]
        labels = pod["metadata"].setdefault("labels", {})
        if not self.spec.get("manualSelector"):
            for name, value in (("controller-uid", meta["uid"]), ("job-name", meta["name"])):
                labels[name] = labels[f"batch.kubernetes.io/{name}"] = value
        if index >= 0:
            _index(pod, index, meta["name"])
        if limits_each_index(self.job):
            counted, ignored = failures_with(self.job, self.waiting.get(index))
            pod["metadata"]["annotations"][INDEX_FAILURES] = str(counted)
            if ignored:
                pod["metadata"]["annotations"][INDEX_IGNORED] = str(ignored)
        event = self.controller.recorder.event
        try:
            created = self.controller.create(POD, pod)
        except StatusError as error:
            event(self.job, "Warning", "FailedCreate", f"Error creating: {error}")
            self.again = BACKOFF_FIRST
            return
        self.active.append(created)
        self.waiting = {held: last for held, last in self.waiting.items() if held != index}
        event(self.job, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")

    def _delete(self, pod: Object) -> None:
        self.controller.delete(POD, pod)
        self.controller.recorder.event(
            self.job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}"
        )

    # ---- writing

    def _set(self, kind: str, status: str, reason: str, message: str) -> bool:
        """Set a condition; whether it changed."""
        held = next((one for one in self.conditions if one["type"] == kind), None)
        if held is not None and held["status"] == status:
            return False
        at = stamp(self.now)
        new = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastProbeTime": at,
            "lastTransitionTime": at,
        }
        if held is None:
            self.conditions = [*self.conditions, new]
        else:
            self.conditions = [new if one is held else one for one in self.conditions]
        return True

    def _counters(self, uncounted: dict[str, list[str]]) -> None:
        for name, number in (
            ("active", len(self.active)),
            ("ready", sum(is_ready(pod) for pod in self.active)),
            ("terminating", self.terminating),
        ):
            self.status[name] = number
        if not self.active:
            del self.status["active"]
        if self.indexed and (done := self._done()):  # an index is enough to count a success once
            self.status["completedIndexes"], self.status["succeeded"] = format_indexes(done), len(done)
        if limits_each_index(self.job):
            self.status["failedIndexes"] = format_indexes(self.failed_indexes)
        self.status["uncountedTerminatedPods"] = uncounted
        if self.conditions:
            self.status["conditions"] = self.conditions

    def _write(self, end: tuple[str, str, str] | None, released: Sequence[Object]) -> None:
        """Record the pods about to be counted, then release them, then count: no crash counts one twice."""
        store_status = self.controller.set_status
        held = {pod["metadata"]["uid"] for pod in self.waiting.values()}  # until their index has its next pod
        lost = [pod for pod in self.lost if pod["metadata"]["uid"] not in held]
        failed = [pod for pod in lost if counts_as_failed(self.job, pod)]
        uncounted = {
            name: [pod["metadata"]["uid"] for pod in pods]
            for name, pods in (("succeeded", [] if self.indexed else self.succeeded), ("failed", failed))
            if pods
        }
        self._counters(uncounted)
        job = store_status(JOB, self.job, self.status)
        for pod in (*self.succeeded, *lost, *released):
            self.controller._untrack(pod)
        if uncounted:
            self.status = copy(self.status)
            for name, pods in uncounted.items():
                self.status[name] = self.status.get(name, 0) + len(pods)
            self.status["uncountedTerminatedPods"] = {}
        if end is not None and not self.terminating and not self.active:
            self._finish(end)
        store_status(JOB, job, self.status)

    def _finish(self, end: tuple[str, str, str]) -> None:
        kind, reason, message = end
        event = self.controller.recorder.event
        self.status = copy(self.status)
        if kind == "SuccessCriteriaMet":
            self._set("Complete", "True", reason, message)
            self.status["completionTime"] = stamp(self.now)
            event(self.job, "Normal", "Completed", "Job completed")
        else:
            self._set("Failed", "True", reason, message)
            event(self.job, "Warning", reason, message)
        self.status["conditions"] = self.conditions


def _drop_tracking(pod: dict[str, Any]) -> None:
    left = [name for name in pod["metadata"]["finalizers"] if name != TRACKING]
    if left:
        pod["metadata"]["finalizers"] = left
    else:
        del pod["metadata"]["finalizers"]


def _index(pod: dict[str, Any], index: int, job: str) -> None:
    """Tell a pod of an Indexed Job its number: annotation, label, environment and host name."""
    meta, spec = pod["metadata"], pod["spec"]
    meta["generateName"] = f"{job}-{index}-"
    meta.setdefault("annotations", {})[INDEX] = str(index)
    meta["labels"][INDEX] = str(index)
    spec["hostname"] = f"{job}-{index}"
    variable = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}},
    }
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        if not any(held["name"] == variable["name"] for held in container.get("env", [])):
            container.setdefault("env", []).append(variable)
