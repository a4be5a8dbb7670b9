"""Jobs, StatefulSets, garbage, nodes, budgets and cron, with all controllers running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chaos.embedded.clock import SettableClock, stamp
from chaos.embedded.controllers.cronjob import next_after, parse_schedule
from chaos.embedded.controllers.job_rules import Backoff, format_indexes, parse_indexes
from chaos.embedded.controllers.nodes import NodeLifecycle, toleration_left
from chaos.embedded.deletion import delete
from chaos.embedded.resources import (
    CRON_JOB,
    DEPLOYMENT,
    EVENT,
    JOB,
    LEASE,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    STATEFUL_SET,
)
from chaos.embedded.store import Store, WatchEvent
from tests.embedded.controllers.worlds import NS, World, node, pod, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def true_conditions(obj: Any) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in obj.get("status", {}).get("conditions", []) if c["status"] == "True"]


# ---- Jobs


def test_a_job_announces_its_success_before_it_is_complete_and_counts_its_pod_once() -> None:
    async def check(w: World) -> None:
        statuses = []
        with w.store.watch(JOB) as watch:
            w.create(JOB, workload("Job", "j"))
            await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
            assert w.pods()[0]["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
            w.nodes.say(w.pods()[0], "Succeeded")
            while not statuses or ("Complete", "CompletionsReached") not in statuses[-1][1]:
                event = await watch.next(5)
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
    first = Backoff().after([ended(0)])
    assert first.remaining(at) == 10
    assert first.remaining(at + timedelta(seconds=4)) == 6
    second = first.after([ended(20)])
    assert second.remaining(at + timedelta(seconds=20)) == 20
    assert second.after([ended(50, "Succeeded")]).remaining(at + timedelta(seconds=50)) == 0


@pytest.mark.parametrize("text", ["", "0", "0,1", "0-2", "1,3-5,7", "0,1,4-9"])
def test_index_lists_survive_a_round_trip(text: str) -> None:
    assert format_indexes(parse_indexes(text)) == text


# ---- StatefulSets


def test_a_stateful_set_starts_in_order_and_waits_for_each_to_be_ready() -> None:
    async def check(w: World) -> None:
        w.nodes.behave = lambda p: "Stuck" if p["metadata"]["name"] == "s-1" else "Running"
        w.create(STATEFUL_SET, workload("StatefulSet", "s", replicas=3, serviceName="s"))
        await w.until(lambda: len(w.pods()) == 2)
        await asyncio.sleep(0.1)
        assert [p["metadata"]["name"] for p in w.pods()] == ["s-0", "s-1"]
        w.nodes.behave = lambda p: "Running"
        w.nodes.say(w.store.get(POD, NS, "s-1"), "Running")
        await w.until(lambda: w.store.get(STATEFUL_SET, NS, "s")["status"].get("readyReplicas") == 3)

    run(check)


def test_a_stateful_set_update_goes_from_the_top_down_to_its_partition() -> None:
    async def check(w: World) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        w.create(STATEFUL_SET, workload("StatefulSet", "s", replicas=3, updateStrategy=strategy))
        await w.until(lambda: w.store.get(STATEFUL_SET, NS, "s").get("status", {}).get("readyReplicas") == 3)
        order = []
        with w.store.watch(POD) as watch:
            w.store.mutate(
                STATEFUL_SET,
                NS,
                "s",
                lambda new: new["spec"]["template"]["spec"]["containers"][0]["env"][0].update(value="2"),
            )
            while w.store.get(STATEFUL_SET, NS, "s")["status"].get("updatedReplicas") != 2 or len(order) < 2:
                event = await watch.next(5)
                order += [event.object["metadata"]["name"]] if event.type == "ADDED" else []
        assert order == ["s-2", "s-1"]
        delete(w.store, POD, NS, "s-0")
        await w.until(
            lambda: w.store.find(POD, NS, "s-0") and "deletionTimestamp" not in w.store.get(POD, NS, "s-0")["metadata"]
        )
        assert w.store.get(POD, NS, "s-0")["spec"]["containers"][0]["env"][0]["value"] == "1"

    run(check)


# ---- garbage


def test_foreground_deletion_keeps_the_owner_until_its_pods_are_gone() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=2))
        await w.until(lambda: [p["status"]["phase"] for p in w.pods()] == ["Running"] * 2)
        w.nodes.behave = lambda p: "Stuck"
        delete(w.store, DEPLOYMENT, NS, "d", propagation="Foreground")
        await w.until(lambda: all("deletionTimestamp" in p["metadata"] for p in w.pods()))
        assert w.store.find(DEPLOYMENT, NS, "d") is not None
        for p in w.pods():
            w.store.remove(POD, NS, p["metadata"]["name"])
        await w.until(lambda: w.store.find(DEPLOYMENT, NS, "d") is None)
        assert w.store.list(REPLICA_SET, NS) == []

    run(check)


def test_orphaned_pods_stay_and_lose_their_owner() -> None:
    async def check(w: World) -> None:
        w.create(REPLICA_SET, workload("ReplicaSet", "r", replicas=2))
        await w.until(lambda: len(w.pods()) == 2)
        delete(w.store, REPLICA_SET, NS, "r", propagation="Orphan")
        await w.until(lambda: w.store.find(REPLICA_SET, NS, "r") is None)
        await asyncio.sleep(0.05)
        assert len(w.pods()) == 2
        assert all("ownerReferences" not in p["metadata"] for p in w.pods())

    run(check)


def test_background_deletion_of_a_deployment_takes_replica_sets_and_pods() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=2))
        await w.until(lambda: len(w.pods()) == 2)
        delete(w.store, DEPLOYMENT, NS, "d")
        await w.until(lambda: not w.pods() and not w.store.list(REPLICA_SET, NS))

    run(check)


# ---- nodes


def lifecycle(store: Store, clock: SettableClock) -> NodeLifecycle:
    controller = NodeLifecycle(store, clock)
    for one in store.list(NODE):
        controller._node(WatchEvent("ADDED", one, 0))
    return controller


def test_a_silent_node_turns_unknown_after_fifty_seconds_and_its_pods_unready() -> None:
    store, clock = Store(), SettableClock(datetime(2026, 1, 1, tzinfo=UTC))
    store.create(NODE, node("n1"))
    store.create(
        POD,
        pod("p", nodeName="n1") | {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
    )
    controller = lifecycle(store, clock)
    clock.advance(45)
    lease = store.create(LEASE, {"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {}})
    controller._lease(WatchEvent("MODIFIED", lease, 0))
    clock.advance(49)
    controller.reconcile(("", "n1"))
    assert "taints" not in store.get(NODE, "", "n1")["spec"]
    clock.advance(1)
    controller.reconcile(("", "n1"))
    found = store.get(NODE, "", "n1")
    assert {c["type"]: c["status"] for c in found["status"]["conditions"]}["Ready"] == "Unknown"
    assert [(t["key"], t["effect"]) for t in found["spec"]["taints"]] == [
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    ]
    assert store.get(POD, NS, "p")["status"]["conditions"][0]["status"] == "False"


def test_a_node_that_posts_again_loses_its_taints() -> None:
    store, clock = Store(), SettableClock(datetime(2026, 1, 1, tzinfo=UTC))
    store.create(NODE, node("n1"))
    controller = lifecycle(store, clock)
    clock.advance(60)
    controller.reconcile(("", "n1"))
    back = store.mutate(
        NODE,
        "",
        "n1",
        lambda new: new["status"].update(conditions=[{"type": "Ready", "status": "True", "lastHeartbeatTime": "now"}]),
    )
    controller._node(WatchEvent("MODIFIED", back, 0, before=None))
    controller.reconcile(("", "n1"))
    assert "taints" not in store.get(NODE, "", "n1")["spec"]


def test_tolerations_end_twenty_seconds_after_the_taint() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": stamp(now)}
    tolerant = {
        "spec": {
            "tolerations": [{"key": taint["key"], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}]
        }
    }
    assert toleration_left(tolerant, [taint], now + timedelta(seconds=5)) == 15
    assert toleration_left(tolerant, [taint], now + timedelta(seconds=25)) == 0
    assert toleration_left({"spec": {}}, [taint], now) == 0
    assert toleration_left({"spec": {"tolerations": [{"operator": "Exists"}]}}, [taint], now) is None


def test_a_pod_on_a_tainted_node_is_evicted_and_replaced_elsewhere() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=1))
        await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
        where = w.pods()[0]["spec"]["nodeName"]
        w.store.mutate(
            NODE,
            "",
            where,
            lambda new: new["spec"].update(
                taints=[{"key": "x", "effect": "NoExecute", "timeAdded": stamp(datetime.now(UTC))}]
            ),
        )
        await w.until(lambda: w.pods() and w.pods()[0]["spec"].get("nodeName") not in (None, where))

    run(check, node("n1"), node("n2"))


# ---- budgets and cron


def test_a_budget_allows_what_is_healthy_beyond_its_minimum() -> None:
    async def check(w: World) -> None:
        w.create(
            POD_DISRUPTION_BUDGET,
            {
                "metadata": {"name": "b", "namespace": NS, "generation": 1},
                "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "d"}}},
            },
        )
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=3))
        await w.until(
            lambda: w.store.get(POD_DISRUPTION_BUDGET, NS, "b").get("status", {}).get("disruptionsAllowed") == 1
        )
        w.nodes.say(w.pods()[0], "Running", ready=False)
        await w.until(lambda: w.store.get(POD_DISRUPTION_BUDGET, NS, "b")["status"]["disruptionsAllowed"] == 0)

    run(check)


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:01:30", "2026-01-01T00:15:00"),
        ("0 9 * * mon", "2026-01-01T00:00:00", "2026-01-05T09:00:00"),
        ("30 23 31 * *", "2026-02-01T00:00:00", "2026-03-31T23:30:00"),
        ("@hourly", "2026-01-01T10:00:00", "2026-01-01T11:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 13 * fri", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),
    ],
)
def test_cron_lines_mean_what_cron_means(line: str, after: str, expected: str) -> None:
    assert next_after(parse_schedule(line), datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("line", ["* * * *", "60 * * * *", "* * * * foo", "*/0 * * * *"])
def test_a_wrong_cron_line_is_refused(line: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse_schedule(line)


def test_a_cron_job_starts_the_minute_that_it_missed() -> None:
    async def check(w: World) -> None:
        cron = {
            "metadata": {"name": "c", "namespace": NS},
            "spec": {
                "schedule": "* * * * *",
                "jobTemplate": {"spec": {"template": workload("Job", "x")["spec"]["template"]}},
            },
            "status": {"lastScheduleTime": stamp(datetime.now(UTC) - timedelta(seconds=61))},
        }
        w.store.create(CRON_JOB, cron)
        await w.until(lambda: w.store.list(JOB, NS) and w.pods())
        assert w.store.list(JOB, NS)[0]["metadata"]["name"].startswith("c-")

    run(check)
