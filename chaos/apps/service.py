"""The reference server's answers, independent of the protocol: shared by HTTP/1.1, HTTP/2 and gRPC.

Paths of the application port: `/bytes/N` answers N bytes, `/delay/MS` waits, `/headers` shows what arrived (for checks
of trace context and identity headers), `/echo` and everything else give the request's body back. Every answer carries
`x-pod` (which pod answered) and `x-seq` (the request's own, so that a client notices a crossed answer).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from chaos.apps.misbehaviour import Action, Misbehaviour, Temper
from chaos.apps.wire import header
from chaos.control_key import HEADER, Gate

MAX_ANSWER: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Filling:
    """So many bytes of a body, made as they are sent: many large answers that wait for a slow reader cost no memory."""

    size: int

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return b"x" * self.size

    def __getitem__(self, part: slice) -> Filling:
        return Filling(len(range(self.size)[part]))


Answer = tuple[int, bytes, bytes | Filling]  # status, header lines each with its CRLF, body


class RequestConnection(Protocol):
    """The connection, or the stream, of a request, as a service uses it."""

    def answer(self, answer: Answer | None) -> None: ...


class Draining(Protocol):
    """A connection that can be told to end once nothing is under way."""

    def drain(self) -> None: ...


class AppPort:
    """A port's behaviour and its open connections."""

    def __init__(self, pod: str, temper: Temper | None = None) -> None:
        self.pod = pod.encode()
        self.temper = temper
        self.connections: set[Draining] = set()
        self.counters: Counter[str] = Counter()
        self.draining = False
        self._pod_line = b"x-pod: %b\r\n" % self.pod

    def treat(self, method: bytes, path: bytes, head: bytes, body: bytes, connection: RequestConnection) -> None:
        """Answer one request, now or later; count it by its method, and once more when it is answered well."""
        action, delay = (Action.ANSWER, 0.0) if self.temper is None else self.temper.decide()
        if path.startswith(b"/delay/") and path[7:].isdigit():
            delay += int(path[7:]) / 1e3
        if action is Action.STALL:
            assert self.temper is not None
            asyncio.get_running_loop().call_later(0.05, self.treat, method, path, head, body, connection)
            return
        self.counters[method.decode("latin-1")] += 1
        self.counters["answered"] += action is Action.ANSWER
        answer: Answer | None = None
        if action is Action.ANSWER:
            answer = self.respond(method, path, head, body)
        elif action is Action.ERROR:
            assert self.temper is not None
            answer = (self.temper.misbehaviour.error_status, self.common(head), b"an error on purpose")
        if delay:
            asyncio.get_running_loop().call_later(delay, connection.answer, answer)
        else:
            connection.answer(answer)

    def common(self, head: bytes) -> bytes:
        """Return the header lines of every answer."""
        seq = header(head, b"x-seq")
        return b"%bx-seq: %b\r\n" % (self._pod_line, seq) if seq else self._pod_line

    def respond(self, method: bytes, path: bytes, head: bytes, body: bytes) -> Answer:
        """Return the answer to a request of the application port."""
        extra = self.common(head)
        if len(path) < 6:
            return 200, extra, body
        if path.startswith(b"/bytes/") and path[7:].isdigit():
            size = int(path[7:])
            return (200, extra, Filling(size)) if size <= MAX_ANSWER else (400, extra, b"too many bytes")
        if path == b"/headers":
            lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
            seen = {name.decode("latin-1").lower(): value.strip().decode("latin-1") for name, _, value in lines}
            text = {"method": method.decode("latin-1"), "pod": self.pod.decode(), "headers": seen}
            return 200, extra + b"content-type: application/json\r\n", json.dumps(text).encode()
        return 200, extra, body


class ControlService(AppPort):
    """The control port: health, sentinel, misbehaviour, counts. It never misbehaves itself.

    Args:
        app: the application port's service, whose counts `/stats` shows.
        temper: what `POST /misbehave` sets.
        gate: whose token opens `/misbehave` and `/stats`.
        ready: `/healthz` answers 200 while it is true.
    """

    def __init__(self, pod: str, app: AppPort, temper: Temper, ready: Callable[[], bool], gate: Gate) -> None:
        super().__init__(pod)
        self.app = app
        self.misbehaviour = temper
        self.ready = ready
        self.gate = gate

    def respond(self, method: bytes, path: bytes, head: bytes, body: bytes) -> Answer:
        extra = self.common(head)
        if path == b"/healthz":
            return (200, extra, b"ok\n") if self.ready() else (503, extra, b"going\n")
        if path.startswith(b"/sentinel"):
            return 200, extra, body
        if not self.gate.admits(header(head, HEADER.encode())):
            return 403, extra, f"{self.gate.refusal}\n".encode()
        if path == b"/stats":
            stats: dict[str, Any] = {"pod": self.pod.decode(), "open": len(self.app.connections), **self.app.counters}
            return 200, extra + b"content-type: application/json\r\n", json.dumps(stats).encode()
        if path == b"/misbehave":
            if method == b"POST":
                try:
                    self.misbehaviour.set(Misbehaviour.parse(body))
                except ValueError as error:
                    return 400, extra, f"{error}\n".encode()
            misbehaviour = self.misbehaviour.misbehaviour
            shown = {name: getattr(misbehaviour, name) for name in Misbehaviour.__dataclass_fields__}
            return 200, extra + b"content-type: application/json\r\n", json.dumps(shown).encode()
        return 404, extra, b"known: /healthz /sentinel /stats /misbehave\n"
