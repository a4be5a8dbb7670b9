"""What the control plane plans to write."""

from __future__ import annotations

from typing import Any

from chaos.mesh.controlplane.reconcilers import BOOST, BudgetReconciler, plan_publications, plan_waypoints
from chaos.model.modes import MODES
from tests.mesh.controlplane.objects import (
    Object,
    cache,
    config,
    namespace,
    pod,
    proxy_pod,
    service,
    sidecar_pod,
    slice_of,
)


def running(obj: Object, *, ready: bool, container: str = "c1", limit: str | None = None) -> Object:
    resources: dict[str, Any] = {} if limit is None else {"limits": {"cpu": limit}}
    return {
        **obj,
        "spec": {**obj["spec"], "containers": [{"name": "proxy", "resources": resources}]},
        "status": {
            **obj["status"],
            "containerStatuses": [
                {"name": "proxy", "ready": ready, "containerID": container, "state": {"running": {}}}
            ],
        },
    }


def limits(settled: BudgetReconciler, obj: Object) -> list[int]:
    return [one.millicores for one in settled.plan(cache(obj), MODES["node"], {"l4-l7": 450})]


def test_the_budget_is_set_once_the_proxy_is_ready_and_not_before() -> None:
    settled = BudgetReconciler()
    assert limits(settled, running(proxy_pod(), ready=False)) == []
    assert limits(settled, running(proxy_pod(), ready=True)) == [450]
    assert limits(settled, running(proxy_pod(), ready=True, limit="450m")) == []


def test_a_restarted_process_starts_unthrottled() -> None:
    settled = BudgetReconciler()
    limits(settled, running(proxy_pod(), ready=True, limit="450m"))
    assert limits(settled, running(proxy_pod(), ready=False, container="c2", limit="450m")) == [BOOST]
    assert limits(settled, running(proxy_pod(), ready=True, container="c2", limit="1")) == [450]


def test_a_proxy_that_waits_to_be_restarted_is_not_resized() -> None:
    settled = BudgetReconciler()
    limits(settled, running(proxy_pod(), ready=True, limit="450m"))
    down = running(proxy_pod(), ready=False, limit="450m")
    down["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert limits(settled, down) == []


def test_a_proxy_that_drowns_gets_no_more_cpu_for_it() -> None:
    settled = BudgetReconciler()
    limits(settled, running(proxy_pod(), ready=True, limit="450m"))
    assert limits(settled, running(proxy_pod(), ready=False, limit="450m")) == []


def test_a_restarted_control_plane_does_not_boost_a_proxy_that_is_unready() -> None:
    assert limits(BudgetReconciler(), running(proxy_pod(), ready=False, limit="450m")) == []


def test_a_fault_that_holds_the_limit_is_left_alone() -> None:
    obj = running(proxy_pod(), ready=True, limit="20m")
    obj["metadata"]["annotations"]["sharedfate.io/cpu-budget-hold"] = "throttle"
    assert limits(BudgetReconciler(), obj) == []


def test_a_native_sidecar_is_resized_among_the_init_containers() -> None:
    obj = sidecar_pod(containers=[{"name": "app"}], initContainers=[{"name": "proxy"}])
    obj["status"]["initContainerStatuses"] = [
        {"name": "proxy", "ready": True, "containerID": "c", "state": {"running": {}}}
    ]
    [resize] = BudgetReconciler().plan(cache(obj), MODES["native-sidecar"], {"l4-l7": 100})
    assert resize.patch() == {"spec": {"initContainers": [{"name": "proxy", "resources": {"limits": {"cpu": "100m"}}}]}}


def test_each_meshed_namespace_gets_the_bootstrap_once() -> None:
    found = plan_publications(cache(namespace("tenant-a"), config()), {"ca.pem": "x"}, "r1")
    assert [item["metadata"]["namespace"] for item in found] == ["sharedfate-system", "tenant-a"]
    published = [{**item, "metadata": {**item["metadata"], "uid": f"u{n}"}} for n, item in enumerate(found)]
    assert plan_publications(cache(namespace("tenant-a"), config(), *published), {"ca.pem": "x"}, "r1") == []
    assert len(plan_publications(cache(namespace("tenant-a"), config(), *published), {"ca.pem": "new"}, "r1")) == 2


def test_every_server_pod_gets_one_waypoint_that_goes_with_it() -> None:
    server, client = pod("server-1", ready=False), pod("client-1", account="client")
    known = [namespace("tenant-a"), service(), server, client, slice_of(server)]
    [made] = plan_waypoints(
        cache(*known), {"mode": "ambient-pod", "run": "r1", "values": {"l7_cpu": 75, "l7_memory": 96}}
    )
    assert made["metadata"]["name"] == "waypoint-server-1"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-server-1"
    assert made["metadata"]["annotations"]["sharedfate.io/cpu-budget"] == "75"
    again = {**made, "metadata": {**made["metadata"], "uid": "w"}}
    assert plan_waypoints(cache(*known, again), {"mode": "ambient-pod", "run": "r1", "values": {}}) == []


def test_a_pod_that_says_so_gets_no_waypoint() -> None:
    server = pod("server-1")
    server["metadata"]["labels"]["sharedfate.io/use-waypoint"] = "none"
    found = cache(namespace("tenant-a"), service(), server, slice_of(server))
    assert plan_waypoints(found, {"mode": "ambient-pod", "run": "r1", "values": {"l7_cpu": 75, "l7_memory": 96}}) == []


def test_other_modes_have_no_waypoint_per_pod() -> None:
    server = pod("server-1")
    found = cache(namespace("tenant-a"), service(), server, slice_of(server))
    assert plan_waypoints(found, {"mode": "node", "run": "r1", "values": {}}) == []
