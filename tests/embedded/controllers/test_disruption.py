"""How many pods a budget lets go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.resources import DEPLOYMENT, POD_DISRUPTION_BUDGET
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


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
