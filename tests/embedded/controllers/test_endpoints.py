"""EndpointSlices follow the pods of a Service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.deletion import delete
from chaos.embedded.resources import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from tests.embedded.controllers.harness import NS, World, pod, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


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

        def conditions() -> list[dict[str, Any]]:
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
