"""Limits of connections to the API server: their number, their idle time, the memory that they hold together.

Anybody who reaches the port may connect, so a connection is cheap until its first request: handshake and first request
have time limits, and beyond a number connections are closed before their handshake. Bodies and answers together hold a
bounded amount of memory.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from socket import socket
from typing import Any, Final, NoReturn

from aiohttp import web

from chaos.embedded.api.errors import StatusError

CIPHERTEXT: Final = 1 << 15  # bytes that TLS reads at once, and holds for each connection (asyncio's own: 256 KiB)
RETRY_AFTER: Final = 1  # seconds


def abort(transport: asyncio.BaseTransport) -> None:
    """Abort a connection.

    A TLS transport that was closed twice has let go of its connection; some releases of CPython 3.11 raise then.
    """
    with contextlib.suppress(AttributeError):
        transport.abort()  # type: ignore[attr-defined]


class NoAnswer(web.StreamResponse):
    """The response to a connection that ended in the middle: aiohttp closes it, and logs no trace of it."""

    async def prepare(self, request: web.BaseRequest) -> NoReturn:
        raise ConnectionResetError("the connection has ended")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one server.

    Attributes:
        connections: at once; further ones are closed unread.
        handshake, first_request: seconds for each.
        idle: seconds between requests.
        held: bytes of bodies and of large answers at once; what would exceed them is answered 429.
    """

    connections: int = 1000
    handshake: float = 10.0
    first_request: float = 20.0
    idle: float = 600.0
    held: int = 96 << 20


class Held:
    """The bytes that all requests hold together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.now = 0

    def take(self, size: int) -> None:
        """Reserve bytes; raises StatusError 429 when there is no room, unless nothing is held."""
        if self.now and self.now + size > self._most:
            raise StatusError(
                429,
                "the bodies of other requests fill the server's memory limit, please try again later",
                retry_after=RETRY_AFTER,
            )
        self.now += size

    def give(self, size: int) -> None:
        self.now -= size

    @contextlib.asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        self.take(size)
        try:
            yield
        finally:
            self.give(size)


class Connections:
    """Accepts connections for one aiohttp server until `stop`."""

    def __init__(self, server: web.Server, context: ssl.SSLContext, limits: ConnectionLimits) -> None:
        self._server, self._context, self._limits = server, context, limits
        self._tasks: list[asyncio.Task[None]] = []
        self._shaking: set[asyncio.Task[None]] = set()
        self._first_seen: dict[Any, float] = {}
        self._used: set[Any] = set()
        self._sockets: list[socket] = []
        asyncio.sslproto.SSLProtocol.max_size = CIPHERTEXT

    def start(self, sockets: list[socket]) -> None:
        self._sockets = sockets
        for one in sockets:
            one.setblocking(False)
            self._tasks.append(asyncio.create_task(self._accept(one)))
        self._tasks.append(asyncio.create_task(self._sweep()))

    async def stop(self) -> None:
        for task in (*self._tasks, *self._shaking):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._shaking, return_exceptions=True)
        for one in self._sockets:
            one.close()

    def used(self, request: web.BaseRequest) -> None:
        """Note a connection's first request; it may be idle for long from now on."""
        self._used.add(request.protocol)

    async def _accept(self, listening: socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError:  # out of descriptors: the next one may find some
                await asyncio.sleep(0.05)
                continue
            if len(self._server.connections) + len(self._shaking) >= self._limits.connections:
                connection.close()
                continue
            task = asyncio.create_task(self._shake(connection))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, connection: socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake,
                ssl_shutdown_timeout=self._limits.handshake,
            )
        except (OSError, TimeoutError):  # ssl.SSLError is one: a stranger's business
            connection.close()
        except BaseException:
            connection.close()
            raise

    async def _sweep(self) -> None:
        """Close connections without a request in time."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.first_request / 4)
            now, there = loop.time(), self._server.connections
            self._used &= set(there)
            self._first_seen = {one: self._first_seen.get(one, now) for one in there}
            for one, since in self._first_seen.items():
                if one not in self._used and now - since >= self._limits.first_request and one.transport is not None:
                    abort(one.transport)
