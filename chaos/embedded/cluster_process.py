"""Assemble the embedded cluster, in order, and take it apart again: the one process that is the cluster.

Order of start: network fabric, store with its first objects, API server, controllers, Services and DNS, nodes. Stopping
is the inverse. This process alone holds the run directory's lock, from before the first effect until after the last,
so that `provider` can tell a living cluster from the remains of a dead one. Started by `__main__`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.embedded.api.bootstrap import KUBERNETES_IP, create_bootstrap
from chaos.embedded.api.pki import Authority, kubeconfig, server_context, write_private
from chaos.embedded.api.server import ApiServer
from chaos.embedded.api.tokens import TokenIssuer
from chaos.embedded.clock import SystemClock
from chaos.embedded.controllers import run_controllers
from chaos.embedded.kubelet import Images, Node, cgroups
from chaos.embedded.network import ClusterNetwork, run_policies, run_services, serve_dns
from chaos.embedded.network.addresses import API_PORT, FABRIC_ADDRESS
from chaos.embedded.node_api import Kubelet
from chaos.embedded.objects import is_true
from chaos.embedded.provider import DOWN_SECONDS, end_by_force
from chaos.embedded.resources import NODE, Object
from chaos.embedded.store import Store

log = logging.getLogger(__name__)

NODES_READY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a cluster.

    Attributes:
        directory: its run directory, made and locked by the caller.
        nodes: their names.
        runner: notified when the cluster is ready; when it closes, the cluster stops, unless `keep`.
    """

    directory: Path
    name: str
    nodes: tuple[str, ...]
    runner: socket.socket | None = None
    keep: bool = False


