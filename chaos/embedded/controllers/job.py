"""Job: runs pods to completion, counts each ended pod exactly once (finalizer `job-tracking`), retries with back-off.

As upstream, changes are looked at in batches of one second, a Job's end is announced (SuccessCriteriaMet,
FailureTarget) before it is final (Complete, Failed), and a retry comes 10 s, 20 s, 40 s … after the last failure's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from chaos.embedded.api.errors import StatusError
from chaos.embedded.clock import parse_time, stamp
from chaos.embedded.controllers.base import (
    BURST,
    Controller,
    Keys,
    Source,
    condition,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    is_true,
    its_controller,
    itself,
    phase,
    pod_from_template,
)
from chaos.embedded.resources import JOB, POD, Object
from chaos.embedded.store import Key, WatchEvent, copy

TRACKING: Final = "batch.kubernetes.io/job-tracking"
INDEX: Final = "batch.kubernetes.io/job-completion-index"
BATCH: Final = 1.0  # seconds
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
BACKOFF_FIRST, BACKOFF_MOST = 10.0, 600.0

_LIMIT = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
_DEADLINE = ("DeadlineExceeded", "Job was active longer than specified deadline")
_COMPLETE = ("CompletionsReached", "Reached expected number of succeeded pods")


# ---- pure


def finished_at(pod: Object) -> datetime:
    """When a pod ended: its last container's end, else when it turned unready, else when it was deleted, else its
    birth.
    """
    statuses = pod.get("status", {}).get("containerStatuses", [])
    ends = [(status.get("state") or {}).get("terminated", {}).get("finishedAt") for status in statuses]
    if ends and all(ends):
        return max(parse_time(end) for end in ends)
    ready = condition(pod, "Ready")
    if ready is not None and ready["status"] == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    meta = pod["metadata"]
    if "deletionTimestamp" in meta:
        return parse_time(meta["deletionTimestamp"]) - timedelta(seconds=meta.get("deletionGracePeriodSeconds", 0))
    return parse_time(meta["creationTimestamp"])


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures since the last success."""

    failures: int = 0
    last: datetime = _EPOCH

    def after(self, ended: Sequence[Object]) -> Backoff:
        """With these newly ended pods."""
        found = self
        for pod in sorted(ended, key=finished_at):
            at = finished_at(pod)
            found = Backoff(0, at) if phase(pod) == "Succeeded" else Backoff(found.failures + 1, max(at, found.last))
        return found

    def remaining(self, now: datetime) -> float:
        """Seconds until the next pod may be made."""
        if not self.failures:
            return 0.0
        wait = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self.failures - 1, 10))
        return max(0.0, wait - (now - self.last).total_seconds())


def parse_indexes(text: str) -> set[int]:
    """`1,3-5` as numbers."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: set[int]) -> str:
    """Numbers as `1,3-5`; two in a row stand apart, as upstream."""
    parts: list[str] = []
    ordered = sorted(indexes)
    start = 0
    while start < len(ordered):
        end = start
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        if end == start:
            parts.append(str(ordered[start]))
        else:
            parts.append(f"{ordered[start]}{',' if end == start + 1 else '-'}{ordered[end]}")
        start = end + 1
    return ",".join(parts)


def index_of(pod: Object) -> int:
    return int(pod["metadata"].get("annotations", {}).get(INDEX, -1))


def policy_verdict(job: Object, pod: Object) -> tuple[str, str] | None:
    """(action, message) of the first rule of podFailurePolicy that a failed pod meets."""
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules", [])):
        codes = rule.get("onExitCodes")
        if codes:
            for status in pod.get("status", {}).get("containerStatuses", []):
                ended = (status.get("state") or {}).get("terminated")
                if ended is None or ended["exitCode"] == 0 or codes.get("containerName") not in (None, status["name"]):
                    continue
                if (ended["exitCode"] in codes["values"]) == (codes["operator"] == "In"):
                    return rule["action"], (
                        f"Container {status['name']} for pod {pod['metadata']['namespace']}/{pod['metadata']['name']} "
                        f"failed with exit code {ended['exitCode']} matching {rule['action']} rule at index {number}"
                    )
        for wanted in rule.get("onPodConditions") or []:
            held = condition(pod, wanted["type"])
            if held is not None and held["status"] == wanted.get("status", "True"):
                return rule["action"], (
                    f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']} has condition {wanted['type']} "
                    f"matching {rule['action']} rule at index {number}"
                )
    return None


def past_restarts(job: Object, pods: Sequence[Object]) -> bool:
    """Whether containers of an OnFailure Job restarted too often."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status["restartCount"]
        for pod in pods
        if phase(pod) in ("Running", "Pending")
        for part in ("initContainerStatuses", "containerStatuses")
        for status in pod.get("status", {}).get(part, [])
    )
    limit = job["spec"].get("backoffLimit", 6)
    return bool(restarts > 0 if limit == 0 else restarts >= limit)


