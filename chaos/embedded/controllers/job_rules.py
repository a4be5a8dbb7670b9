"""Rules for a Job's pods: back-off, indexes, failure and success policy. Pure; `job.py` applies them.

The rules are upstream's (pkg/controller/job: `job_controller.go`, `indexed_job_utils.go`, `pod_failure_policy.go`,
`success_policy.go`, `backoff_utils.go`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from chaos.embedded.clock import parse_time
from chaos.embedded.controllers.base import is_ready, is_terminating, phase
from chaos.embedded.objects import condition, is_true
from chaos.embedded.resources import Object
from chaos.fields import whole_number

INDEX: Final = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED: Final = "batch.kubernetes.io/job-index-ignored-failure-count"
BACKOFF_FIRST, BACKOFF_MOST = 10.0, 600.0
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def finished_at(pod: Object) -> datetime:
    """When a pod finished: its last container's end, else its transition to unready, else its deletion, else its
    creation.
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
class JobBackoff:
    """The failures since the last success."""

    failures: int = 0
    last: datetime = _EPOCH

    def after(self, ended: Sequence[Object]) -> JobBackoff:
        """The back-off after these newly finished pods."""
        found = self
        for pod in sorted(ended, key=finished_at):
            at = finished_at(pod)
            found = (
                JobBackoff(0, at) if phase(pod) == "Succeeded" else JobBackoff(found.failures + 1, max(at, found.last))
            )
        return found

    def remaining(self, now: datetime) -> float:
        """Seconds until the next pod may be created."""
        return _remaining(self.failures, self.last, now)


def _remaining(failures: int, last: datetime, now: datetime) -> float:
    if not failures:
        return 0.0
    wait = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(failures - 1, 10))
    return max(0.0, wait - (now - last).total_seconds())


def parse_indexes(text: str) -> set[int]:
    """Parse `1,3-5` into numbers."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: set[int]) -> str:
    """Format numbers as `1,3-5`; two consecutive ones stay separate, as upstream."""
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
    index = whole_number(pod["metadata"].get("annotations", {}).get(INDEX))
    return -1 if index is None else index


def policy_verdict(job: Object, pod: Object) -> tuple[str, str] | None:
    """(action, message) of the first rule of podFailurePolicy that matches a failed pod."""
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or []):
        codes = rule.get("onExitCodes")
        if codes:
            held = pod.get("status", {})
            for status in (*held.get("containerStatuses", ()), *held.get("initContainerStatuses", ())):
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
    """Whether the containers of an OnFailure Job restarted more often than backoffLimit."""
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
    """How many pods should be active now."""
    parallelism = int(job["spec"].get("parallelism", 1))
    completions = job["spec"].get("completions")
    if completions is None:
        return min(active, parallelism) if succeeded else parallelism
    return max(0, min(int(completions) - succeeded, parallelism))


def is_over(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def only_replaces_failed(job: Object) -> bool:
    """Whether a pod counts as failed, and is replaced, only once it has ended (not from its deletion on)."""
    spec = job["spec"]
    return spec.get("podReplacementPolicy") == "Failed" or bool(spec.get("podFailurePolicy"))


def is_failed(job: Object, pod: Object) -> bool:
    """Whether the Job treats the pod as failed: it ended so, or is being deleted and its end is not awaited."""
    if phase(pod) == "Failed":
        return True
    return not only_replaces_failed(job) and is_terminating(pod) and phase(pod) != "Succeeded"


def counts_as_failed(job: Object, pod: Object) -> bool:
    """Whether a failed pod adds to `status.failed`: all do except those that an Ignore rule matches."""
    return (policy_verdict(job, pod) or ("Count", ""))[0] != "Ignore"


def removal_order(pod: Object) -> tuple[bool, bool, bool, float]:
    """Sort key of surplus pods: unassigned, not running and unready ones first, then the youngest."""
    born = parse_time(pod["metadata"]["creationTimestamp"]).timestamp()
    return bool(pod["spec"].get("nodeName")), phase(pod) == "Running", is_ready(pod), -born


# ---- back-off per index


def limits_each_index(job: Object) -> bool:
    return job["spec"].get("backoffLimitPerIndex") is not None


def _number(pod: Object, annotation: str) -> int:
    return whole_number(pod["metadata"].get("annotations", {}).get(annotation)) or 0


def failures_before(pod: Object) -> tuple[int, int]:
    """(counted, ignored) failures of the pod's index before it."""
    return _number(pod, INDEX_FAILURES), _number(pod, INDEX_IGNORED)


def failures_with(job: Object, pod: Object | None) -> tuple[int, int]:
    """(counted, ignored) failures of an index including this pod; (0, 0) without one."""
    if pod is None:
        return 0, 0
    counted, ignored = failures_before(pod)
    return (counted + 1, ignored) if counts_as_failed(job, pod) else (counted, ignored + 1)


def is_index_failed(job: Object, pod: Object) -> bool:
    """Whether this failed pod was its index's last, by a FailIndex rule or past `backoffLimitPerIndex`."""
    if not is_failed(job, pod):
        return False
    verdict = policy_verdict(job, pod)
    if verdict is not None and verdict[0] == "FailIndex":
        return True
    return counts_as_failed(job, pod) and failures_before(pod)[0] >= int(job["spec"]["backoffLimitPerIndex"])


def last_failed(
    job: Object, pods: Iterable[Object], *, settled: frozenset[int], active: frozenset[int]
) -> Mapping[int, Object]:
    """The last failed pod of each index that waits for its next pod; it carries the count until then."""
    found: dict[int, Object] = {}
    for pod in pods:
        index = index_of(pod)
        if (
            not is_failed(job, pod)
            or index in settled
            or index in active
            or not 0 <= index < job["spec"]["completions"]
        ):
            continue
        held = found.get(index)
        if held is None or (sum(failures_before(held)), finished_at(held)) <= (
            sum(failures_before(pod)),
            finished_at(pod),
        ):
            found[index] = pod
    return found


def index_remaining(pod: Object | None, now: datetime) -> float:
    """Seconds until the index of this last failed pod may have its next."""
    return 0.0 if pod is None else _remaining(sum(failures_before(pod)) + 1, finished_at(pod), now)


# ---- success policy


def success_verdict(job: Object, succeeded: set[int]) -> str | None:
    """The message of the first rule of successPolicy that these indexes satisfy."""
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules", []) if succeeded else []):
        count, text = rule.get("succeededCount"), rule.get("succeededIndexes")
        named = None if text is None else parse_indexes(text)
        met = succeeded if named is None else succeeded & named
        wanted = count if count is not None else len(named or ())
        if len(met) >= wanted:
            return f"Matched rules at index {number}"
    return None
