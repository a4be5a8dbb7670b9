"""Raw TCP streams with sequence numbers (frames: `chaos.apps.wire`)."""

from __future__ import annotations

from chaos.apps.wire import FRAME
from chaos.history.words import Cause, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.shared_connection import SharedConnection, SharedTransport
from chaos.load.sockets import Address, Resolver

_OK = int(Outcome.OK)


class TcpTransport(SharedTransport):
    """Streams, each with any number of frames under way."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        super().__init__(engine, resolver)
        self.body = b"b" * engine.spec.body_bytes
        self.answer_size = engine.spec.answer_bytes or len(self.body)

    def make(self, slot: int, address: Address) -> SharedConnection:
        return TcpStream(self, slot, address)


class TcpStream(SharedConnection):
    """One stream."""

    __slots__ = ("_body", "_buffer", "_wanted")

    def __init__(self, transport: TcpTransport, slot: int, address: Address) -> None:
        self._body, self._wanted = transport.body, transport.answer_size
        self._buffer = b""
        super().__init__(transport, slot, address)

    def write(self, request: Request) -> None:
        self.awaiting[request.sequence] = request
        self.send(FRAME.pack(len(self._body), self.transport.engine.spec.answer_bytes, request.sequence) + self._body)

    def readable(self) -> None:
        data = self.receive(262_144)
        if not data:
            return
        self.heard = self.transport.engine.clock()
        if self._buffer:
            data = self._buffer + data
        begin, size = 0, len(data)
        while size - begin >= 16:
            length, pod, sequence = FRAME.unpack_from(data, begin)
            if size - begin < 16 + pod + length:
                break
            request = self.awaiting.pop(sequence, None)
            if request is not None and request.open:
                engine = self.transport.engine
                server = engine.server(data[begin + 16 : begin + 16 + pod])
                if length == self._wanted:
                    engine.end(request, _OK, server=server)
                else:
                    engine.end(request, int(Outcome.UNKNOWN), int(Cause.WRONG_BODY), server=server)
            begin += 16 + pod + length
            if request is not None:
                self.ended()
        self._buffer = data[begin:]
