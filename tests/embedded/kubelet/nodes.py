"""Real nodes, driven by a bare Store: pods are created with their nodeName set, as a scheduler would leave them."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from chaos.embedded.deletion import delete
from chaos.embedded.kubelet import Images, Node
from chaos.embedded.kubelet.cgroups import controllers
from chaos.embedded.network import ClusterNetwork
from chaos.embedded.node_api import LogOptions
from chaos.embedded.resources import EVENT, POD, Object, Resource
from chaos.embedded.store import Store
from chaos.names import IMAGE


def container(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "command": list(command), **more}


def shell(name: str, script: str, **more: Any) -> dict[str, Any]:
    return container(name, "sh", "-c", script, **more)


def pod(name: str, *containers: dict[str, Any], node: str = "node-1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "generation": 1, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 5,
            "serviceAccountName": "default",
            "securityContext": {"runAsUser": 0},  # the image says another
            **spec,
            "containers": list(containers),
        },
        "status": {"phase": "Pending"},
    }


class World:
    """Some nodes and their store."""

    def __init__(self) -> None:
        self.store = Store()
        self.network = ClusterNetwork()
        self.run_dir = Path("/run/sharedfate") / f"kubelet-test-{secrets.token_hex(4)}"
        self.images = Images(self.run_dir / "images")
        self.nodes: dict[str, Node] = {}

    async def start(self, count: int) -> None:
        await self.network.start()
        for number in range(1, count + 1):
            name = f"node-{number}"
            self.nodes[name] = Node(
                self.store, name, run_dir=self.run_dir, network=self.network, images=self.images, tokens=self._token
            )
            await self.nodes[name].start()

    @staticmethod
    def _token(pod: Object, *, audiences: list[str], seconds: int) -> str:
        return f"token of {pod['metadata']['name']} for {','.join(audiences) or 'the API'}, {seconds} s"

    async def stop(self) -> None:
        for node in self.nodes.values():
            await node.stop()
        await self.network.stop()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def node(self) -> Node:
        return self.nodes["node-1"]

    def create(self, obj: dict[str, Any], resource: Resource = POD) -> Object:
        return self.store.create(resource, obj)

    def get(self, name: str) -> Object | None:
        return self.store.find(POD, "default", name)

    def status(self, name: str, container: str | None = None) -> dict[str, Any]:
        found = self.store.get(POD, "default", name)["status"]
        if container is None:
            return dict(found)
        rows = [*found.get("initContainerStatuses", []), *found.get("containerStatuses", [])]
        return next((dict(row) for row in rows if row["name"] == container), {"state": {}, "lastState": {}})

    def conditions(self, name: str) -> dict[str, str]:
        return {c["type"]: c["status"] for c in self.status(name).get("conditions", [])}

    def events(self, name: str) -> list[tuple[str, str]]:
        return [(e["reason"], e["message"]) for e in self.store.list(EVENT) if e["involvedObject"]["name"] == name]

    async def until(self, check: Callable[[], object], *, seconds: float = 15.0) -> None:
        """Wait for the store to satisfy the check; AssertionError with the pods' states when it does not in time."""
        with self.store.watch(POD) as watch:
            try:
                async with asyncio.timeout(seconds):
                    while not check():
                        try:
                            await watch.next(0.05)
                        except TimeoutError:
                            continue
            except TimeoutError:
                states = {
                    p["metadata"]["name"]: (
                        p["status"].get("phase"),
                        [c["state"] for c in p["status"].get("containerStatuses", [])],
                        self.events(p["metadata"]["name"]),
                    )
                    for p in self.store.list(POD)
                }
                raise AssertionError(f"not within {seconds} s: {states}") from None

    async def ready(self, name: str, *, seconds: float = 15.0) -> None:
        await self.until(lambda: self.conditions(name).get("Ready") == "True", seconds=seconds)

    async def phase(self, name: str, phase: str, *, seconds: float = 15.0) -> None:
        await self.until(lambda: self.status(name).get("phase") == phase, seconds=seconds)

    async def delete(self, name: str, grace: int | None = None) -> None:
        delete(self.store, POD, "default", name, grace=grace)
        await self.until(lambda: self.get(name) is None)

    async def logs(self, name: str, container: str, **options: Any) -> str:
        node = self.nodes[self.store.get(POD, "default", name)["spec"]["nodeName"]]
        return b"".join(
            [chunk async for chunk in node.logs("default", name, container, LogOptions(**options))]
        ).decode()

    async def says(self, name: str, container: str, text: str, *, seconds: float = 15.0) -> None:
        """Wait until the container's log holds the text; TimeoutError when it does not in time."""
        async with asyncio.timeout(seconds):
            while text not in await self.logs(name, container):
                await asyncio.sleep(0.02)

    async def run(
        self, name: str, container: str, *command: str, stdin: bytes | None = None, tty: bool = False
    ) -> tuple[int, str]:
        """`kubectl exec`: exit code and output."""
        node = self.nodes[self.store.get(POD, "default", name)["spec"]["nodeName"]]
        session = await node.exec("default", name, container, command, stdin=stdin is not None, tty=tty)
        if stdin is not None and session.stdin is not None:
            session.stdin.write(stdin)
            await session.stdin.drain()
            if not tty:
                session.close_stdin()
        out = await session.stdout.read()
        err = await session.stderr.read() if session.stderr is not None else b""
        return await session.wait(), (out + err).decode()

    def processes(self, name: str, container: str) -> list[int]:
        """Pids on the machine of a running container, found as on a real node: by UID and id in the cgroup's path."""
        uid = self.store.get(POD, "default", name)["metadata"]["uid"]
        cid = self.status(name, container)["containerID"].partition("://")[2]
        found: set[int] = set()
        for root in controllers().values():
            for directory, _, files in os.walk(root + "/sharedfate"):
                if uid in directory and cid in directory and "cgroup.procs" in files:
                    found |= {int(pid) for pid in Path(directory, "cgroup.procs").read_text().split()}
        return sorted(found)


def in_world(body: Callable[[World], Awaitable[None]], *, nodes: int = 1) -> None:
    """Run an asynchronous test in a world of its own."""

    async def whole() -> None:
        world = World()
        try:
            await world.start(nodes)
            await body(world)
        finally:
            await world.stop()

    asyncio.run(whole())