def wanted_active(job: Object, active: int, succeeded: int) -> int:
    """How many pods should be running now."""
    parallelism = int(job["spec"].get("parallelism", 1))
    completions = job["spec"].get("completions")
    if completions is None:
        return min(active, parallelism) if succeeded else parallelism
    return max(0, min(int(completions) - succeeded, parallelism))


def is_over(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


# ---- the controller


class JobController(Controller):
    name = "job-controller"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._backoff: dict[str, Backoff] = {}

    def sources(self) -> Sequence[Source]:
        return [(JOB, itself), (POD, its_controller("Job"))]

    def enqueue(self, keys: Keys, event: WatchEvent) -> None:
        """New Jobs and new specs at once, all else in batches of a second."""
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
        """Pods by owner; orphans that a hand-made selector matches are adopted."""
        uid = job["metadata"]["uid"]
        if job["spec"].get("manualSelector"):
            return self.claim(JOB, job)
        return [
            pod
            for pod in self.store.list(POD, job["metadata"]["namespace"])
            if (controller_of(pod) or {}).get("uid") == uid
        ]

    def _release_orphans(self, key: Key, job: Object | None) -> None:
        """Pods whose Job is gone, or another by now, are not to be held by our finalizer."""
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

    def backoff(self, job: Object, ended: Sequence[Object]) -> Backoff:
        """The Job's back-off, and remembers it, with the newly ended pods."""
        uid = job["metadata"]["uid"]
        found = self._backoff[uid] = self._backoff.get(uid, Backoff()).after(ended)
        return found


class _Pass:
    """One look at one Job."""

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
        """Sort the pods: running, going, and ended but not yet counted."""
        replace_early = self.spec.get(
            "podReplacementPolicy", "TerminatingOrFailed"
        ) == "TerminatingOrFailed" and not self.spec.get("podFailurePolicy")
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self.pods = list(pods)
        self.active = [pod for pod in pods if is_active(pod)]
        self.terminating = sum(is_terminating(pod) and not is_finished(pod) for pod in pods)
        tracked = [pod for pod in pods if TRACKING in pod["metadata"].get("finalizers", [])]
        self.succeeded = [
            pod
            for pod in tracked
            if phase(pod) == "Succeeded"
            and not (is_terminating(pod) and replace_early and pod["metadata"]["uid"] in uncounted.get("failed", []))
        ]
        lost = [
            pod
            for pod in tracked
            if phase(pod) == "Failed" or (is_terminating(pod) and replace_early and phase(pod) != "Succeeded")
        ]
        self.ignored = [pod for pod in lost if (policy_verdict(self.job, pod) or ("", ""))[0] == "Ignore"]
        self.failed = [pod for pod in lost if pod not in self.ignored]

    def run(self) -> float | None:
        event = self.controller.recorder.event
        suspended = bool(self.spec.get("suspend"))
        if "startTime" not in self.status and not suspended:
            self.status["startTime"] = stamp(self.now)
        backoff = self.controller.backoff(self.job, [*self.succeeded, *self.failed])
        end = self._end()
        if end is not None:
            kind, reason, message = end
            self._delete(self.active)
            self._look(self.controller._claim(self.job))
            self._set(kind, "True", reason, message)
        elif suspended:
            if self._set("Suspended", "True", "JobSuspended", "Job suspended"):
                event(self.job, "Normal", "Suspended", "Job suspended")
            self._delete(self.active)
            self._look(self.controller._claim(self.job))
            self.status.pop("startTime", None)
        else:
            if condition({"status": {"conditions": self.conditions}}, "Suspended") is not None and self._set(
                "Suspended", "False", "JobResumed", "Job resumed"
            ):
                event(self.job, "Normal", "Resumed", "Job resumed")
                self.status["startTime"] = stamp(self.now)
            self._manage(backoff)
            self._deadline_due()
        self._write(end)
        return self.again

    # ---- deciding

    def _done(self) -> set[int]:
        done = parse_indexes(self.status.get("completedIndexes", ""))
        return done | {
            index_of(pod) for pod in self.succeeded if 0 <= index_of(pod) < (self.spec.get("completions") or 0)
        }

    def _successes(self) -> int:
        return len(self._done()) if self.indexed else self.status.get("succeeded", 0) + len(self.succeeded)

    def _end(self) -> tuple[str, str, str] | None:
        """(interim condition, reason, message) when the Job is to end now, or was already said to."""
        for held in self.conditions:
            if held["type"] in ("FailureTarget", "SuccessCriteriaMet") and held["status"] == "True":
                return held["type"], held["reason"], held["message"]
        for pod in self.failed:
            verdict = policy_verdict(self.job, pod)
            if verdict is not None and verdict[0] == "FailJob":
                return "FailureTarget", "PodFailurePolicy", verdict[1]
        limit = self.spec.get("backoffLimit", 6)
        if self.status.get("failed", 0) + len(self.failed) > limit or past_restarts(self.job, self.pods):
            return ("FailureTarget", *_LIMIT)
        if self._overdue() is not None and self._overdue() == 0:
            return ("FailureTarget", *_DEADLINE)
        completions = self.spec.get("completions")
        if completions is None:
            complete = self._successes() > 0 and not self.active
        else:
            complete = self._successes() >= completions and not self.spec.get("suspend")
        return ("SuccessCriteriaMet", *_COMPLETE) if complete else None

    def _overdue(self) -> float | None:
        """Seconds left of the active deadline; 0 when it is past, None when there is none."""
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is None or "startTime" not in self.status or self.spec.get("suspend"):
            return None
        return max(0.0, float(deadline) - (self.now - parse_time(self.status["startTime"])).total_seconds())

    def _deadline_due(self) -> None:
        left = self._overdue()
        if left is not None:
            self.again = left if self.again is None else min(self.again, left)

    def _manage(self, backoff: Backoff) -> None:
        """Make missing pods, as the back-off allows, or delete spare ones."""
        wanted = wanted_active(self.job, len(self.active), self._successes())
        busy = len(self.active) + (self.terminating if self.spec.get("podReplacementPolicy") == "Failed" else 0)
        if len(self.active) > wanted:
            spare = sorted(self.active, key=lambda pod: (is_ready(pod), bool(pod["spec"].get("nodeName"))))
            self._delete(spare[: len(self.active) - wanted])
            self._look(self.controller._claim(self.job))
            return
        missing = wanted - busy
        if missing <= 0:
            return
        left = backoff.remaining(self.now)
        if left > 0:
            self.again = left
            return
        if missing > BURST:
            missing, self.again = BURST, 0.0
        for index in self._free_indexes(missing) if self.indexed else [-1] * missing:
            self._create(index)

    def _free_indexes(self, number: int) -> list[int]:
        taken = self._done() | {index_of(pod) for pod in self.active}
        return [index for index in range(self.spec["completions"]) if index not in taken][:number]

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
        event = self.controller.recorder.event
        try:
            created = self.controller.create(POD, pod)
        except StatusError as error:
            event(self.job, "Warning", "FailedCreate", f"Error creating: {error}")
            self.again = BACKOFF_FIRST
            return
        self.active.append(created)
        event(self.job, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")

    def _delete(self, pods: Sequence[Object]) -> None:
        for pod in pods:
            self.controller.delete(POD, pod)
            self.controller.recorder.event(
                self.job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}"
            )

    # ---- writing

    def _set(self, kind: str, status: str, reason: str, message: str) -> bool:
        """Add or change a condition; whether it was another before."""
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
        self.conditions = [one for one in self.conditions if one["type"] != kind] + [new]
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
        self.status["uncountedTerminatedPods"] = uncounted
        if self.conditions:
            self.status["conditions"] = self.conditions

    def _write(self, end: tuple[str, str, str] | None) -> None:
        """First say which pods are about to be counted, then let them go, then count: no crash counts one twice."""
        store_status = self.controller.set_status
        uncounted = {
            name: [pod["metadata"]["uid"] for pod in pods]
            for name, pods in (("succeeded", self.succeeded), ("failed", self.failed))
            if pods
        }
        self._counters(uncounted)
        job = store_status(JOB, self.job, self.status)
        if uncounted or self.ignored:
            done = self._done()
            for pod in (*self.succeeded, *self.failed, *self.ignored):
                self.controller._untrack(pod)
            self.status = copy(self.status)
            if self.succeeded:
                self.status["succeeded"] = (
                    len(done) if self.indexed else self.status.get("succeeded", 0) + len(self.succeeded)
                )
            if self.indexed and done:
                self.status["completedIndexes"] = format_indexes(done)
            if self.failed:
                self.status["failed"] = self.status.get("failed", 0) + len(self.failed)
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
    """What tells a pod of an Indexed Job its number: annotation, label, environment and host name."""
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
