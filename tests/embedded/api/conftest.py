"""A server in this process, over TLS on loopback, with the controllers that need no node; and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from chaos.embedded.api.bootstrap import create_bootstrap
from chaos.embedded.api.pki import Authority, kubeconfig, server_context
from chaos.embedded.api.server import ApiServer
from chaos.embedded.api.tokens import TokenIssuer
from chaos.embedded.controllers import run_controllers
from chaos.embedded.store import Store
from chaos.kube.client import Cluster


@dataclass
class World:
    """A running server."""

    url: str
    kubeconfig: Path
    authority: Authority
    store: Store
    issuer: TokenIssuer
    loop: asyncio.AbstractEventLoop
    directory: Path
    cluster: Cluster

    def call(self, work: Callable[[], Any]) -> Any:
        """Run something on the server's own loop, where the store may be touched."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def http(self, *, token: str | None = None) -> urllib3.PoolManager:
        """A bare client, without the administrator's certificate."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return urllib3.PoolManager(ca_certs=str(self.directory / "ca.crt"), headers=headers, retries=False)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl(), "--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.directory / "cache"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def user(self, name: str, *groups: str) -> Cluster:
        """A client with a certificate of its own."""
        path = self.directory / f"user-{name}"
        path.write_bytes(
            kubeconfig(name, self.url, self.authority, self.authority.issue(name, organizations=groups), self.directory)
        )
        return Cluster(path)


def kubectl() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else shutil.which("kubectl") or "kubectl"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("api")
    authority = Authority()
    (directory / "ca.crt").write_bytes(authority.pem)
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    listening.setblocking(False)
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    pair = authority.issue("kube-apiserver", names=("localhost",), addresses=("127.0.0.1",))
    config = directory / "kubeconfig"
    config.write_bytes(
        kubeconfig("test", url, authority, authority.issue("admin", organizations=("system:masters",)), directory)
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    store = Store()
    issuer = TokenIssuer(store)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> ApiServer:
        server = ApiServer(store, issuer, kubelets={}, audit=directory / "audit.jsonl")
        create_bootstrap(store)
        await server.serve([listening], server_context(authority, pair, directory))
        tasks.append(asyncio.create_task(run_controllers(store, root_ca=authority.pem.decode(), gate=server.gate)))
        return server

    async def stop(server: ApiServer) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop()

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        with contextlib.closing(Cluster(config)) as cluster:
            made = World(url, config, authority, store, issuer, loop, directory, cluster)
            cluster.wait("default service account", lambda: cluster.find("ServiceAccount", "default", "default"))
            yield made
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def cluster(world: World) -> Cluster:
    return world.cluster


_numbers = iter(range(1, 1_000_000))


@pytest.fixture
def namespace(world: World) -> str:
    """A fresh namespace with its default service account."""
    name = f"test-{next(_numbers)}"
    world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    world.cluster.wait("service account", lambda: world.cluster.find("ServiceAccount", "default", name), every=0.005)
    return name


def pod(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": "example:1"}], **spec},
    }


def config_map(name: str, namespace: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def deployment(name: str, namespace: str, replicas: int = 1) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "example:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def shown(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)
