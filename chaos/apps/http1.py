"""HTTP/1.1 on the server's side: one small protocol, because the reference apps must cost less than what is measured.

A request takes 4.5 us of CPU here and 73 with h11 (`benchmarks/parsers.py`), of a budget that the proxies share.
A connection that opens with HTTP/2's preface is handed to `chaos.apps.http2`. Requests of one connection are answered
in their order. Bodies come with a content-length or chunked (a proxy may pass either on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from chaos.apps.service import Filling
from chaos.apps.wire import BadMessage, cut_chunked, header

if TYPE_CHECKING:
    from chaos.apps.service import Answer, AppPort

_MAX_HEAD: Final = 65536
_PIECE: Final = 262_144  # bytes of a filling that are made at a time
_REASONS: Final = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}


class Http1(asyncio.Protocol):
    """One connection. `upgrade` makes the protocol that takes over after HTTP/2's preface; None refuses HTTP/2."""

    __slots__ = ("buffer", "busy", "filling", "looping", "paused", "service", "transport", "upgrade")

    def __init__(self, service: AppPort, upgrade: Callable[[], asyncio.Protocol] | None = None) -> None:
        self.service = service
        self.upgrade = upgrade
        self.buffer = b""
        self.busy = False  # a request is being answered: the next waits in the buffer
        self.looping = False  # inside `_next`, which goes on by itself
        self.filling: Filling | None = None  # of the answer's body, what is still to be sent
        self.paused = False  # the peer does not keep up
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.service.connections.add(self)
        self.service.counters["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if not self.busy:
            self._next()

    def drain(self) -> None:
        """Close as soon as nothing is under way."""
        if not self.busy:
            self.transport.close()

    def _next(self) -> None:
        self.looping = True
        try:
            self._loop()
        finally:
            self.looping = False

    def _loop(self) -> None:
        buffer = self.buffer
        while buffer and not self.busy and not self.transport.is_closing():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > _MAX_HEAD:
                    self.transport.close()
                break
            if buffer.startswith(b"PRI * HTTP/2"):
                self._hand_over()
                return
            try:
                size = self._take(buffer, end)
            except BadMessage:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                self.transport.close()
                return
            if size == 0:
                break
            buffer = self.buffer = buffer[size:]
        self.buffer = buffer

    def _take(self, buffer: bytes, end: int) -> int:
        """Take one request off the front of the buffer and answer it; return its size, 0 while it is incomplete."""
        head = buffer[:end]
        body, size = b"", end + 4
        if head[:4] != b"GET " or b"content-length" in head:
            if b"chunked" in header(head, b"transfer-encoding").lower():
                cut = cut_chunked(buffer, size)
                if cut is None:
                    return 0
                body, size = cut
            else:
                text = header(head, b"content-length") or b"0"
                if not text.isdigit():
                    raise BadMessage("bad content-length")
                size += int(text)
                if len(buffer) < size:
                    return 0
                body = buffer[end + 4 : size]
        first = head.split(b"\r\n", 1)[0].split(b" ")
        if len(first) != 3 or not first[2].startswith(b"HTTP/1."):
            raise BadMessage("bad request line")
        self.busy = True
        self.service.treat(first[0], first[1], head, body, self)
        return size

    def answer(self, answer: Answer | None) -> None:
        """Write the answer (None: drop the connection) and continue with the next request."""
        self.busy = False
        if self.transport.is_closing():
            return
        if answer is None:
            self.transport.abort()
            return
        status, extra, body = answer
        closing = self.service.draining
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (
                status,
                _REASONS.get(status, b"Status"),
                len(body),
                extra,
                b"connection: close\r\n" if closing else b"",
                body if isinstance(body, bytes) else b"",
            )
        )
        if isinstance(body, bytes):
            self._answered(closing=closing)
        else:
            self.busy, self.filling = True, body
            self._fill()

    def _answered(self, *, closing: bool) -> None:
        if closing:
            self.transport.close()
        elif self.buffer and not self.looping:
            asyncio.get_running_loop().call_soon(self._resume)

    def _fill(self) -> None:
        """Send one piece of the body, and the next when the peer keeps up."""
        left = self.filling
        if left is None or self.paused or self.transport.is_closing():
            return
        self.transport.write(bytes(left[:_PIECE]))
        self.filling = left[_PIECE:] if len(left) > _PIECE else None
        if self.filling is not None:
            asyncio.get_running_loop().call_soon(self._fill)
        else:
            self.busy = False
            self._answered(closing=self.service.draining)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._fill()

    def _resume(self) -> None:
        if not self.busy:
            self._next()

    def _hand_over(self) -> None:
        if self.upgrade is None:
            self.transport.close()
            return
        protocol = self.upgrade()
        self.service.connections.discard(self)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(self.buffer)
        self.buffer = b""
