"""DaemonSets, with all controllers running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.resources import DAEMON_SET, NODE, POD
from tests.embedded.controllers.harness import NS, World, node, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


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
