"""Owners that go, and what becomes of what they own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.deletion import delete
from chaos.embedded.resources import DEPLOYMENT, POD, REPLICA_SET
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


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
