"""Jobs, with all controllers running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chaos.embedded.clock import stamp
from chaos.embedded.controllers.job_rules import JobBackoff, format_indexes, parse_indexes
from chaos.embedded.deletion import delete
from chaos.embedded.resources import EVENT, JOB, POD
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def true_conditions(obj: Any) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in obj.get("status", {}).get("conditions", []) if c["status"] == "True"]


def test_a_job_announces_its_success_before_it_is_complete_and_counts_its_pod_once() -> None:
    async def check(w: World) -> None:
        statuses: list[Any] = []
        with w.store.watch(JOB) as watch:
            w.create(JOB, workload("Job", "j"))
            await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
            assert w.pods()[0]["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
            w.nodes.say(w.pods()[0], "Succeeded")
            while not statuses or ("Complete", "CompletionsReached") not in statuses[-1][1]:
                event = await watch.next(5)
                assert event is not None
                statuses.append((event.object.get("status", {}), true_conditions(event.object)))
        assert [("SuccessCriteriaMet", "CompletionsReached")] in [conditions for _, conditions in statuses]
        announced = next(s for s, c in statuses if c == [("SuccessCriteriaMet", "CompletionsReached")])
        assert announced["uncountedTerminatedPods"] == {"succeeded": [w.pods()[0]["metadata"]["uid"]]}
        assert statuses[-1][0]["succeeded"] == 1
        assert "finalizers" not in w.pods()[0]["metadata"]
        assert [e["reason"] for e in w.store.list(EVENT, NS) if e["involvedObject"]["kind"] == "Job"] == [
            "SuccessfulCreate",
            "Completed",
        ]

    run(check)


def test_a_job_past_its_backoff_limit_fails() -> None:
    async def check(w: World) -> None:
        w.create(JOB, workload("Job", "j", backoffLimit=0))
        await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
        w.nodes.say(w.pods()[0], "Failed")
        await w.until(
            lambda: (
                true_conditions(w.store.get(JOB, NS, "j"))
                == [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
            )
        )
        assert w.store.get(JOB, NS, "j")["status"]["failed"] == 1

    run(check)


def test_a_deleted_job_pod_counts_as_failed_and_is_released() -> None:
    async def check(w: World) -> None:
        w.create(JOB, workload("Job", "j"))
        await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
        delete(w.store, POD, NS, w.pods()[0]["metadata"]["name"])
        await w.until(lambda: w.store.get(JOB, NS, "j").get("status", {}).get("failed") == 1)
        assert "active" not in w.store.get(JOB, NS, "j")["status"]

    run(check)


def test_an_active_deadline_ends_the_job_and_its_pods() -> None:
    async def check(w: World) -> None:
        w.create(JOB, workload("Job", "j", activeDeadlineSeconds=2))
        await w.until(lambda: true_conditions(w.store.get(JOB, NS, "j"))[-1:] == [("Failed", "DeadlineExceeded")], 8)
        assert w.pods() == []

    run(check)


def test_an_indexed_job_completes_every_index() -> None:
    async def check(w: World) -> None:
        w.nodes.behave = lambda p: "Succeeded"
        w.create(JOB, workload("Job", "j", completions=3, parallelism=2, completionMode="Indexed"))
        await w.until(lambda: ("Complete", "CompletionsReached") in true_conditions(w.store.get(JOB, NS, "j")), 10)
        assert w.store.get(JOB, NS, "j")["status"]["completedIndexes"] == "0-2"
        assert {p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for p in w.pods()} == {
            "0",
            "1",
            "2",
        }

    run(check)


def test_a_suspended_job_has_no_pods_and_resumes() -> None:
    async def check(w: World) -> None:
        w.create(JOB, workload("Job", "j", suspend=True))
        await w.until(lambda: true_conditions(w.store.get(JOB, NS, "j")) == [("Suspended", "JobSuspended")])
        assert w.pods() == []
        w.store.mutate(JOB, NS, "j", lambda new: new["spec"].update(suspend=False))
        await w.until(lambda: w.pods())
        assert true_conditions(w.store.get(JOB, NS, "j")) == []

    run(check)


def test_a_finished_job_goes_when_its_ttl_ends_and_takes_its_pods() -> None:
    async def check(w: World) -> None:
        w.nodes.behave = lambda p: "Succeeded"
        w.create(JOB, workload("Job", "j", ttlSecondsAfterFinished=1))
        await w.until(lambda: w.store.find(JOB, NS, "j") is None and not w.pods(), 8)

    run(check)


def test_job_pods_of_a_deleted_job_are_not_held_by_their_finalizer() -> None:
    async def check(w: World) -> None:
        w.create(JOB, workload("Job", "j"))
        await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
        delete(w.store, JOB, NS, "j", propagation="Background")
        await w.until(lambda: not w.pods())

    run(check)


def ended(seconds: float, phase: str = "Failed") -> dict[str, Any]:
    at = stamp(datetime.fromtimestamp(1000 + seconds, UTC))
    return {
        "metadata": {"creationTimestamp": at},
        "spec": {},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "app", "state": {"terminated": {"finishedAt": at, "exitCode": 1}}}],
        },
    }


def test_job_retries_wait_ten_seconds_doubling_from_the_end_of_the_failure_and_start_afresh_after_a_success() -> None:
    at = datetime.fromtimestamp(1000, UTC)
    first = JobBackoff().after([ended(0)])
    assert first.remaining(at) == 10
    assert first.remaining(at + timedelta(seconds=4)) == 6
    second = first.after([ended(20)])
    assert second.remaining(at + timedelta(seconds=20)) == 20
    assert second.after([ended(50, "Succeeded")]).remaining(at + timedelta(seconds=50)) == 0


@pytest.mark.parametrize("text", ["", "0", "0,1", "0-2", "1,3-5,7", "0,1,4-9"])
def test_index_lists_survive_a_round_trip(text: str) -> None:
    assert format_indexes(parse_indexes(text)) == text
