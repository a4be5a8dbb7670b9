"""ReplicaSets: which pods they take, and which they let go first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.resources import DEPLOYMENT, EVENT, POD, REPLICA_SET, SERVICE_ACCOUNT
from chaos.embedded.store import Store
from tests.embedded.controllers.harness import NS, World, pod, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def reasons(store: Store) -> Counter[Any]:
    return Counter(event["reason"] for event in store.list(EVENT, NS))


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


def _forget_since_when(status: dict[str, Any]) -> None:
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
