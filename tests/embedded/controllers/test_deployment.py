"""Deployments, with all controllers running."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.resources import DEPLOYMENT, EVENT, POD, REPLICA_SET
from chaos.embedded.store import Store
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def reasons(store: Store) -> Counter[Any]:
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

            def change(new: dict[str, Any]) -> None:
                new["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "2"
                new["metadata"]["generation"] = 2

            w.store.mutate(DEPLOYMENT, NS, "d", change)

            def done() -> bool:
                status = w.store.get(DEPLOYMENT, NS, "d")["status"]
                return bool(
                    status["observedGeneration"] == 2 and status.get("updatedReplicas") == 3 and status["replicas"] == 3
                )

            for _ in range(200):
                if done():
                    break
                with contextlib.suppress(TimeoutError):  # the deployment's status comes after its last pod
                    await watch.next(0.2)
                active = [p for p in w.pods() if "deletionTimestamp" not in p["metadata"]]
                counts.append((len(active), sum(p["status"]["phase"] == "Running" for p in active)))
        assert done()
        assert min(ready for _, ready in counts) >= 3
        assert max(total for total, _ in counts) <= 4
        sets = w.store.list(REPLICA_SET, NS)
        assert sorted(s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for s in sets) == ["1", "2"]

    run(check)


def test_a_rollback_reuses_the_old_replica_set_under_a_new_revision() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=1))
        for number, value in enumerate(("1", "2", "1"), start=1):

            def change(new: dict[str, Any], value: str = value, number: int = number) -> None:
                new["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = value
                new["metadata"]["generation"] = number

            w.store.mutate(DEPLOYMENT, NS, "d", change)
            await w.until(
                lambda n=number: (  # type: ignore[misc]  # mypy infers no lambda with defaults
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


def _forget_since_when(status: dict[str, Any]) -> None:
    for entry in status["conditions"]:
        entry.pop("lastTransitionTime", None)


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
