"""HTTP/1.1 on the client's side, with as little parsing as a correct answer needs."""

from __future__ import annotations

from time import monotonic_ns
from typing import Final

from chaos.apps.wire import BadMessage, cut_chunked, header
from chaos.history.words import NO_POD, Cause, Flag, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.exclusive_connection import ExclusiveConnection, ExclusiveTransport
from chaos.load.outcomes import says_retried, unexpected_status
from chaos.load.reactor import READ
from chaos.load.sockets import Address, Resolver
from chaos.load.spec import FlowSpec

_OK: Final = int(Outcome.OK)
_RETRIED: Final = int(Flag.RETRIED)
_SLOW_TICK: Final = 50_000_000  # ns between a slow reader's reads
_KEPT_OF_ERROR: Final = 2048  # bytes of an unexpected answer's body that are looked at


def request_parts(spec: FlowSpec) -> tuple[bytes, bytes]:
    """Return the bytes before and after a request's sequence number."""
    path = f"/bytes/{spec.answer_bytes}" if spec.answer_bytes else spec.path
    lines = [f"{spec.method} {path} HTTP/1.1", f"host: {spec.host if spec.port == 80 else spec.target}"]
    lines += [f"{name}: {value}" for name, value in spec.headers.items()]
    if spec.body_bytes or spec.method not in ("GET", "HEAD"):
        lines.append(f"content-length: {spec.body_bytes}")
    if spec.new_connections:
        lines.append("connection: close")
    return "\r\n".join([*lines, "x-seq: "]).encode(), b"\r\n\r\n" + b"b" * spec.body_bytes


