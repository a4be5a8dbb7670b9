"""A day in fast forward: what the cluster keeps does not grow with what happened."""

from __future__ import annotations

import asyncio
import tracemalloc

from chaos.embedded import store as stores
from chaos.embedded.controllers import run_controllers
from chaos.embedded.events import EventRecorder
from chaos.embedded.resources import EVENT, NAMESPACE
from chaos.embedded.store import Store
from tests.parity.warp import WarpLoop, run_warped

HOUR = 3600
EVERY = 10  # seconds between two Events


def live_a_day(store: Store, loop: WarpLoop) -> list[tuple[int, int]]:
    """(Events kept, bytes held by Python) at the end of every sixth hour."""
    seen: list[tuple[int, int]] = []

    async def day() -> None:
        store.create(NAMESPACE, {"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}})
        controllers = asyncio.create_task(run_controllers(store, loop))
        recorder = EventRecorder(store, "kubelet", "node-1", clock=loop)
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "uid": "u"}}
        for second in range(EVERY, 24 * HOUR + 1, EVERY):
            await asyncio.sleep(EVERY)
            recorder.event(about, "Warning", "Unhealthy", f"Readiness probe failed at {second}")
            recorder.event(about, "Normal", "Pulled", "always the same")
            if second % (6 * HOUR) == 0:
                seen.append((len(store.list(EVENT)), tracemalloc.get_traced_memory()[0]))
        controllers.cancel()
        await asyncio.gather(controllers, return_exceptions=True)

    tracemalloc.start()
    try:
        run_warped(day(), loop)
    finally:
        tracemalloc.stop()
    return seen


def test_a_day_of_events_takes_no_more_memory_than_six_hours_of_them() -> None:
    store = Store()
    seen = live_a_day(store, WarpLoop())
    assert all(HOUR // EVERY <= count <= HOUR // EVERY + 3 for count, _ in seen)
    assert len(store._table(EVENT).history) == stores.HISTORY
    assert seen[-1][1] < 1.25 * seen[0][1]  # four times as many would be four times as much
    (same,) = [event for event in store.list(EVENT) if event["reason"] == "Pulled"]
    assert same["count"] == 24 * HOUR // EVERY  # one that repeats is counted and kept
