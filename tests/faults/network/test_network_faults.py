"""Partition and degradation: what is planned, and what it does to real packets between real namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.faults.network.degrade import Degrade
from chaos.inpod import rules, sandboxes
from chaos.inpod.delay_line import detect_uplink
from chaos.inpod.network_helper import counted, sent_by
from tests.embedded.network.conftest import World

needs_root = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="needs root: network namespaces")


def test_an_isolated_process_keeps_its_spared_ports() -> None:
    script = rules.plan_isolation("r1", rules.Isolation(frozenset({15001, 15021}), 0x539, spared=frozenset({15021})))
    assert "tcp dport { 15001 } counter drop" in script
    assert "meta mark 0x539 counter drop" in script
    assert "15021" not in script


def test_a_namespace_lost_as_a_whole_keeps_loopback() -> None:
    lines = rules.plan_isolation("r1", rules.Isolation(frozenset(), whole=True, spared=frozenset({15021}))).splitlines()
    assert lines.index('iifname "lo" accept') < lines.index("tcp dport { 15021 } accept") < lines.index("counter drop")


def test_removal_names_the_receipts_own_table_only() -> None:
    assert rules.plan_removal("r1") == "add table inet sharedfate-fault-r1\ndelete table inet sharedfate-fault-r1\n"


def test_only_listening_sockets_that_the_process_holds_count() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n"
        "   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1\n"
        "   2: 0100007F:3A99 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 333 1\n"
    )
    assert sandboxes.listening(table, frozenset({111, 333})) == {15001}


def test_counters_are_summed_over_all_rules() -> None:
    counter = {"rule": {"expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 9}}, {"drop": None}]}}
    assert counted({"nftables": [{"metainfo": {}}, counter, counter, {"chain": {}}]}) == 6


def test_a_namespace_without_a_gateway_cannot_be_delayed() -> None:
    with pytest.raises(LookupError, match="no default route"):
        detect_uplink([{"dst": "10.0.0.0/8", "dev": "eth0"}], [])


def test_a_lossy_link_spares_the_ports_by_which_the_load_is_watched() -> None:
    text = rules.plan_loss("r1", 0.3, frozenset({9990, 15021}))
    accepted = [line.strip() for line in text.splitlines() if "accept" in line]
    assert accepted == ["tcp sport { 9990, 15021 } accept", "tcp dport { 9990, 15021 } accept"] * 2
    assert text.index("accept") < text.index("drop")


def test_what_a_device_sent_is_read_from_the_kernels_table() -> None:
    table = "Inter-| Receive\n face |bytes\n  eth0: 1 2 0 0 0 0 0 0 3 4 0 0\nsf-delay: 0 0 0 0 0 0 0 0 900 7 0 0\n"
    assert (sent_by(table, "sf-delay"), sent_by(table, "eth0"), sent_by(table, "eth1")) == (7, 4, 0)


def test_a_wrong_degradation_names_every_wrong_setting() -> None:
    with pytest.raises(Misuse, match=r"delay_ms is -1.*loss is 1\.5.*rate_kbit is 3"):
        Degrade(delay_ms=-1, loss=1.5, rate_kbit=3)
    with pytest.raises(Misuse, match="nothing is degraded"):
        Degrade()


_PROXY = """
import ctypes, os, socket, sys, threading
libc = ctypes.CDLL(None)
def listen(port):
    listener = socket.create_server(("0.0.0.0", port))
    def serve():
        while True:
            connection, peer = listener.accept()
            connection.sendall(f"proxy {peer[0]}".encode())
            connection.close()
    threading.Thread(target=serve, daemon=True).start()
