"""HTTP/2 with prior knowledge, and gRPC on it: a unary echo on any method name.

gRPC's answer is its request's message unchanged with `grpc-status: 0`; a reference app needs no protobuf for that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError, StreamClosedError

if TYPE_CHECKING:
    from chaos.apps.service import Answer, AppPort, Filling

_GRPC_STATUS = {400: b"3", 404: b"12", 500: b"13", 503: b"14"}


class Http2(asyncio.Protocol):
    """One connection with its streams."""

    def __init__(self, service: AppPort) -> None:
        self.service = service
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.streams: dict[int, Http2Stream] = {}
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.service.connections.add(self)
        self.service.counters["http2-connections"] += 1
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.connections.discard(self)
        self.streams.clear()

    def drain(self) -> None:
        """Send GOAWAY, and close once the streams under way have ended."""
        if self.transport.is_closing():
            return
        self.h2.close_connection()
        self.flush()
        if not self.streams:
            self.transport.close()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError:
            self.flush()
            self.transport.close()
            return
        for event in events:
            self._process(event)
        self.flush()

    def _process(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.streams[event.stream_id] = Http2Stream(self, event.stream_id, event.headers)
        elif isinstance(event, DataReceived):
            if stream := self.streams.get(event.stream_id):
                stream.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            if stream := self.streams.get(event.stream_id):
                stream.begin()
        elif isinstance(event, StreamReset):
            self.streams.pop(event.stream_id, None)
        elif isinstance(event, WindowUpdated):
            for stream in list(self.streams.values()):
                stream.push()
        elif isinstance(event, ConnectionTerminated):
            self.transport.close()

    def end(self, stream: Http2Stream) -> None:
        self.streams.pop(stream.id, None)
        if self.service.draining and not self.streams:
            self.flush()
            self.transport.close()


class Http2Stream:
    """One request and its answer, within the peer's flow-control window."""

    __slots__ = ("body", "connection", "grpc", "head", "id", "method", "path", "rest", "sent_headers", "trailers")

    def __init__(self, connection: Http2, stream_id: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.connection = connection
        self.id = stream_id
        fields = dict(headers)
        self.method, self.path = fields.get(b":method", b"GET"), fields.get(b":path", b"/")
        self.grpc = fields.get(b"content-type", b"").startswith(b"application/grpc")
        self.head = b"".join(b"\r\n%b: %b" % (name, value) for name, value in headers if name[:1] != b":")
        self.body = bytearray()
        self.rest: memoryview | Filling = memoryview(b"")
        self.trailers: list[tuple[bytes, bytes]] = []
        self.sent_headers = False

    def begin(self) -> None:
        path = b"/" if self.grpc else self.path
        self.connection.service.treat(self.method, path, self.head, bytes(self.body), self)

    def answer(self, answer: Answer | None) -> None:
        connection = self.connection
        if connection.transport.is_closing() or self.id not in connection.streams:
            return
        try:
            if answer is None:
                connection.h2.reset_stream(self.id, ErrorCodes.INTERNAL_ERROR)
                connection.flush()
                connection.end(self)
                return
            status, extra, body = answer
            lines = [line.split(b": ", 1) for line in extra.split(b"\r\n") if line]
            headers = [(b":status", b"200" if self.grpc else b"%d" % status), *((name, value) for name, value in lines)]
            if self.grpc:
                headers.append((b"content-type", b"application/grpc"))
                self.trailers = [(b"grpc-status", b"0" if status == 200 else _GRPC_STATUS.get(status, b"2"))]
                body = body if status == 200 else b""
            else:
                headers.append((b"content-length", b"%d" % len(body)))
            self.rest = memoryview(body) if isinstance(body, bytes) else body
            connection.h2.send_headers(self.id, headers, end_stream=not body and not self.trailers)
            self.sent_headers = True
            if not body and not self.trailers:
                connection.flush()
                connection.end(self)
                return
            self.push()
            connection.flush()
        except (ProtocolError, StreamClosedError):
            connection.end(self)

    def push(self) -> None:
        """Send what the window allows."""
        h2 = self.connection.h2
        if not self.sent_headers:
            return
        try:
            while self.rest:
                size = min(len(self.rest), h2.local_flow_control_window(self.id), h2.max_outbound_frame_size)
                if size <= 0:
                    return
                chunk, self.rest = self.rest[:size], self.rest[size:]
                h2.send_data(self.id, bytes(chunk), end_stream=not self.rest and not self.trailers)
            if self.trailers:
                h2.send_headers(self.id, self.trailers, end_stream=True)
        except (ProtocolError, StreamClosedError):
            pass  # the peer reset the stream meanwhile
        self.connection.end(self)
