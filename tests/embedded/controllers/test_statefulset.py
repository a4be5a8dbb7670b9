"""StatefulSets, with all controllers running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.deletion import delete
from chaos.embedded.resources import POD, STATEFUL_SET
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


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
        order: list[str] = []
        with w.store.watch(POD) as watch:
            w.store.mutate(
                STATEFUL_SET,
                NS,
                "s",
                lambda new: new["spec"]["template"]["spec"]["containers"][0]["env"][0].update(value="2"),
            )
            while w.store.get(STATEFUL_SET, NS, "s")["status"].get("updatedReplicas") != 2 or len(order) < 2:
                event = await watch.next(5)
                assert event is not None
                order += [event.object["metadata"]["name"]] if event.type == "ADDED" else []
        assert order == ["s-2", "s-1"]
        delete(w.store, POD, NS, "s-0")
        await w.until(
            lambda: w.store.find(POD, NS, "s-0") and "deletionTimestamp" not in w.store.get(POD, NS, "s-0")["metadata"]
        )
        assert w.store.get(POD, NS, "s-0")["spec"]["containers"][0]["env"][0]["value"] == "1"

    run(check)
