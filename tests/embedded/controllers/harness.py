"""A store with all controllers running, and a stand-in for the kubelets that says of each bound pod what a test wants
said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from chaos.embedded.api.admission import admit_create
from chaos.embedded.clock import Clock, SystemClock, stamp
from chaos.embedded.controllers import run_controllers
from chaos.embedded.deletion import delete
from chaos.embedded.node_api import ContainerUsage
from chaos.embedded.resources import NAMESPACE, NODE, POD, Object, Resource
from chaos.embedded.store import NotFound, Store, copy

NS = "shop"


def node(
    name: str, *, cpu: str = "2", labels: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    spec: dict[str, Any] = {"taints": taints} if taints else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def pod(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS, "labels": labels or {}},
        "spec": {"containers": [{"name": "app", "image": "i"}], "restartPolicy": "Always", **spec},
        "status": {"phase": "Pending"},
    }


def workload(kind: str, name: str, *, group: str = "apps/v1", version: str = "1", **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": "i", "env": [{"name": "V", "value": version}]}]},
    }
    if kind == "Job":
        template["spec"]["restartPolicy"] = spec.pop("restartPolicy", "Never")  # type: ignore[index]
        return {
            "apiVersion": "batch/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": NS, "generation": 1},
            "spec": {"template": template, **spec},
        }
    return {
        "apiVersion": group,
        "kind": kind,
        "metadata": {"name": name, "namespace": NS, "generation": 1},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


class Nodes:
    """Runs bound pods: ready at once, gone when deleted; `behave` may say otherwise of a pod."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.behave: Callable[[Object], str] = lambda pod: "Running"
        self.addresses = 0
        self.usage: list[ContainerUsage] = []

    async def run(self) -> None:
        with self.store.watch(POD) as watch:
            async for event in watch:
                with contextlib.suppress(NotFound):
                    self._act(event.object)

    def _act(self, seen: Object) -> None:
        current = self.store.find(POD, seen["metadata"]["namespace"], seen["metadata"]["name"])
        if (
            current is None
            or current["metadata"]["uid"] != seen["metadata"]["uid"]
            or not current["spec"].get("nodeName")
        ):
            return
        key = current["metadata"]["namespace"], current["metadata"]["name"]
        if "deletionTimestamp" in current["metadata"]:
            if self.behave(current) != "Stuck":
                delete(self.store, POD, *key, grace=0)
        elif current["status"].get("phase") == "Pending" and self.behave(current) != "Stuck":
            self.addresses += 1
            self.say(current, self.behave(current), f"10.244.0.{self.addresses}")

    def say(self, pod: Object, phase: str, address: str | None = None, *, ready: bool | None = None) -> None:
        at = stamp(self.clock.now())
        is_ready = phase == "Running" if ready is None else ready

        def change(new: dict[str, Any]) -> None:
            status = new["status"]
            status["phase"] = phase
            status.setdefault("startTime", at)
            status["podIP"] = address or status.get("podIP")
            status["conditions"] = [c for c in status.get("conditions", []) if c["type"] != "Ready"] + [
                {"type": "Ready", "status": "True" if is_ready else "False", "lastTransitionTime": at}
            ]
            if phase in ("Succeeded", "Failed"):
                status["containerStatuses"] = [
                    {
                        "name": "app",
                        "restartCount": 0,
                        "state": {"terminated": {"exitCode": 0 if phase == "Succeeded" else 1, "finishedAt": at}},
                    }
                ]

        self.store.mutate(POD, pod["metadata"]["namespace"], pod["metadata"]["name"], change)


class World:
    def __init__(self, store: Store, nodes: Nodes) -> None:
        self.store = store
        self.nodes = nodes

    def create(self, resource: Resource, obj: dict[str, Any]) -> Object:
        """As the API server would, with defaults."""
        return self.store.create(resource, admit_create(self.store, resource, obj))

    def pods(self) -> list[Object]:
        return [copy(pod) for pod in self.store.list(POD, NS)]

    async def until(self, check: Callable[[], Any], seconds: float = 20.0) -> Any:
        """The first true answer; fails after `seconds`, saying what the pods look like."""
        async with asyncio.timeout(seconds):
            try:
                while not (found := check()):
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                print(
                    [(p["metadata"]["name"], p["status"].get("phase"), p["spec"].get("nodeName")) for p in self.pods()]
                )
                raise
            return found


@contextlib.asynccontextmanager
async def world(*nodes: dict[str, Any], clock: Clock | None = None) -> AsyncIterator[World]:
    store, clock = Store(), clock or SystemClock()
    store.create(
        NAMESPACE, {"metadata": {"name": NS}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    )
    for one in nodes or (node("n1"), node("n2"), node("n3")):
        store.create(NODE, one)
    kubelets = Nodes(store, clock)
    controllers = run_controllers(store, clock, root_ca="PEM", usage=lambda: kubelets.usage)
    tasks = [asyncio.create_task(kubelets.run()), asyncio.create_task(controllers)]
    try:
        yield World(store, kubelets)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
