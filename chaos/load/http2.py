"""HTTP/2 with prior knowledge, and gRPC on it, on the client's side (framing and flow control by `h2`)."""

from __future__ import annotations

from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from chaos.history.words import NO_POD, Cause, Flag, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.outcomes import says_retried, unexpected_status
from chaos.load.shared_connection import SharedConnection, SharedTransport
from chaos.load.sockets import Address, Resolver
from chaos.load.spec import Protocol

Headers = list[tuple[bytes, bytes]]

_WINDOW: Final = 4 * 1024 * 1024
_GRPC_PATH: Final = "/sharedfate.Echo/Unary"
_KEPT_OF_ERROR: Final = 2048


class PartialAnswer:
    """An answer as far as it has arrived."""

    __slots__ = ("body", "headers", "size")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}  # with the trailers'
        self.body = b""  # its beginning
        self.size = 0


class Http2Transport(SharedTransport):
    """Connections with concurrent streams."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        super().__init__(engine, resolver)
        spec = engine.spec
        self.grpc = spec.protocol is Protocol.GRPC
        payload = b"b" * spec.body_bytes
        self.body = b"\0" + len(payload).to_bytes(4, "big") + payload if self.grpc else payload
        path = f"/bytes/{spec.answer_bytes}" if spec.answer_bytes else spec.path
        if self.grpc and path == "/":
            path = _GRPC_PATH
        fields = [
            (":method", "POST" if self.grpc else spec.method),
            (":scheme", "http"),
            (":authority", spec.host if spec.port == 80 else spec.target),
            (":path", path),
        ]
        if self.grpc:
            fields += [("content-type", "application/grpc"), ("te", "trailers")]
        elif payload:
            fields.append(("content-length", str(len(payload))))
        fields += list(spec.headers.items())
        self.headers: Headers = [(name.lower().encode(), value.encode()) for name, value in fields]
        self.answer_size = len(self.body) if self.grpc else spec.answer_bytes or len(payload)

    def make(self, slot: int, address: Address) -> SharedConnection:
        return Http2Connection(self, slot, address)

    def judge(self, answer: PartialAnswer, request: Request) -> tuple[int, int, int]:
        """Return outcome, cause and status of a whole answer."""
        fields = answer.headers
        status = int(fields.get(b":status", b"0"))
        shown, expected = status, self.engine.spec.expect_status
        text = answer.body
        if self.grpc:
            code = fields.get(b"grpc-status", b"")
            if status == 200 and code.isdigit():
                shown, expected = int(code), 0
                text = fields.get(b"grpc-message", b"")
        if shown != expected:
            if says_retried(text):
                request.flags |= int(Flag.RETRIED)
            head = b"".join(b"\r\n%b: %b" % pair for pair in fields.items())
            outcome, cause = unexpected_status(head, text, retried=bool(request.flags & Flag.RETRIED))
            self.engine.counters.hear(head, text)
            return int(outcome), int(cause), shown
        named = (
            self.engine.spec.echoes and b"x-pod" in fields
        )  # one that names no pod is none of ours, and answers with what it likes
        known = named or bool(self.engine.spec.answer_bytes)
        crossed = named and fields.get(b"x-seq") != b"%d" % request.sequence
        if crossed or (known and answer.size != self.answer_size):
            return int(Outcome.UNKNOWN), int(Cause.WRONG_BODY), shown
        return int(Outcome.OK), 0, shown


class Http2Connection(SharedConnection):
    """One connection."""

    __slots__ = ("_answers", "_going", "_h2", "_rests", "_transport")

    def __init__(self, transport: Http2Transport, slot: int, address: Address) -> None:
        self._transport = transport
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._answers: dict[int, PartialAnswer] = {}
        self._rests: dict[int, memoryview] = {}  # of bodies that wait for the peer's window
        self._going = False  # the peer said GOAWAY
        super().__init__(transport, slot, address)

    @property
    def full(self) -> bool:
        return self._going

    def greet(self) -> None:
        wanted = {SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.ENABLE_PUSH: 0}
        self._h2.local_settings = Settings(client=True, initial_values=wanted)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._flush_h2()

    def write(self, request: Request) -> None:
        transport, h2 = self._transport, self._h2
        try:
            stream = h2.get_next_available_stream_id()
            h2.send_headers(
                stream, [*transport.headers, (b"x-seq", b"%d" % request.sequence)], end_stream=not transport.body
            )
        except ProtocolError:  # too many streams for the peer, or it is going: nothing was sent
            request.sent = 0
            transport.engine.end(request, int(Outcome.FAILED), int(Cause.SHED))
            return
        self.awaiting[stream] = request
        self._answers[stream] = PartialAnswer()
        if transport.body:
            self._rests[stream] = memoryview(transport.body)
            self._push(stream)
        self._flush_h2()

    def gone(self, request: Request, number: int) -> None:
        self._forget(number)
        try:
            self._h2.reset_stream(number, ErrorCodes.CANCEL)
        except ProtocolError:
            return  # closed from the other side meanwhile
        self._flush_h2()

    def readable(self) -> None:
        data = self.receive(262_144)
        if not data:
            return
        self.heard = self.transport.engine.clock()
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._lose()
            return
        for event in events:
            self._process(event)
            if self.closed:
                return
        self._flush_h2()

    def _process(self, event: Any) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            if answer := self._answers.get(event.stream_id):
                answer.headers.update(event.headers)
        elif isinstance(event, DataReceived):
            if answer := self._answers.get(event.stream_id):
                answer.size += len(event.data)
                if len(answer.body) < _KEPT_OF_ERROR:
                    answer.body += event.data[:_KEPT_OF_ERROR]
            if event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._finish(event.stream_id)
        elif isinstance(event, StreamReset):
            unseen = event.error_code == ErrorCodes.REFUSED_STREAM
            self._unanswered(event.stream_id, Outcome.FAILED if unseen else Outcome.UNKNOWN)
        elif isinstance(event, WindowUpdated):
            for stream in list(self._rests):
                self._push(stream)
        elif isinstance(event, ConnectionTerminated):
            self._going = True
            last = event.last_stream_id if event.last_stream_id is not None else 0
            for stream in [stream for stream in self.awaiting if stream > last]:
                self._unanswered(stream, Outcome.FAILED)  # RFC 9113, 6.8: not processed, and never will be

    def _finish(self, stream: int) -> None:
        answer, request = self._answers.get(stream), self.awaiting.pop(stream, None)
        self._forget(stream)
        if answer is None or request is None or not request.open:
            return
        fields, engine = answer.headers, self.transport.engine
        if fields.get(b"x-envoy-attempt-count", b"1") != b"1":
            request.flags |= int(Flag.RETRIED)
        pod = fields.get(b"x-pod") if engine.spec.echoes else None
        outcome, cause, status = self._transport.judge(answer, request)
        engine.end(request, outcome, cause, status, NO_POD if pod is None else engine.server(pod))
        self.ended()

    def _unanswered(self, stream: int, outcome: Outcome) -> None:
        request = self.awaiting.pop(stream, None)
        self._forget(stream)
        if request is not None and request.open:
            self.transport.engine.end(request, int(outcome), int(Cause.RESET))

    def _forget(self, stream: int) -> None:
        self._answers.pop(stream, None)
        self._rests.pop(stream, None)

    def _push(self, stream: int) -> None:
        """Send as much of a body as the peer's window allows."""
        h2, rest = self._h2, self._rests.get(stream)
        try:
            while rest:
                size = min(len(rest), h2.local_flow_control_window(stream), h2.max_outbound_frame_size)
                if size <= 0:
                    self._rests[stream] = rest
                    return
                chunk, rest = rest[:size], rest[size:]
                h2.send_data(stream, bytes(chunk), end_stream=not rest)
        except ProtocolError:
            pass  # the peer reset the stream; its event says so
        self._rests.pop(stream, None)

    def _flush_h2(self) -> None:
        if not self.closed and (data := self._h2.data_to_send()):
            self.send(data)
