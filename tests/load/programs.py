"""Real servers and loaders as processes on loopback."""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from chaos.control_key import HEADER, VARIABLE, ControlKey

KEY = ControlKey.new()


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = itertools.cycle(random.sample(range(12_000 + _WORKER % 10 * 2000, 14_000 + _WORKER % 10 * 2000), 2000))


def free_port() -> int:
    """A port that nobody has, below those that the kernel gives to whoever connects or listens anywhere: between this
    and the program's start nobody takes it.
    """
    for port in itertools.islice(_PORTS, 2000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


@contextmanager
def accepting(treat: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accepts, and treats each connection so in a thread of its own; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        def run() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=treat, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def fetch(port: int, path: str, body: bytes | None = None, timeout: float = 10.0) -> bytes:
    """With the token of the programs here."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {HEADER: KEY.token("tenant-a")})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return bytes(answer.read())


def eventually(what: Callable[[], Any], *, seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not so within {seconds:g} s: {what}"
        time.sleep(0.02)


def reachable(port: int) -> bool:
    try:
        return bool(fetch(port, "/healthz"))
    except OSError:
        return False


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    http: int
    tcp: int
    control: int

    def misbehaviour(self, **values: Any) -> None:
        fetch(self.control, "/misbehave", json.dumps(values).encode())

    def stats(self) -> dict[str, Any]:
        return dict(json.loads(fetch(self.control, "/stats")))


@dataclass
class Loader:
    process: subprocess.Popen[bytes]
    control: int
    flows: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        return fetch(self.control, path, body)

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("/state")))

    def flow(self, name: str) -> dict[str, Any]:
        return next(one for one in self.state()["flows"] if one["name"] == name)

    def set(self, *flows: dict[str, Any]) -> None:
        self.ask("/flows", json.dumps(list(flows)).encode())


class Programs:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def _start(self, module: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, "LISTEN": "127.0.0.1", VARIABLE: KEY.digest("tenant-a"), **environment},
        )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        return process

    def server(self, name: str = "server-1", *, ports: tuple[int, int, int] | None = None) -> Server:
        http, tcp, control = ports or (free_port(), free_port(), free_port())
        process = self._start(
            "chaos.apps.server",
            {"POD_NAME": name, "HTTP_PORT": str(http), "TCP_PORT": str(tcp), "CONTROL_PORT": str(control)},
        )
        eventually(lambda: reachable(control))
        return Server(process, http, tcp, control)

    def loader(self, *flows: dict[str, Any], port: int | None = None) -> Loader:
        control = port or free_port()
        process = self._start(
            "chaos.load.agent",
            {
                "POD_NAME": "client-1",
                "POD_NAMESPACE": "tenant-a",
                "CONTROL_PORT": str(control),
                "LOADER_FLOWS": json.dumps(list(flows)),
            },
        )
        eventually(lambda: reachable(control))
        return Loader(process, control, list(flows))


@pytest.fixture
def programs() -> Iterator[Programs]:
    with ExitStack() as stack:
        yield Programs(stack)


def flow_to(port: int, name: str = "http", **more: Any) -> dict[str, Any]:
    return {"name": name, "server": "tenant-a/server", "target": f"127.0.0.1:{port}", "rate": 100, **more}
