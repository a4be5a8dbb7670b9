"""HorizontalPodAutoscalers: the reckoning by itself, and with all controllers running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chaos.embedded.clock import SystemClock, micro_stamp
from chaos.embedded.controllers.autoscaler import (
    FRESH,
    Group,
    Memory,
    NoMetric,
    group_pods,
    limit,
    policy_limit,
    propose,
    requests_of,
)
from chaos.embedded.node_api import ContainerUsage
from chaos.embedded.resources import DEPLOYMENT, EVENT, HORIZONTAL_POD_AUTOSCALER, STATEFUL_SET, Object
from tests.embedded.controllers.harness import NS, World, workload, world

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NONE: frozenset[str] = frozenset()


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("used", "requested", "target", "current", "wanted"),
    [
        ([300, 500, 700], 1000, 30, 3, 5),  # 50 % of 30 %: 1.67 x 3
        ([300, 500, 700], 1000, 50, 3, 3),  # exactly
        ([520, 540, 560], 1000, 50, 3, 3),  # 8 % more than asked for: within a tenth
        ([560, 560, 560], 1000, 50, 3, 4),  # 12 % more
        ([460, 460, 460], 1000, 50, 3, 3),  # 8 % less
        ([100, 100, 100], 1000, 50, 3, 1),
        ([10, 10, 10, 10, 10], 1000, 50, 5, 1),
        ([900], 100, 80, 1, 12),
    ],
)
def test_replicas_follow_utilization_beyond_the_tolerance(
    used: list[int], requested: int, target: int, current: int, wanted: int
) -> None:
    pods = names(len(used))
    group = Group(len(used), NONE, NONE, NONE)
    found = propose(
        dict(zip(pods, used, strict=True)), group, current, target=target, requests=dict.fromkeys(pods, requested)
    )
    assert found.replicas == wanted
    assert found.utilization == sum(used) * 100 // (requested * len(used))


@pytest.mark.parametrize(
    ("used", "unready", "missing", "target", "current", "wanted"),
    [
        ({"p0": 900, "p1": 900}, {"p2"}, set(), 50, 3, 4),  # the unready one counts as idle: 60 % of 50 %
        ({"p0": 900, "p1": 100}, {"p2"}, set(), 50, 3, 3),  # exactly: nothing changes
        ({"p0": 100, "p1": 100}, {"p2"}, set(), 50, 3, 1),  # down: the unready one counts not at all
        ({"p0": 900, "p1": 900}, set(), {"p2"}, 50, 3, 4),  # up: the missing one counts as idle
        ({"p0": 100, "p1": 100}, set(), {"p2"}, 50, 3, 3),  # down: it counts as busy, 40 % of 50 %, so 3 of 2.4
        ({"p0": 600, "p1": 600}, set(), {"p2"}, 50, 3, 3),  # 120 % of the known, 80 % of all: other way, nothing
    ],
)
def test_pods_without_a_figure_are_taken_for_the_cautious_one(
    used: dict[str, int], unready: set[str], missing: set[str], target: int, current: int, wanted: int
) -> None:
    group = Group(len(used), frozenset(unready), frozenset(missing), NONE)
    requests = dict.fromkeys(["p0", "p1", "p2"], 1000)
    assert propose(used, group, current, target=target, requests=requests).replicas == wanted


def test_average_values_are_compared_by_themselves_and_no_figures_are_no_proposal() -> None:
    group = Group(2, NONE, NONE, NONE)
    assert propose({"a": 300, "b": 500}, group, 2, target=200).replicas == 4
    with pytest.raises(NoMetric, match="did not receive metrics"):
        propose({"a": 1}, Group(0, frozenset("a"), NONE, NONE), 1, target=1)


def pod(name: str, *, phase: str = "Running", started: float = 3600, ready: bool = True, since: float = 3000,
        **meta: Any) -> Object:  # fmt: skip
    began, turned = (NOW - timedelta(seconds=one) for one in (started, since))
    entry = {"type": "Ready", "status": str(ready), "lastTransitionTime": turned.strftime("%Y-%m-%dT%H:%M:%SZ")}
    status = {"phase": phase, "startTime": began.strftime("%Y-%m-%dT%H:%M:%SZ"), "conditions": [entry]}
    return {"metadata": {"name": name, **meta}, "spec": {"containers": []}, "status": status}


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (pod("p"), "ready"),
        (pod("p", phase="Pending"), "unready"),
        (pod("p", phase="Failed"), "ignored"),
        (pod("p", deletionTimestamp="x"), "ignored"),
        (pod("p", started=60, since=0), "unready"),  # seen before it was ready for a window
        (pod("p", started=60, since=30), "ready"),
        (pod("p", started=60, since=30, ready=False), "unready"),
        (pod("p", ready=False, since=3590), "unready"),  # it never was ready
        (pod("p", ready=False, since=100), "ready"),  # it was, and is busy perhaps
    ],
)
def test_a_pods_figure_counts_when_it_is_not_that_of_its_start(made: Object, where: str) -> None:
    group = group_pods([made], {"p": NOW}, "cpu", NOW)
    assert (group.ready, group.unready, group.ignored) == {
        "ready": (1, NONE, NONE),
        "unready": (0, frozenset("p"), NONE),
        "ignored": (0, NONE, frozenset("p")),
    }[where]
    assert group_pods([pod("q")], {}, "cpu", NOW).missing == frozenset("q")
    assert timedelta(minutes=5) == FRESH


def test_requests_are_of_all_containers_that_run_and_must_be_said() -> None:
    def made(**more: Any) -> Object:
        ask = {"resources": {"requests": {"cpu": "100m"}}}
        return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", **ask}, {"name": "b", **more}]}}

    assert requests_of([made(resources={"requests": {"cpu": "0.2"}})], "cpu") == {"p": 300}
    assert requests_of([made()], "cpu", "a") == {"p": 100}
    with pytest.raises(NoMetric, match="missing request for cpu in container b of Pod p"):
        requests_of([made()], "cpu")
    with pytest.raises(NoMetric, match="container z not found in Pod p"):
        requests_of([made()], "cpu", "z")


BARE = {"minReplicas": 2, "maxReplicas": 20}
SLOW = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}], "selectPolicy": "Max"}
UP, DOWN = {"scaleUp": {**SLOW, "stabilizationWindowSeconds": 0}}, {"scaleDown": SLOW}


@pytest.mark.parametrize(
    ("spec", "current", "wanted", "allowed", "reason"),
    [
        (BARE, 4, 6, 6, "DesiredWithinRange"),
        (BARE, 4, 19, 8, "ScaleUpLimit"),  # twice as many
        (BARE, 1, 19, 4, "ScaleUpLimit"),  # or four
        (BARE, 15, 40, 20, "TooManyReplicas"),
        (BARE, 4, 1, 2, "TooFewReplicas"),
        ({**BARE, "behavior": UP}, 4, 19, 5, "ScaleUpLimit"),
        ({**BARE, "behavior": {"scaleUp": {**SLOW, "selectPolicy": "Disabled"}}}, 4, 19, 4, "ScaleUpLimit"),
        ({**BARE, "behavior": {"scaleDown": {**SLOW, "stabilizationWindowSeconds": 0}}}, 9, 3, 8, "ScaleDownLimit"),
        ({**BARE, "maxReplicas": 5, "behavior": UP}, 4, 19, 5, "TooManyReplicas"),
    ],
)
def test_a_target_changes_no_faster_than_its_rules_let_it(
    spec: dict[str, Any], current: int, wanted: int, allowed: int, reason: str
) -> None:
    found = limit(spec, Memory(), current, wanted, NOW)
    assert (found.replicas, found.limited[1]) == (allowed, reason)
    assert (found.limited[0] == "True") == (allowed != wanted)


def test_a_target_shrinks_only_to_the_highest_of_what_was_recommended_lately() -> None:
    memory = Memory([(NOW - timedelta(seconds=200), 7), (NOW - timedelta(seconds=400), 9)])
    found = limit(BARE, memory, 8, 3, NOW)
    assert (found.replicas, found.able[1]) == (7, "ScaleDownStabilized")
    memory = Memory([(NOW - timedelta(seconds=20), 5)])
    window = {**BARE, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 60, **SLOW}}}
    found = limit(window, memory, 4, 9, NOW)
    assert (found.replicas, found.able[1]) == (5, "ScaleUpStabilized")


def test_policies_reckon_from_what_there_was_when_their_period_began() -> None:
    memory = Memory(up=[(NOW - timedelta(seconds=30), 2)])
    assert policy_limit(memory, 6, SLOW, NOW, growing=True) == 5  # four a minute ago, and one may come
    assert policy_limit(Memory(), 6, SLOW, NOW, growing=False) == 5
    half = {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}, *SLOW["policies"]]}
    assert policy_limit(Memory(), 9, half, NOW, growing=False) == 4
    assert policy_limit(Memory(), 9, {**half, "selectPolicy": "Min"}, NOW, growing=False) == 8
    assert policy_limit(Memory(), 9, half, NOW, growing=True) == 14


# ---- with all controllers


def autoscaler(kind: str = "Deployment", name: str = "web", **spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": kind, "name": name}
    return {"metadata": {"name": "hpa", "namespace": NS}, "spec": {"scaleTargetRef": target, "maxReplicas": 5, **spec}}


def of(w: World) -> dict[str, Any]:
    return dict(w.store.get(HORIZONTAL_POD_AUTOSCALER, NS, "hpa").get("status") or {})


def said(w: World) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in of(w).get("conditions") or []}


def use(w: World, millicores: int) -> None:
    at = micro_stamp(SystemClock().now() + timedelta(seconds=5))
    w.nodes.usage = [
        ContainerUsage(NS, one["metadata"]["name"], "app", 0.0, millicores * 10**6, 1 << 20, at) for one in w.pods()
    ]


async def running(w: World, kind: str, replicas: int) -> None:
    made = workload(kind, "web", replicas=replicas)
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    resource = DEPLOYMENT if kind == "Deployment" else STATEFUL_SET
    w.create(resource, made)
    await w.until(lambda: w.store.get(resource, NS, "web").get("status", {}).get("readyReplicas") == replicas)


def run(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with world() as w:
            await test(w)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_busy_target_grows_and_its_autoscaler_says_so(kind: str) -> None:
    async def check(w: World) -> None:
        await running(w, kind, 2)
        use(w, 150)
        w.create(HORIZONTAL_POD_AUTOSCALER, autoscaler(kind))
        await w.until(lambda: len(w.pods()) == 4)  # 150 % of 80 %: 3.75
        await w.until(lambda: of(w).get("desiredReplicas") == 4)
        assert said(w) == {
            "AbleToScale": ("True", "SucceededRescale"),
            "ScalingActive": ("True", "ValidMetricFound"),
            "ScalingLimited": ("False", "DesiredWithinRange"),
        }
        current = of(w)["currentMetrics"][0]["resource"]["current"]
        assert current == {"averageUtilization": 150, "averageValue": "150m"}
        events = [(one["reason"], one["message"]) for one in w.store.list(EVENT, NS)]
        words = "New size: 4; reason: cpu resource utilization (percentage of request) above target"
        assert ("SuccessfulRescale", words) in events

    run(check)


@pytest.mark.parametrize(
    ("replicas", "spec", "kind", "reason"),
    [
        (2, {}, "ScalingActive", "FailedGetResourceMetric"),  # nobody has figures
        (2, {"metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"},
             "target": {"type": "AverageValue", "averageValue": "1"}}}]}, "ScalingActive", "FailedGetPodsMetric"),
        (0, {}, "ScalingActive", "ScalingDisabled"),
        (2, {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}}, "AbleToScale",
         "FailedGetScale"),
        (2, {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web"}}, "AbleToScale",
         "FailedGetScale"),
    ],
)  # fmt: skip
def test_an_autoscaler_that_cannot_act_says_why(replicas: int, spec: dict[str, Any], kind: str, reason: str) -> None:
    async def check(w: World) -> None:
        made = workload("Deployment", "web", replicas=replicas)
        w.create(DEPLOYMENT, made)
        w.create(HORIZONTAL_POD_AUTOSCALER, autoscaler(**spec))
        await w.until(lambda: kind in said(w))
        assert said(w)[kind] == ("False", reason)
        assert w.store.get(DEPLOYMENT, NS, "web")["spec"]["replicas"] == replicas

    run(check)


def test_a_target_beyond_its_bounds_is_brought_back_without_any_figures() -> None:
    async def check(w: World) -> None:
        await running(w, "Deployment", 1)
        w.create(HORIZONTAL_POD_AUTOSCALER, autoscaler(minReplicas=3))
        await w.until(lambda: len(w.pods()) == 3)
        assert "Current number of replicas below Spec.MinReplicas" in str(w.store.list(EVENT, NS))

    run(check)


def test_autoscalers_that_select_the_same_pods_do_nothing_until_one_has_gone() -> None:
    async def check(w: World) -> None:
        await running(w, "Deployment", 2)
        use(w, 150)
        metric = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}},
        }
        w.create(HORIZONTAL_POD_AUTOSCALER, autoscaler(metrics=[metric]))  # content with what there is
        await w.until(lambda: "ScalingActive" in said(w))
        rival = autoscaler()
        rival["metadata"]["name"] = "rival"
        w.create(HORIZONTAL_POD_AUTOSCALER, rival)

        def rivals() -> dict[str, str]:
            status = w.store.get(HORIZONTAL_POD_AUTOSCALER, NS, "rival").get("status") or {}
            return {one["reason"]: one["message"] for one in status.get("conditions") or []}

        await w.until(lambda: "AmbiguousSelector" in rivals())
        where = f"[{{hpa {NS}}} {{rival {NS}}}]"
        assert rivals()["AmbiguousSelector"] == f"pods by selector app=web are controlled by multiple HPAs: {where}"
        assert len(w.pods()) == 2
        w.store.remove(HORIZONTAL_POD_AUTOSCALER, NS, "hpa")
        w.store.mutate(HORIZONTAL_POD_AUTOSCALER, NS, "rival", lambda one: one["spec"].update(maxReplicas=4))
        await w.until(lambda: len(w.pods()) == 4)

    run(check)