class ReachableKubelets(Mapping[str, Kubelet]):
    """The kubelets that the API server can reach: running ones, on nodes whose link is up."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    def __getitem__(self, name: str) -> Kubelet:
        node = self._nodes[name]
        if not node.reachable():
            raise KeyError(name)
        return node

    def __iter__(self) -> Iterator[str]:
        return (name for name, node in self._nodes.items() if node.reachable())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class ClusterProcess:
    """The parts of a cluster, started and stopped in order."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._clock = SystemClock()
        self._store = Store()
        self._network = ClusterNetwork()
        self._issuer = TokenIssuer(self._store)
        self._nodes: dict[str, Node] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self.orphaned = False  # its runner has ended, and it stopped without an error
        self._failed: BaseException | None = None
        self._reachable = ReachableKubelets(self._nodes)
        self._server = ApiServer(
            self._store,
            self._issuer,
            kubelets=self._reachable,
            clock=self._clock,
            audit=options.directory / "audit.jsonl",
            operations=self._operations(),
            nodes=lambda: {name: node.power_state() for name, node in self._nodes.items()},
            opener=self._network.socket_of_fabric,
        )

    def _operations(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        def of_node(operation: Callable[[Node], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
            return lambda name: operation(self._nodes[name])

        return {
            "power-off": of_node(Node.power_off),
            "power-on": of_node(Node.power_on),
            "stop-kubelet": of_node(Node.stop_kubelet),
            "start-kubelet": of_node(Node.start_kubelet),
            "cut-link": self._network.cut_link,
            "restore-link": self._network.restore_link,
        }

    async def run(self) -> None:
        """Start, serve until told to stop, stop. Raises the error that made it fail."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)
        if self._options.runner is not None:
            self._options.runner.setblocking(False)
            loop.add_reader(self._options.runner, self._on_runner)
            if not self._options.keep:
                threading.Thread(target=self._await_owner, daemon=True, name="owner").start()
        try:
            starting = asyncio.create_task(self._start())
            ended = asyncio.create_task(self._over.wait())
            await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await ended
        finally:
            await self._stop()
        if self._failed is not None:
            raise self._failed

    def _on_runner(self) -> None:
        """The runner never writes: a readable socket means that it is gone."""
        runner = self._options.runner
        if runner is None:
            return
        with contextlib.suppress(BlockingIOError):
            with contextlib.suppress(ConnectionError):
                if runner.recv(64):
                    return
            asyncio.get_running_loop().remove_reader(runner)
            if not self._options.keep:
                log.info("the runner has ended: stopping the cluster")
                self.orphaned = True
                self._over.set()

    def _await_owner(self) -> None:
        """Watch for the owner's end from a thread, which a blocked event loop cannot delay."""
        assert self._options.runner is not None
        poll = select.poll()
        poll.register(self._options.runner.fileno(), select.POLLRDHUP | select.POLLHUP)
        poll.poll()
        time.sleep(DOWN_SECONDS)
        log.error("the runner ended %g s ago and the cluster still runs: killing it", DOWN_SECONDS)
        end_by_force(self._options.directory)

    # ---- start

    async def _start(self) -> None:
        options = self._options
        await self._network.start()
        authority = Authority()
        inside = self._network.listen(API_PORT)
        outside = socket.create_server(("127.0.0.1", 0), backlog=512)
        outside.setblocking(False)
        port = outside.getsockname()[1]
        serving = authority.issue(
            "kube-apiserver",
            names=(
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ),
            addresses=("127.0.0.1", KUBERNETES_IP, FABRIC_ADDRESS),
        )
        folder = options.directory / "pki"
        folder.mkdir(mode=0o700, exist_ok=True)
        create_bootstrap(self._store, address=FABRIC_ADDRESS, port=API_PORT)
        await self._server.serve([outside, inside], server_context(authority, serving, folder))
        admin = authority.issue("kubernetes-admin", organizations=("system:masters",))
        write_private(
            options.directory / "kubeconfig",
            kubeconfig(options.name, f"https://127.0.0.1:{port}", authority, admin, folder),
        )
        self._task(
            "controllers",
            run_controllers(
                self._store,
                self._clock,
                root_ca=authority.pem.decode(),
                gate=self._server.gate,
                usage=lambda: [one for kubelet in self._reachable.values() for one in kubelet.usage()],
            ),
        )
        self._task("services", run_services(self._store, self._network))
        self._task("policies", run_policies(self._store, self._network))
        self._task("dns", serve_dns(self._store, self._network))
        await self._start_nodes()
        write_private(options.directory / "ready", f"{os.getpid()}\n".encode())
        if options.runner is not None:
            with contextlib.suppress(ConnectionError):
                options.runner.send(b"ready\n")
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not walk it again
        log.info("ready: https://127.0.0.1:%d, nodes %s", port, ", ".join(options.nodes))

    def _task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # without one of its parts there is no cluster: say why, and end
                log.exception("%s failed", name)
                self._failed = error
                self._over.set()

        self._tasks.append(asyncio.create_task(guarded(), name=name))

    async def _start_nodes(self) -> None:
        images = Images(self._options.directory / "images")

        def token(pod: Object, *, audiences: list[str], seconds: int) -> str:
            return self._issuer.issue(
                pod["metadata"]["namespace"],
                pod["spec"].get("serviceAccountName", "default"),
                audiences=audiences,
                seconds=seconds,
                pod=pod,
            )[0]

        for name in self._options.nodes:
            self._nodes[name] = Node(
                self._store,
                name,
                run_dir=self._options.directory,
                network=self._network,
                images=images,
                tokens=token,
                clock=self._clock,
            )
        with self._store.watch(NODE) as watch:
            async with asyncio.TaskGroup() as group:
                for node in self._nodes.values():
                    group.create_task(node.start())
            async with asyncio.timeout(NODES_READY_SECONDS):
                while not all(_is_ready(self._store.find(NODE, "", name)) for name in self._options.nodes):
                    await watch.next()

    # ---- stop

    async def _stop(self) -> None:
        options = self._options
        (options.directory / "ready").unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ends = await asyncio.gather(
            self._server.stop(), *(node.stop() for node in self._nodes.values()), return_exceptions=True
        )
        ends.append(await _caught(self._network.stop()))
        for end in ends:
            if isinstance(end, BaseException):
                self.orphaned = False
                log.error("while stopping the cluster: %r", end)
        await asyncio.to_thread(cgroups.remove_tree, f"{cgroups.ROOT}/{options.directory.name}")
        log.info("down")


async def _caught(work: Awaitable[None]) -> BaseException | None:
    return (await asyncio.gather(work, return_exceptions=True))[0]


def _is_ready(node: Object | None) -> bool:
    return node is not None and is_true(node, "Ready")
