"""Namespaces that stand for nodes and pods, and small servers and clients inside them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.network import ClusterNetwork
from chaos.embedded.network.dns import serve_dns
from chaos.embedded.network.netns import Namespace
from chaos.embedded.network.rule_sync import run_policies, run_services
from chaos.embedded.resources import ENDPOINT_SLICE, NAMESPACE, POD, SERVICE
from chaos.embedded.store import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Privileged tests need root: without it they are skipped, and fail in CI."""
    if os.geteuid() == 0 or os.environ.get("CI"):
        return
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("privileged"):
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and nftables"))


class World:
    """Two nodes with pods, wired by a ClusterNetwork, with the rules and DNS following a store."""

    def __init__(self) -> None:
        self.store = Store()
        self.network = ClusterNetwork()
        self.namespaces: dict[str, Namespace] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, nodes: int = 2) -> None:
        await self.network.start()
        for name in ("default", "kube-system"):
            self.store.create(NAMESPACE, {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
        for number in range(1, nodes + 1):
            await self.add_node(f"node-{number}")
        for work in (run_services, run_policies, serve_dns):
            self.tasks.append(asyncio.create_task(work(self.store, self.network)))

    async def add_node(self, name: str) -> str:
        namespace = self.namespaces[name] = Namespace.create()
        return await self.network.add_node(name, f"/proc/self/fd/{namespace.fd}")

    async def pod(
        self,
        name: str,
        node: str,
        *,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
        ports: list[dict[str, Any]] | None = None,
    ) -> str:
        """A pod of that name; its address."""
        own = self.namespaces[name] = Namespace.create()
        address = await self.network.attach_pod(node, uid(name), f"/proc/self/fd/{own.fd}")
        self.store.create(
            POD,
            {
                "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
                "spec": {"nodeName": node, "containers": [{"name": "main", "ports": ports or []}]},
                "status": {"phase": "Running", "podIP": address},
            },
        )
        return address

    def service(
        self, name: str, address: str, backends: list[tuple[str, int]], *, namespace: str = "default", **spec: Any
    ) -> None:
        self.store.create(
            SERVICE,
            {
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": address, "ports": [{"port": 80, "name": "http"}], **spec},
            },
        )
        self.endpoints(name, backends, namespace=namespace)

    def endpoints(self, name: str, backends: list[tuple[str, int]], *, namespace: str = "default") -> None:
        """Set a Service's ready endpoints; all with the port of the first."""
        slice_ = {
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": backends[0][1] if backends else 1}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address, _ in backends],
        }
        if self.store.find(ENDPOINT_SLICE, namespace, name):
            self.store.update(ENDPOINT_SLICE, slice_)
        else:
            self.store.create(ENDPOINT_SLICE, slice_)

    @asynccontextmanager
    async def server(self, where: str, port: int, *, name: str | None = None) -> AsyncIterator[None]:
        """A TCP server in `where`'s namespace that tells its name and who called."""

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{name or where} {writer.get_extra_info('peername')[0]}".encode())
            writer.close()

        listener = self.namespaces[where].socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.setblocking(False)
        async with await asyncio.start_server(serve, sock=listener):
            yield

    async def call(self, where: str, address: str, port: int, *, timeout: float = 5.0) -> tuple[str, str]:
        """(server's name, address that it saw); OSError when refused, TimeoutError when nothing answers."""
        client = self.namespaces[where].socket()
        client.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(client, (address, port))
                said = await asyncio.get_running_loop().sock_recv(client, 100)
        finally:
            client.close()
        server, caller = said.decode().split()
        return server, caller

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        await self.network.stop()
        for namespace in self.namespaces.values():
            namespace.close()


def uid(name: str) -> str:
    """A UID that is different for each name in its first ten digits."""
    return f"{name.encode().hex():0<32}"[-32:][:8] + "-" + name.encode().hex()[-8:]


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    """Wait until the check holds; AssertionError when it does not in time."""
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.005)


@pytest.fixture
def run_in_world() -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Run an asynchronous test body in a fresh world of two nodes."""

    def run(body: Callable[[World], Awaitable[None]]) -> None:
        async def whole() -> None:
            world = World()
            try:
                await world.start()
                await body(world)
            finally:
                await world.stop()

        asyncio.run(whole())

    return run


def host_network() -> dict[str, str]:
    """Everything of the host's own network that a cluster must not touch, as text."""
    seen = {
        " ".join(command): subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (
            ["ip", "-j", "link"],
            ["ip", "-j", "address"],
            ["ip", "-j", "route", "show", "table", "all"],
            ["ip", "-j", "rule"],
            ["ip", "-j", "-6", "rule"],
            ["ip", "-j", "-6", "route", "show", "table", "all"],
            ["nft", "list", "ruleset"],
            ["ip", "netns", "list"],
        )
    }
    for folder, _, names in os.walk("/proc/sys/net"):
        for name in names:
            path = os.path.join(folder, name)
            try:
                with open(path, "rb") as file:
                    seen[path] = file.read().decode(errors="replace")
            except OSError as error:
                seen[path] = type(error).__name__
    return seen