listen(15008)                                    # at home
home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
libc.setns(os.open(sys.argv[1], os.O_RDONLY), 0x40000000)
listen(15001)                                    # in the pod that it serves
listen(15021)
libc.setns(home, 0x40000000)
print("ready", flush=True)
threading.Event().wait()
"""
_HELPER = (
    "import sys; from chaos.inpod import network_helper as helper; pids = [int(sys.argv.pop(1))]; "
    "helper.processes = lambda uid, container: pids; sys.exit(helper.main(sys.argv[1:]))"
)


class Scene:
    """A world with an application's pod and a proxy at home elsewhere that listens in it, as processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: list[subprocess.Popen[str]] = []
        self.app = self.home = ""

    def spawn(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    async def start(self) -> None:
        for name in ("app", "home"):
            setattr(self, name, await self.world.pod(name, "node-1"))
        with self.world.namespaces["app"].inside():
            self.pause = self.spawn("sleep", "1000")
        with self.world.namespaces["home"].inside():
            self.proxy = self.spawn(sys.executable, "-c", _PROXY, f"/proc/{self.pause.pid}/ns/net")
        assert self.proxy.stdout is not None
        assert await asyncio.to_thread(self.proxy.stdout.readline) == "ready\n"

    def helper(self, pid: int, *arguments: str) -> subprocess.Popen[str]:
        action, *rest = arguments
        identity = ["--receipt", "test", "--uid", "u", "--container", "c"]
        return self.spawn(sys.executable, "-c", _HELPER, str(pid), action, *identity, *rest)

    async def said(self, helper: subprocess.Popen[str]) -> dict[str, Any]:
        assert helper.stdout is not None
        line = await asyncio.to_thread(helper.stdout.readline)
        found: dict[str, Any] = json.loads(line)
        return found

    async def ended(self, helper: subprocess.Popen[str]) -> int:
        return await asyncio.to_thread(helper.wait, 10)

    async def answers(self, address: str, port: int, *, where: str = "node-1") -> bool:
        try:
            await self.world.call(where, address, port, timeout=0.3)
        except (TimeoutError, OSError):
            return False
        return True

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    world = World()
    stage = Scene(world)
    try:
        await world.start()
        await stage.start()
        yield stage
    finally:
        stage.stop()
        await world.stop()


def play(body: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with scene() as stage:
            await body(stage)

    asyncio.run(whole())


@pytest.mark.privileged
@needs_root
def test_a_partition_follows_the_proxy_into_the_pods_that_it_serves_and_leaves_the_application_alone() -> None:
    async def body(stage: Scene) -> None:
        async with stage.world.server("app", 8080):

            async def open_ports() -> list[bool]:
                places = [(stage.app, 15001), (stage.app, 15021), (stage.app, 8080), (stage.home, 15008)]
                return [await stage.answers(*place) for place in places]

            assert await open_ports() == [True] * 4
            helper = stage.helper(
                stage.proxy.pid, "isolate", "--for", "20", "--whole", "--mark", "0x539", "--spare", "15021"
            )
            said = await stage.said(helper)
            assert sorted(map(str, said["namespaces"].values())) == ["[15001]", "everything"]
            assert await open_ports() == [False, True, True, False]
            helper.terminate()
            undone = await stage.said(helper)
            assert (undone["why"], undone["namespaces"], undone["dropped"] > 0) == ("told", 2, True)
            assert await stage.ended(helper) == 0
            assert await open_ports() == [True] * 4

    play(body)


@pytest.mark.privileged
@needs_root
def test_a_partition_loses_what_the_proxy_marks_and_nothing_else() -> None:
    async def body(stage: Scene) -> None:
        async with stage.world.server("node-1", 7000):

            async def marked(mark: int) -> bool:
                with stage.world.namespaces["app"].socket() as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                    client.setblocking(False)
                    try:
                        async with asyncio.timeout(0.3):
                            await asyncio.get_running_loop().sock_connect(
                                client, (stage.world.network.gateway("node-1"), 7000)
                            )
                    except TimeoutError:
                        return False
                    return True

            helper = stage.helper(stage.proxy.pid, "isolate", "--for", "20", "--mark", "0x539")
            await stage.said(helper)
            assert (await marked(0x539), await marked(0)) == (False, True)
            helper.terminate()
            await stage.said(helper)
            assert await marked(0x539)

    play(body)


@pytest.mark.privileged
@needs_root
def test_a_partition_ends_at_its_deadline_and_a_killed_helper_is_mended() -> None:
    async def body(stage: Scene) -> None:
        helper = stage.helper(stage.proxy.pid, "isolate", "--for", "0.3")
        await stage.said(helper)
        assert not await stage.answers(stage.app, 15001)
        assert (await stage.said(helper))["why"] == "deadline"
        assert await stage.answers(stage.app, 15001)
        killed = stage.helper(stage.proxy.pid, "isolate", "--for", "20")
        await stage.said(killed)
        killed.send_signal(signal.SIGKILL)
        await stage.ended(killed)
        assert not await stage.answers(stage.app, 15001)
        for found in (2, 0):  # the second time there is nothing to do
            assert (await stage.said(stage.helper(stage.proxy.pid, "mend")))["namespaces"] == found
            assert await stage.answers(stage.app, 15001)

    play(body)


async def connect_seconds(stage: Scene, port: int = 7000) -> float:
    began = time.monotonic()
    await stage.world.call("app", stage.world.network.gateway("node-1"), port, timeout=5)
    return time.monotonic() - began


@pytest.mark.privileged
@needs_root
def test_the_ports_by_which_the_load_is_watched_are_not_delayed_and_the_kernel_counts_the_others() -> None:
    async def body(stage: Scene) -> None:
        async with stage.world.server("node-1", 7000), stage.world.server("node-1", 9990):
            helper = stage.helper(stage.pause.pid, "degrade", "--delay", "80", "--for", "20", "--spare", "9990")
            await stage.said(helper)
            assert await connect_seconds(stage) > 0.07
            assert sorted([await connect_seconds(stage, 9990) for _ in range(5)])[2] < 0.04
            assert (await stage.said(stage.helper(stage.pause.pid, "count")))["delayed"] >= 2

    play(body)


@pytest.mark.privileged
@needs_root
def test_a_proxy_whose_connections_live_in_other_pods_is_refused_a_worse_link() -> None:
    async def body(stage: Scene) -> None:
        helper = stage.helper(stage.proxy.pid, "degrade", "--delay", "80", "--for", "20")
        said = await stage.said(helper)
        assert said["phase"] == "refused"
        assert "(1 pods that it serves)" in said["why"]
        assert await stage.ended(helper) == 4

    play(body)


@pytest.mark.privileged
@needs_root
def test_a_delay_is_added_to_what_the_pod_sends_and_vanishes_with_its_helper() -> None:
    async def body(stage: Scene) -> None:
        async with stage.world.server("node-1", 7000):
            assert await connect_seconds(stage) < 0.04
            helper = stage.helper(stage.pause.pid, "degrade", "--delay", "80", "--jitter", "10", "--for", "20")
            await stage.said(helper)
            delayed = sorted([await connect_seconds(stage) for _ in range(5)])[2]
            assert 0.07 <= delayed < 0.25  # the handshake's first packet waits once
            helper.terminate()
            assert (await stage.said(helper))["delayed"] >= 10
            assert await connect_seconds(stage) < 0.04
            killed = stage.helper(stage.pause.pid, "degrade", "--delay", "80", "--for", "20")
            await stage.said(killed)
            assert await connect_seconds(stage) > 0.07
            killed.send_signal(signal.SIGKILL)
            await stage.ended(killed)
            assert await connect_seconds(stage) < 0.04
            mended = await stage.said(stage.helper(stage.pause.pid, "mend", "--degraded"))
            assert (mended["rule"], mended["rate"]) == (True, False)

    play(body)


@pytest.mark.privileged
@needs_root
def test_a_lossy_link_loses_about_its_share() -> None:
    async def body(stage: Scene) -> None:
        with (
            stage.world.namespaces["node-1"].socket(kind=socket.SOCK_DGRAM) as ear,
            stage.world.namespaces["app"].socket(kind=socket.SOCK_DGRAM) as mouth,
        ):
            gateway = (stage.world.network.gateway("node-1"), 7001)
            ear.bind(gateway)
            ear.setblocking(False)
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            helper = stage.helper(stage.pause.pid, "degrade", "--loss", "0.3", "--for", "20")
            await stage.said(helper)
            for _ in range(1000):
                try:
                    mouth.sendto(b"x", gateway)
                except PermissionError:  # what the output hook drops is an error to a datagram's sender
                    continue
            await asyncio.sleep(0.05)
            heard = 0
            while True:
                try:
                    ear.recv(10)
                except BlockingIOError:
                    break
                heard += 1
            assert 600 <= heard <= 800  # 700 expected, standard deviation 14.5
            helper.terminate()
            assert (await stage.said(helper))["dropped"] == 1000 - heard

    play(body)


@pytest.mark.privileged
@needs_root
def test_a_slow_link_takes_its_time_and_is_quick_afterwards() -> None:
    async def body(stage: Scene) -> None:
        async def upload() -> float:
            got = asyncio.Event()

            async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(-1)
                writer.close()
                got.set()

            listener = stage.world.namespaces["node-1"].socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((stage.world.network.gateway("node-1"), 7002))
            async with await asyncio.start_server(sink, sock=listener):
                with stage.world.namespaces["app"].socket() as client:
                    client.setblocking(False)
                    loop = asyncio.get_running_loop()
                    began = time.monotonic()
                    await loop.sock_connect(client, (stage.world.network.gateway("node-1"), 7002))
                    await loop.sock_sendall(client, bytes(250_000))
                await asyncio.wait_for(got.wait(), 10)
                return time.monotonic() - began

        assert await upload() < 0.3
        helper = stage.helper(stage.pause.pid, "degrade", "--rate", "2000", "--for", "20")
        await stage.said(helper)
        assert 0.8 <= await upload() < 3  # 2 megabits at 2 megabits a second
        helper.terminate()
        await stage.said(helper)
        assert await upload() < 0.3

    play(body)


def test_the_helper_imports_little() -> None:
    code = "import sys, chaos.inpod.network_helper; print(*sorted(sys.modules))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"kubernetes", "numpy", "urllib3", "asyncio"} & set(names)
    assert Path(sandboxes.__file__).exists()
