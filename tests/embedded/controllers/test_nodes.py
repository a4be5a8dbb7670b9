"""Nodes that fall silent or are tainted, and their pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from chaos.embedded.clock import stamp
from chaos.embedded.controllers.nodes import NodeLifecycle, toleration_left
from chaos.embedded.resources import DEPLOYMENT, LEASE, NODE, POD
from chaos.embedded.store import Store, WatchEvent
from tests.embedded.controllers.harness import NS, World, node, pod, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


class SettableClock:
    """Stands still until told otherwise."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def lifecycle(store: Store, clock: SettableClock) -> NodeLifecycle:
    controller = NodeLifecycle(store, clock)
    for one in store.list(NODE):
        controller._node(WatchEvent("ADDED", one, 0))
    return controller


def test_a_silent_node_turns_unknown_after_fifty_seconds_and_its_pods_unready() -> None:
    store, clock = Store(), SettableClock(datetime(2026, 1, 1, tzinfo=UTC))
    store.create(NODE, node("n1"))
    store.create(
        POD,
        pod("p", nodeName="n1") | {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
    )
    controller = lifecycle(store, clock)
    clock.advance(45)
    lease = store.create(LEASE, {"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {}})
    controller._lease(WatchEvent("MODIFIED", lease, 0))
    clock.advance(49)
    controller.reconcile(("", "n1"))
    assert "taints" not in store.get(NODE, "", "n1")["spec"]
    clock.advance(1)
    controller.reconcile(("", "n1"))
    found = store.get(NODE, "", "n1")
    assert {c["type"]: c["status"] for c in found["status"]["conditions"]}["Ready"] == "Unknown"
    assert [(t["key"], t["effect"]) for t in found["spec"]["taints"]] == [
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    ]
    assert store.get(POD, NS, "p")["status"]["conditions"][0]["status"] == "False"


def test_a_node_that_posts_again_loses_its_taints() -> None:
    store, clock = Store(), SettableClock(datetime(2026, 1, 1, tzinfo=UTC))
    store.create(NODE, node("n1"))
    controller = lifecycle(store, clock)
    clock.advance(60)
    controller.reconcile(("", "n1"))
    back = store.mutate(
        NODE,
        "",
        "n1",
        lambda new: new["status"].update(conditions=[{"type": "Ready", "status": "True", "lastHeartbeatTime": "now"}]),
    )
    controller._node(WatchEvent("MODIFIED", back, 0, before=None))
    controller.reconcile(("", "n1"))
    assert "taints" not in store.get(NODE, "", "n1")["spec"]


def test_tolerations_end_twenty_seconds_after_the_taint() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": stamp(now)}
    tolerant = {
        "spec": {
            "tolerations": [{"key": taint["key"], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}]
        }
    }
    assert toleration_left(tolerant, [taint], now + timedelta(seconds=5)) == 15
    assert toleration_left(tolerant, [taint], now + timedelta(seconds=25)) == 0
    assert toleration_left({"spec": {}}, [taint], now) == 0
    assert toleration_left({"spec": {"tolerations": [{"operator": "Exists"}]}}, [taint], now) is None


def test_a_pod_on_a_tainted_node_is_evicted_and_replaced_elsewhere() -> None:
    async def check(w: World) -> None:
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=1))
        await w.until(lambda: w.pods() and w.pods()[0]["status"]["phase"] == "Running")
        where = w.pods()[0]["spec"]["nodeName"]
        w.store.mutate(
            NODE,
            "",
            where,
            lambda new: new["spec"].update(
                taints=[{"key": "x", "effect": "NoExecute", "timeAdded": stamp(datetime.now(UTC))}]
            ),
        )
        await w.until(lambda: w.pods() and w.pods()[0]["spec"].get("nodeName") not in (None, where))

    run(check, node("n1"), node("n2"))
