"""Deployments, ReplicaSets, DaemonSets, Services and namespaces, with all controllers running."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from chaos.embedded.deletion import delete
from chaos.embedded.resources import (
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    EVENT,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from chaos.embedded.store import Store
from tests.embedded.controllers.worlds import NS, World, node, pod, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def reasons(store: Store) -> Counter:
    return Counter(event["reason"] for event in store.list(EVENT, NS))


def test_a_deployment_becomes_available_and_spreads_over_the_nodes() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=3))
        await w.until(lambda: w.store.get(DEPLOYMENT, NS, "d").get("status", {}).get("availableReplicas") == 3)
        assert {p["spec"]["nodeName"] for p in w.pods()} == {"n1", "n2", "n3"}
        status = w.store.get(DEPLOYMENT, NS, "d")["status"]
        assert {c["type"]: c["reason"] for c in status["conditions"]} == {
            "Available": "MinimumReplicasAvailable",
            "Progressing": "NewReplicaSetAvailable",
        }
        assert reasons(w.store) == {"ScalingReplicaSet": 1, "SuccessfulCreate": 3, "Scheduled": 3}

    run(check)


def test_a_rolling_update_never_has_fewer_than_the_wanted_pods_without_unavailability() -> None:
    async def check(w: World) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=3, strategy=strategy))
        await w.until(lambda: w.store.get(DEPLOYMENT, NS, "d").get("status", {}).get("availableReplicas") == 3)
        counts = []
        with w.store.watch(POD) as watch:

            def change(new: dict) -> None:
                new["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "2"
                new["metadata"]["generation"] = 2

            w.store.mutate(DEPLOYMENT, NS, "d", change)

            def done() -> bool:
                status = w.store.get(DEPLOYMENT, NS, "d")["status"]
                return (
                    status["observedGeneration"] == 2 and status.get("updatedReplicas") == 3 and status["replicas"] == 3
                )

            while not done():
                await watch.next(5)
                active = [p for p in w.pods() if "deletionTimestamp" not in p["metadata"]]
                counts.append((len(active), sum(p["status"]["phase"] == "Running" for p in active)))
        assert min(ready for _, ready in counts) >= 3
        assert max(total for total, _ in counts) <= 4
        sets = w.store.list(REPLICA_SET, NS)
        assert sorted(s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for s in sets) == ["1", "2"]

    run(check)


def test_a_rollback_reuses_the_old_replica_set_under_a_new_revision() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=1))
        for number, value in enumerate(("1", "2", "1"), start=1):

            def change(new: dict, value: str = value, number: int = number) -> None:
                new["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = value
                new["metadata"]["generation"] = number

            w.store.mutate(DEPLOYMENT, NS, "d", change)
            await w.until(
                lambda n=number: (
                    (d := w.store.get(DEPLOYMENT, NS, "d"))["metadata"]
                    .get("annotations", {})
                    .get("deployment.kubernetes.io/revision")
                    == str(n)
                    and d["status"].get("updatedReplicas") == 1
                    and d["status"].get("availableReplicas") == 1
                    and d["status"]["replicas"] == 1
                )
            )
        first = min(w.store.list(REPLICA_SET, NS), key=lambda s: s["metadata"]["creationTimestamp"])
        found = [s for s in w.store.list(REPLICA_SET, NS) if s["spec"]["replicas"]]
        assert len(w.store.list(REPLICA_SET, NS)) == 2
        assert found[0]["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        assert found[0]["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
        assert first["metadata"]["name"]

    run(check)


def test_recreate_starts_nothing_new_while_an_old_pod_lives() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=2, strategy={"type": "Recreate"}))
        await w.until(lambda: w.store.get(DEPLOYMENT, NS, "d").get("status", {}).get("availableReplicas") == 2)
        w.nodes.behave = lambda p: "Stuck" if p["spec"]["containers"][0]["env"][0]["value"] == "1" else "Running"
        w.store.mutate(
            DEPLOYMENT,
            NS,
            "d",
            lambda new: new["spec"]["template"]["spec"]["containers"][0]["env"][0].update(value="2"),
        )
        await w.until(lambda: all("deletionTimestamp" in p["metadata"] for p in w.pods()))
        await asyncio.sleep(0.1)
        assert len(w.pods()) == 2
        for p in w.pods():
            w.store.remove(POD, NS, p["metadata"]["name"])
        await w.until(lambda: [p["status"]["phase"] for p in w.pods()] == ["Running", "Running"])

    run(check)


def test_scaling_down_takes_the_unready_pod_first() -> None:
    async def check(w: World) -> None:
        w.create(REPLICA_SET, workload("ReplicaSet", "r", replicas=3))
        await w.until(lambda: [p["status"]["phase"] for p in w.pods()] == ["Running"] * 3)
        sick = w.pods()[1]
        w.nodes.say(sick, "Running", ready=False)
        w.store.mutate(REPLICA_SET, NS, "r", lambda new: new["spec"].update(replicas=2))
        await w.until(lambda: len(w.pods()) == 2)
        assert sick["metadata"]["name"] not in {p["metadata"]["name"] for p in w.pods()}

    run(check)


def _forget_since_when(status: dict) -> None:
    for entry in status["conditions"]:
        entry.pop("lastTransitionTime", None)


def test_scaling_down_takes_first_a_pod_that_was_said_to_be_ready_and_not_since_when() -> None:
    async def check(w: World) -> None:
        w.create(REPLICA_SET, workload("ReplicaSet", "r", replicas=3))
        await w.until(lambda: [p["status"]["phase"] for p in w.pods()] == ["Running"] * 3)
        odd = w.pods()[1]["metadata"]["name"]
        w.store.mutate(POD, NS, odd, lambda new: _forget_since_when(new["status"]))
        w.store.mutate(REPLICA_SET, NS, "r", lambda new: new["spec"].update(replicas=2))
        await w.until(lambda: len(w.pods()) == 2)
        assert odd not in {p["metadata"]["name"] for p in w.pods()}

    run(check)


def test_a_deployment_lives_with_conditions_that_do_not_say_since_when() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=1))
        await w.until(lambda: w.store.get(DEPLOYMENT, NS, "d").get("status", {}).get("availableReplicas") == 1)
        w.store.mutate(DEPLOYMENT, NS, "d", lambda new: _forget_since_when(new["status"]))
        w.store.mutate(
            DEPLOYMENT,
            NS,
            "d",
            lambda new: new["spec"].update(template=workload("Deployment", "d", version="2")["spec"]["template"]),
        )
        await w.until(
            lambda: {
                c["type"]: c.get("lastTransitionTime", "")
                for c in w.store.get(DEPLOYMENT, NS, "d")["status"]["conditions"]
            }["Progressing"]
        )

    run(check)


def test_a_replica_set_adopts_a_matching_orphan_and_releases_a_relabelled_pod() -> None:
    async def check(w: World) -> None:
        w.store.create(POD, pod("orphan", labels={"app": "r"}))
        w.create(REPLICA_SET, workload("ReplicaSet", "r", replicas=1))
        await w.until(lambda: w.pods()[0]["metadata"].get("ownerReferences"))
        assert len(w.pods()) == 1
        w.store.mutate(POD, NS, "orphan", lambda new: new["metadata"]["labels"].update(app="other"))
        await w.until(lambda: len(w.pods()) == 2)
        assert "ownerReferences" not in w.store.get(POD, NS, "orphan")["metadata"]

    run(check)


def test_a_daemon_set_runs_one_pod_on_each_node_that_fits_and_follows_new_nodes() -> None:
    async def check(w: World) -> None:
        w.create(DAEMON_SET, workload("DaemonSet", "ds"))
        await w.until(lambda: w.store.get(DAEMON_SET, NS, "ds").get("status", {}).get("numberAvailable") == 2)
        assert {p["spec"]["nodeName"] for p in w.pods()} == {"n1", "n3"}
        w.store.create(NODE, node("n4"))
        await w.until(lambda: w.store.get(DAEMON_SET, NS, "ds")["status"].get("numberAvailable") == 3)

    run(check, node("n1"), node("n2", taints=[{"key": "dedicated", "effect": "NoSchedule"}]), node("n3"))


def test_a_daemon_set_rolls_one_node_at_a_time() -> None:
    async def check(w: World) -> None:
        w.create(
            DAEMON_SET,
            workload(
                "DaemonSet",
                "ds",
                updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            ),
        )
        await w.until(lambda: w.store.get(DAEMON_SET, NS, "ds").get("status", {}).get("numberAvailable") == 3)
        fewest = 3
        with w.store.watch(POD) as watch:
            w.store.mutate(
                DAEMON_SET,
                NS,
                "ds",
                lambda new: new["spec"]["template"]["spec"]["containers"][0]["env"][0].update(value="2"),
            )
            while (
                sum(
                    p["spec"]["containers"][0]["env"][0]["value"] == "2" and p["status"]["phase"] == "Running"
                    for p in w.pods()
                )
                < 3
            ):
                await watch.next(5)
                fewest = min(
                    fewest,
                    sum(
                        p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"] for p in w.pods()
                    ),
                )
        assert fewest == 2

    run(check)


def test_endpoints_follow_readiness_and_keep_a_terminating_pod_serving() -> None:
    async def check(w: World) -> None:
        w.store.create(
            SERVICE,
            {
                "metadata": {"name": "svc", "namespace": NS},
                "spec": {
                    "selector": {"app": "x"},
                    "clusterIP": "10.96.0.9",
                    "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
                },
            },
        )
        await w.until(lambda: w.store.list(ENDPOINT_SLICE, NS))
        assert w.store.list(ENDPOINT_SLICE, NS)[0]["endpoints"] == []
        w.store.create(POD, pod("p", labels={"app": "x"}))

        def conditions() -> list[dict]:
            return [e["conditions"] for e in w.store.list(ENDPOINT_SLICE, NS)[0]["endpoints"]]

        await w.until(lambda: conditions() == [{"ready": True, "serving": True, "terminating": False}])
        assert w.store.get(ENDPOINTS, NS, "svc")["subsets"][0]["addresses"][0]["ip"] == "10.244.0.1"
        w.nodes.say(w.pods()[0], "Running", ready=False)
        await w.until(lambda: conditions() == [{"ready": False, "serving": False, "terminating": False}])
        assert "addresses" not in w.store.get(ENDPOINTS, NS, "svc")["subsets"][0]
        w.nodes.say(w.pods()[0], "Running")
        w.nodes.behave = lambda p: "Stuck"
        delete(w.store, POD, NS, "p")
        await w.until(lambda: conditions() == [{"ready": False, "serving": True, "terminating": True}])
        w.store.remove(POD, NS, "p")
        await w.until(lambda: conditions() == [])

    run(check)


def test_a_namespace_gets_its_service_account_and_ca_and_empties_itself_when_deleted() -> None:
    async def check(w: World) -> None:
        await w.until(
            lambda: w.store.find(SERVICE_ACCOUNT, NS, "default") and w.store.find(CONFIG_MAP, NS, "kube-root-ca.crt")
        )
        delete(w.store, SERVICE_ACCOUNT, NS, "default")
        await w.until(lambda: w.store.find(SERVICE_ACCOUNT, NS, "default"))
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=2))
        await w.until(lambda: len(w.pods()) == 2)
        delete(w.store, NAMESPACE, "", NS)
        await w.until(lambda: w.store.find(NAMESPACE, "", NS) is None)
        assert w.store.list(POD, NS) == []
        assert w.store.list(EVENT, NS) == []

    run(check)


def test_a_refused_pod_is_told_on_the_replica_set_and_the_deployment_and_made_once_allowed() -> None:
    async def check(w: World) -> None:
        d = workload("Deployment", "d", replicas=1)
        d["spec"]["template"]["spec"]["serviceAccountName"] = "late"
        w.create(DEPLOYMENT, d)
        await w.until(
            lambda: any(
                c["type"] == "ReplicaFailure"
                for c in w.store.get(DEPLOYMENT, NS, "d").get("status", {}).get("conditions", [])
            )
        )
        assert reasons(w.store)["FailedCreate"] >= 1
        w.store.create(SERVICE_ACCOUNT, {"metadata": {"name": "late", "namespace": NS}})
        await w.until(lambda: w.store.get(DEPLOYMENT, NS, "d")["status"].get("availableReplicas") == 1)
        assert not any(c["type"] == "ReplicaFailure" for c in w.store.get(DEPLOYMENT, NS, "d")["status"]["conditions"])

    run(check)


def test_a_complete_deployment_that_is_paused_settles() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=0))
        await w.until(lambda: w.store.get(DEPLOYMENT, NS, "d").get("status", {}).get("conditions"))
        w.store.mutate(DEPLOYMENT, NS, "d", lambda new: new["spec"].__setitem__("paused", True))
        await w.until(
            lambda: any(
                c["reason"] == "DeploymentPaused" for c in w.store.get(DEPLOYMENT, NS, "d")["status"]["conditions"]
            )
        )
        seen = [w.store.version]
        while len(seen) < 2 or seen[-1] != seen[-2]:  # what has settled writes nothing more
            assert len(seen) < 20
            await asyncio.sleep(0.3)
            seen.append(w.store.version)

    run(check)
