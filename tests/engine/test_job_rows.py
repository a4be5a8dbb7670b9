"""How a Job's end, its application's runs and the moment of a kill are read from its pods."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.job_rows import detect_end, detect_fate, detect_late, exits_of, tally
from chaos.model.job_fate import End, JobFate, Trouble
from chaos.verdict.check import decided

Pod = dict[str, Any]


def pod(*codes: int, running: bool = False, phase: str = "", index: int | None = None, finished: str = "") -> Pod:
    """A pod whose application ended with these codes, one after the other, and may be running again."""
    ends = [{"terminated": {"exitCode": code, "finishedAt": finished or "2026-01-01T00:00:10Z"}} for code in codes]
    states = [*ends, *([{"running": {}}] if running else [])]
    status: dict[str, Any] = {"name": "job", "restartCount": max(0, len(states) - 1)}
    if states:
        status |= {"containerID": "runc://x", "state": states[-1]}
        if len(states) > 1:
            status["lastState"] = states[-2]
    meta: dict[str, Any] = {"uid": f"u{id(status)}", "name": "p"}
    if index is not None:
        meta["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {"metadata": meta, "spec": {}, "status": {"phase": phase or "Running", "containerStatuses": [status]}}


def conditions(*types: str) -> Pod:
    return {"status": {"conditions": [{"type": one, "status": "True"} for one in types]}}


@pytest.mark.parametrize(
    ("job", "pods", "idle", "end"),
    [
        (conditions("Complete"), [], 0.0, End.COMPLETED),
        (conditions("FailureTarget", "Failed"), [pod(1, phase="Failed")], 0.0, End.FAILED),
        (conditions("FailureTarget"), [pod(1, phase="Failed")], 60.0, None),  # announced: it will end
        (conditions(), [pod(0)], 14.0, End.HUNG),
        (conditions(), [pod(0)], 12.0, None),  # a retry of another pod may still come
        (conditions(), [pod(1, phase="Failed")], 60.0, None),  # its retry is due
        (conditions(), [pod(1, phase="Failed"), pod(0)], 14.0, End.HUNG),
        (conditions(), [pod(running=True)], 60.0, None),  # it works
        (conditions(), [pod(0), pod(phase="Pending")], 60.0, None),
        (conditions(), [], 60.0, None),
    ],
)
def test_a_job_hangs_when_its_work_is_done_and_nothing_changes(
    job: Pod, pods: list[Pod], idle: float, end: End | None
) -> None:
    assert detect_end(job, pods, idle=idle, begun=True) is end


@pytest.mark.parametrize(
    ("pods", "idle", "end"),
    [
        ([pod(phase="Pending")], 14.0, End.WAITED),
        ([pod(phase="Pending")], 12.0, None),
        ([], 60.0, None),  # no pod was made yet
    ],
)
def test_a_job_whose_application_never_started_never_begins(pods: list[Pod], idle: float, end: End | None) -> None:
    assert detect_end(conditions(), pods, idle=idle, begun=False) is end


@pytest.mark.parametrize(
    ("pods", "fate"),
    [
        ([pod(0, phase="Succeeded")], JobFate(End.COMPLETED)),
        ([pod(1, phase="Failed"), pod(0, phase="Succeeded")], JobFate(End.COMPLETED, 1)),
        ([pod(1, 0, phase="Succeeded")], JobFate(End.COMPLETED, 1)),  # in place
        ([pod(0, phase="Failed"), pod(0)], JobFate(End.COMPLETED, 1, twice=True)),
        ([pod(0, 0)], JobFate(End.COMPLETED, 1, twice=True)),
        ([pod(0, index=one, phase="Succeeded") for one in range(6)], JobFate(End.COMPLETED)),
        ([pod(1, index=2), *(pod(0, index=one) for one in range(6))], JobFate(End.COMPLETED, 1)),
        ([pod(phase="Pending")], JobFate(End.COMPLETED)),
    ],
)
def test_runs_beyond_the_first_of_each_index_are_retries(pods: list[Pod], fate: JobFate) -> None:
    assert detect_fate(End.COMPLETED, pods) == fate


def test_ends_are_read_in_order() -> None:
    assert exits_of([pod(1, 0), pod(running=True), pod(137)]) == [1, 0, 137]


TEN = 1767225610  # 2026-01-01T00:00:10Z


@pytest.mark.parametrize(
    ("trouble", "struck", "at", "late"),
    [
        (Trouble.LAST_SECOND, pod(1, phase="Failed"), TEN - 0.2, False),
        (Trouble.LAST_SECOND, pod(0, phase="Succeeded"), TEN + 0.5, True),  # in the same second: not known
        (Trouble.LAST_SECOND, pod(0, phase="Succeeded"), TEN + 3.0, True),
        (Trouble.MIDWAY, pod(1, running=True), TEN + 3.0, True),  # the first run counts
        (Trouble.AFTER, pod(0), TEN + 3.0, False),
        (Trouble.MIDWAY, pod(running=True), TEN + 3.0, False),
        (Trouble.MIDWAY, None, TEN + 3.0, False),
        (Trouble.EVICTED, pod(143, phase="Failed"), TEN + 0.5, False),  # by the eviction's SIGTERM: it was there
        (Trouble.EVICTED, pod(0, phase="Succeeded"), TEN + 0.5, True),
    ],
)
def test_a_kill_that_may_have_come_after_the_end_says_nothing(
    trouble: Trouble, struck: Pod | None, at: float, late: bool
) -> None:
    assert bool(detect_late(trouble, struck, at=int(at * 1e9))) is late


def test_jobs_are_counted_by_their_end() -> None:
    checks = [
        decided("a", True, "completed, retried once; x"),
        decided("b", True, "failed; y"),
        decided("c", False, "?"),
    ]
    assert tally(checks) == {"completed": 1, "failed": 1, "not known": 1}