class Http1Transport(ExclusiveTransport):
    """A flow's connections."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        super().__init__(engine, resolver)
        spec = engine.spec
        self.before, self.after = request_parts(spec)
        self.asked = bool(spec.answer_bytes)
        self.echoes = spec.echoes
        self.bodiless = spec.method == "HEAD"  # its answers have the length of a body, and none
        self.body_size = spec.answer_bytes or spec.body_bytes
        self.expect = b"%d" % spec.expect_status

    def make(self, address: Address, request: Request) -> ExclusiveConnection:
        return Http1Connection(self, address, request)


class Http1Connection(ExclusiveConnection):
    """One connection and the request that is on it."""

    __slots__ = ("_body", "_buffer", "_head", "_need", "_size", "_slow", "_to_end", "_transport")

    def __init__(self, transport: Http1Transport, address: Address, request: Request) -> None:
        self._transport = transport
        self._buffer = b""
        self._head = b""  # of an answer whose body is still coming
        self._size = 0  # of the whole body
        self._need = 0  # bytes of it that are still to come
        self._body = b""  # its beginning
        self._to_end = False  # it ends with the connection
        self._slow = transport.engine.spec.slow_reader
        super().__init__(transport, address, request, receive_buffer=16384 if self._slow else 0)

    @property
    def reading_mask(self) -> int:
        return 0 if self._slow else READ

    def begin(self, request: Request) -> None:
        request.connection = self
        self.request = request
        transport = self._transport
        request.sent = monotonic_ns()
        if self.send(b"%b%d%b" % (transport.before, request.sequence, transport.after)) and self._slow:
            self._timer = self.reactor.at(request.sent + _SLOW_TICK, self._read_slowly)

    def lost(self) -> None:
        request = self.request
        if request is not None and self._to_end and not self.reset:
            self._finish(request, self._head, self._body, whole=True, size=self._size)
        else:
            super().lost()

    def _read_slowly(self) -> None:
        self._timer = None
        data = self.receive(max(1, int(self._slow * _SLOW_TICK / 1e9)))
        if data:
            self._take(data)
        if not self.closed and self.request is not None and self._timer is None:
            self._timer = self.reactor.at(monotonic_ns() + _SLOW_TICK, self._read_slowly)

    def readable(self) -> None:
        data = self.receive()
        if data:
            self._take(data)

    def _take(self, data: bytes) -> None:
        request, transport = self.request, self._transport
        if request is None:  # bytes that nobody asked for
            self.drop()
            return
        if self._head:  # the body of an answer whose head is known
            if len(self._body) < _KEPT_OF_ERROR:
                self._body += data[:_KEPT_OF_ERROR]
            if self._to_end:
                self._size += len(data)
                return
            self._need -= len(data)
            if self._need <= 0:
                self._finish(request, self._head, self._body, whole=self._need == 0, size=self._size)
            return
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return
        status = data[9:12]
        if status[:1] == b"1" and status != b"101":  # interim: the answer itself follows (RFC 9110, 15.2)
            self._buffer = b""
            if rest := data[end + 4 :]:
                self._take(rest)
            return
        if transport.bodiless or status in (b"101", b"204", b"304"):
            self._buffer = b""
            self._finish(request, data[:end], b"", whole=len(data) == end + 4, size=0)
            return
        at = data.find(b"\r\ncontent-length: ", 0, end)
        if at < 0:
            self._unusual(request, data, end)
            return
        try:
            size = int(data[at + 18 : data.find(b"\r\n", at + 18)])
        except ValueError:
            self._finish(request, data[:end], b"", whole=False, size=0)
            return
        missing = size - (len(data) - end - 4)
        self._buffer = b""
        if missing > 0:
            self._head, self._need, self._size = data[:end], missing, size
            self._body = data[end + 4 : end + 4 + _KEPT_OF_ERROR]
        else:
            self._finish(request, data[:end], data[end + 4 :], whole=missing == 0, size=size)

    def _unusual(self, request: Request, data: bytes, end: int) -> None:
        """Handle an answer without a plain content-length."""
        head = data[:end]
        length = header(head, b"content-length")
        if length.isdigit():
            self._take(
                head.lower().replace(b"\r\ncontent-length:", b"\r\nx-given-length:")
                + b"\r\ncontent-length: "
                + length
                + data[end:]
            )
        elif b"chunked" in header(head, b"transfer-encoding").lower():
            try:
                cut = cut_chunked(data, end + 4)
            except BadMessage:
                self._finish(request, head, b"", whole=False, size=0)
                return
            if cut is None:
                self._buffer = data
            else:
                self._buffer = b""
                self._finish(request, head, cut[0], whole=cut[1] == len(data), size=len(cut[0]))
        else:  # the body ends where the connection does (RFC 9112, 6.3)
            self._buffer = b""
            self._head, self._body, self._to_end = head, data[end + 4 : end + 4 + _KEPT_OF_ERROR], True
            self._size = len(data) - end - 4

    def _finish(self, request: Request, head: bytes, body: bytes, *, whole: bool, size: int) -> None:
        transport = self._transport
        at = head.find(b"\r\nx-pod: ") if transport.echoes else -1
        if at < 0:
            server = NO_POD
        else:
            stop = head.find(b"\r\n", at + 9)
            server = transport.engine.server(head[at + 9 : stop] if stop > 0 else head[at + 9 :])
        attempts = head.find(b"\r\nx-envoy-attempt-count: ")
        if attempts >= 0 and head[attempts + 25 : attempts + 26] != b"1":
            request.flags |= _RETRIED
        text = head[9:12]
        if text != transport.expect and says_retried(body):
            request.flags |= _RETRIED
        outcome, cause = _OK, 0
        if text != transport.expect:
            verdict = unexpected_status(head, body[:_KEPT_OF_ERROR], retried=bool(request.flags & _RETRIED))
            outcome, cause = int(verdict[0]), int(verdict[1])
            transport.engine.counters.hear(head, body[:_KEPT_OF_ERROR])
        elif (
            not whole
            or (server != NO_POD and not self._answers(head, request))
            # The answer's size is known of a reference app, and where one was asked for so many bytes: an application
            # that names no pod answers with what it likes.
            or ((server != NO_POD or transport.asked) and size != transport.body_size and text == b"200")
        ):
            outcome, cause = int(Outcome.UNKNOWN), int(Cause.WRONG_BODY)
        self._head, self._body, self._need = b"", b"", 0
        self.free(reusable=whole and not self.closed and not _closes(head))
        transport.engine.end(request, outcome, cause, int(text) if text.isdigit() else 0, server)

    def _answers(self, head: bytes, request: Request) -> bool:
        """Whether the answer belongs to this request: the server returns the sequence number."""
        return (head + b"\r\n").find(b"\r\nx-seq: %d\r\n" % request.sequence) >= 0


def _closes(head: bytes) -> bool:
    """Whether the server closes the connection after this answer: it says so, or does not say otherwise in HTTP/1.0."""
    said = header(head, b"connection").lower()
    return b"close" in said or (head.startswith(b"HTTP/1.0") and b"keep-alive" not in said)
