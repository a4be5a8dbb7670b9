"""Raw TCP with long-lived streams: frames with sequence numbers, echoed in order.

`chaos.apps.wire` describes the frames.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from chaos.apps.misbehaviour import Action
from chaos.apps.wire import FRAME, MAX_FRAME

if TYPE_CHECKING:
    from chaos.apps.service import AppPort


class Streams(asyncio.Protocol):
    """One stream."""

    def __init__(self, service: AppPort) -> None:
        self.service = service
        self.buffer = bytearray()
        self.pending = 0
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.service.connections.add(self)
        self.service.counters["streams"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.connections.discard(self)

    def drain(self) -> None:
        if not self.pending:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer
        buffer += data
        begin = 0
        while len(buffer) - begin >= 16:
            size, wanted, sequence = FRAME.unpack_from(buffer, begin)
            if max(size, wanted) > MAX_FRAME:
                self.transport.abort()
                return
            if len(buffer) - begin < 16 + size:
                break
            body = bytes(buffer[begin + 16 : begin + 16 + size])
            begin += 16 + size
            self._treat(sequence, b"x" * wanted if wanted else body)
        del buffer[:begin]

    def _treat(self, sequence: int, body: bytes) -> None:
        self.service.counters["frames"] += 1
        self.pending += 1
        self._decide(sequence, body)

    def _decide(self, sequence: int, body: bytes) -> None:
        action, delay = (Action.ANSWER, 0.0) if self.service.temper is None else self.service.temper.decide()
        if action is Action.STALL:
            asyncio.get_running_loop().call_later(0.05, self._decide, sequence, body)
        elif action in (Action.ERROR, Action.RESET):  # raw TCP knows no status
            self.transport.abort()
        elif delay:
            asyncio.get_running_loop().call_later(delay, self._answer, sequence, body)
        else:
            self._answer(sequence, body)

    def _answer(self, sequence: int, body: bytes) -> None:
        self.pending -= 1
        if self.transport.is_closing():
            return
        pod = self.service.pod
        self.transport.write(FRAME.pack(len(body), len(pod), sequence) + pod + body)
        if self.service.draining and not self.pending:
            self.transport.close()
