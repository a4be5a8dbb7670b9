"""HTTP/1.1 on the client's side: one request at a time on each connection, with as little parsing as a correct answer
needs.

The first requests open a connection each, until there are as many as the flow keeps: where connections are balanced,
not requests, one alone would go to one server. From then on each due request takes the connection that was idle
longest, or opens another at once: an answer that does not come never holds the next request back. After a reset the
next due request reconnects at once.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import Final

from chaos.apps.wire import BadMessage, cut_chunked, header
from chaos.history.words import NO_POD, Cause, Flag, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.outcomes import connecting_failed, says_retried, unexpected_status
from chaos.load.reactor import READ
from chaos.load.sockets import Address, Resolver, Socket
from chaos.load.spec import FlowSpec

_OK: Final = int(Outcome.OK)
_NEW: Final = int(Flag.NEW_CONNECTION)
_RETRIED: Final = int(Flag.RETRIED)
_SLOW_TICK: Final = 50_000_000  # ns between a slow reader's reads
_SURPLUS: Final = (
    1_000_000_000  # ns without need of another connection, after which those beyond `connections` are closed
)
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


class Http1Transport:
    """A flow's connections."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        self.engine = engine
        self.resolver = resolver
        spec = engine.spec
        self.before, self.after = request_parts(spec)
        self.asked = bool(spec.answer_bytes)
        self.body_size = spec.answer_bytes or spec.body_bytes
        self.expect = b"%d" % spec.expect_status
        self.idle: deque[Http1Connection] = deque()
        self.all: set[Http1Connection] = set()
        self.address: Address | None = None
        self.opened = 0  # when the last connection was
        self._unaddressed: deque[Request] = deque()

    def submit(self, request: Request) -> None:
        idle = self.idle
        if idle and len(self.all) >= self.engine.spec.connections:
            idle.popleft().begin(request)
            return
        if self.address is None:
            spec = self.engine.spec
            self.address = self.resolver.find(spec.host, spec.port, self._addressed)
            if self.address is None:
                request.connection = self
                self._unaddressed.append(request)
                return
        self.open(request)

    def open(self, request: Request) -> None:
        assert self.address is not None
        self.engine.counters.opened += 1
        self.opened = monotonic_ns()
        request.flags |= _NEW
        self.all.add(Http1Connection(self, self.address, request))

    def expired(self, request: Request) -> Cause:
        return Cause.DNS  # its name was never found

    def _addressed(self, address: Address) -> None:
        self.address = address
        while self._unaddressed:
            request = self._unaddressed.popleft()
            if request.open:
                self.open(request)

    def unreachable(self) -> None:
        """Handle a failed connect: the name may have another address by now."""
        self.address = None
        self.resolver.refresh()

    def close(self) -> None:
        for exchange in list(self.all):
            exchange.drop()


class Http1Connection(Socket):
    """One connection and the request that is on it."""

    __slots__ = ("_body", "_buffer", "_head", "_need", "_size", "_slow", "request", "transport")

    def __init__(self, transport: Http1Transport, address: Address, request: Request) -> None:
        self.transport = transport
        self.request: Request | None = request
        request.connection = self
        self._buffer = b""
        self._head = b""  # of an answer whose body is still coming
        self._size = 0  # of the whole body
        self._need = 0  # bytes of it that are still to come
        self._body = b""  # its beginning
        spec = transport.engine.spec
        self._slow = spec.slow_reader
        super().__init__(transport.engine.reactor, address, receive_buffer=16384 if spec.slow_reader else 0)

    @property
    def reading_mask(self) -> int:
        return 0 if self._slow else READ

    def begin(self, request: Request) -> None:
        request.connection = self
        self.request = request
        transport = self.transport
        request.sent = monotonic_ns()
        if self.send(b"%b%d%b" % (transport.before, request.sequence, transport.after)) and self._slow:
            self._timer = self.reactor.at(request.sent + _SLOW_TICK, self._read_slowly)

    def connected(self) -> None:
        request = self.request
        if request is None or not request.open:
            self.drop()
            return
        self.begin(request)

    def refused(self, code: int) -> None:
        self.transport.all.discard(self)
        self.transport.unreachable()
        request, self.request = self.request, None
        if request is not None and request.open:
            outcome, cause = connecting_failed(code)
            self.transport.engine.end(request, int(outcome), int(cause))

    def lost(self) -> None:
        transport, request = self.transport, self.request
        transport.all.discard(self)
        self.request = None
        if request is None:
            transport.idle.remove(self)
        elif request.open:
            transport.engine.end(request, int(Outcome.UNKNOWN), int(Cause.RESET))

    def expired(self, request: Request) -> Cause:
        self.request = None
        connecting = self.connecting
        self.drop()
        return Cause.CONNECT_TIMEOUT if connecting else Cause.TIMEOUT

    def drop(self) -> None:
        """Close without a fault of the other side."""
        transport = self.transport
        transport.all.discard(self)
        if self.request is None and self in transport.idle:
            transport.idle.remove(self)
        self.close()

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
        request = self.request
        if request is None:  # bytes that nobody asked for
            self.drop()
            return
        if self._head:  # the body of an answer whose head is known
            if len(self._body) < _KEPT_OF_ERROR:
                self._body += data[:_KEPT_OF_ERROR]
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
        at = data.find(b"\r\ncontent-length: ", 0, end)
        if at < 0:
            self._unusual(request, data, end)
            return
        try:
            size = int(data[at + 18 : data.find(b"\r\n", at + 18)])
        except ValueError:
            self._finish(request, data[:end], b"", whole=False, size=0)
            return
        rest = size - (len(data) - end - 4)
        self._buffer = b""
        if rest > 0:
            self._head, self._need, self._size = data[:end], rest, size
            self._body = data[end + 4 : end + 4 + _KEPT_OF_ERROR]
        else:
            self._finish(request, data[:end], data[end + 4 :], whole=rest == 0, size=size)

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
        else:
            self._buffer = b""
            self._finish(request, head, b"", whole=data[9:10] == b"1" or data[9:12] in (b"204", b"304"), size=0)

    def _finish(self, request: Request, head: bytes, body: bytes, *, whole: bool, size: int) -> None:
        transport = self.transport
        at = head.find(b"\r\nx-pod: ")
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
        self.request = None
        if (
            not whole
            or b"onnection: close" in head
            or transport.engine.spec.new_connections
            or (
                len(transport.idle) >= transport.engine.spec.connections
                and monotonic_ns() - transport.opened > _SURPLUS
            )
        ):
            self.drop()
        else:
            transport.idle.append(self)
        transport.engine.end(request, outcome, cause, int(text) if text.isdigit() else 0, server)

    def _answers(self, head: bytes, request: Request) -> bool:
        """Whether the answer belongs to this request: the server returns the sequence number."""
        return (head + b"\r\n").find(b"\r\nx-seq: %d\r\n" % request.sequence) >= 0
