"""One flow's requests: when each is due, which are under way, how each ended. Open loop: nothing waits for an
answer.

How the bytes travel is the transport's business (`transports.open_transport`): the engine hands it requests and
is told how they ended. Used by the agent (which owns the reactor and the log) and by aggressors (which set the rate).
"""

from __future__ import annotations

import random
from collections import deque
from time import monotonic_ns
from typing import Protocol

from chaos.history.words import NO_POD, Cause, Flag, Outcome
from chaos.load.ledger import FlowLedger, Ledgers
from chaos.load.reactor import TOLERANCE, Reactor, Timer
from chaos.load.samples import FlowCounters, RecordLog
from chaos.load.spec import Arrival, FlowSpec

_OK, _FAILED, _UNKNOWN = int(Outcome.OK), int(Outcome.FAILED), int(Outcome.UNKNOWN)
_LATE, _SHED = int(Flag.LATE), int(Cause.SHED)


class Request:
    """A request under way. Instants are of `monotonic_ns`; `sent` is 0 until the kernel has its first byte."""

    __slots__ = ("connection", "due", "flags", "open", "sent", "sequence")

    def __init__(self, sequence: int, due: int, flags: int) -> None:
        self.sequence = sequence
        self.due = due
        self.flags = flags
        self.sent = 0
        self.open = True
        self.connection: Connection | None = None  # the connection that it is on


class Connection(Protocol):
    """A connection, as a request that timed out sees it."""

    def expired(self, request: Request) -> Cause:
        """Give the request up; return the cause when it was never sent."""
        ...


class Transport(Protocol):
    """Carries a flow's requests to its target."""

    def submit(self, request: Request) -> None: ...
    def close(self) -> None: ...


class SampleRecorder:
    """State that all engines of a loader share: the log, the ledgers, the clock's base, the table of servers seen."""

    def __init__(self, log: RecordLog, base: int) -> None:
        self.log = log
        self.ledgers = Ledgers()
        self.base = base  # ns from monotonic to the Unix epoch, taken once: the loader's clock never steps
        self.servers: list[str] = []  # namespace/pod

    def keep(
        self,
        flow: int,
        server: int,
        outcome: int,
        cause: int,
        status: int,
        flags: int,
        due: int,
        sent: int,
        done: int,
        sequence: int,
    ) -> None:
        """Keep a request that has ended, as a sample and in its flow's ledger."""
        self.log.add(flow, 0, server, outcome, cause, status, flags, due, sent, done, sequence)
        ledgers = self.ledgers
        if not ledgers.flows[flow].enter(sequence, done - due, (server, outcome, cause, status, flags)):
            ledgers.in_full.add(flow, 0, server, outcome, cause, status, flags, due, sent, done, sequence)

    def number(self, server: str) -> int:
        """Return the table's number of a server pod, by namespace/pod."""
        try:
            return self.servers.index(server)
        except ValueError:
            if len(self.servers) >= NO_POD:
                return NO_POD
            self.servers.append(server)
            return len(self.servers) - 1


class Engine:
    """Drives one flow. `spec.rate` may be changed while it runs (`set_rate`)."""

    def __init__(self, reactor: Reactor, recorder: SampleRecorder, counters: FlowCounters, spec: FlowSpec) -> None:
        self.reactor, self.recorder, self.counters, self.spec = reactor, recorder, counters, spec
        self.transport: Transport | None = None
        self.under_way = 0
        self.last_latencies: deque[int] = deque(maxlen=256)  # ns, of answered requests: aggressors look at them
        self._waiting: deque[Request] = deque()
        self._timeout = int(spec.timeout * 1e9)
        self._random = random.Random(f"{spec.seed}/{spec.name}")
        self._gap = 0
        self._next = 0
        self._timer: Timer | None = None
        self._expiry: Timer | None = None
        self._servers: dict[bytes, int] = {}
        self._ledger: FlowLedger = recorder.ledgers.of(counters.id)
        self._poisson = spec.arrival is Arrival.POISSON

    clock = staticmethod(monotonic_ns)

    def start(self, transport: Transport) -> None:
        self.transport = transport
        self.set_rate(self.spec.rate)

    def set_rate(self, rate: float) -> None:
        """Change the rate from now on; 0 pauses."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gap = int(1e9 / rate) if rate else 0
        if self._gap:
            self._next = monotonic_ns() + self._after()
            even = 0 if self._poisson else self._gap
            self._ledger.set_pace(self.counters.due + 1, self._next + self.recorder.base, even)
            self._timer = self.reactor.at(self._next, self._fire)

    def stop(self) -> None:
        """Send no more requests; those under way end by answer or timeout."""
        self.set_rate(0)

    def close(self) -> None:
        """Stop and give up what is under way at once."""
        self.stop()
        for request in list(self._waiting):
            if request.open:
                self._give_up(request)
        if self.transport is not None:
            self.transport.close()

    def pending(self) -> list[int]:
        """Return when the requests under way were due, ns since the Unix epoch."""
        return [request.due + self.recorder.base for request in self._waiting if request.open]

    def server(self, pod: bytes) -> int:
        """Return the number of a server pod that named itself in an answer."""
        try:
            return self._servers[pod]
        except KeyError:
            namespace = self.spec.server.partition("/")[0]
            number = self._servers[pod] = self.recorder.number(f"{namespace}/{pod.decode('latin-1')}")
            return number

    def _after(self) -> int:
        return int(self._random.expovariate(1.0) * self._gap) if self._poisson else self._gap

    def _fire(self) -> None:
        due = self._next
        # One request a call: the loop reads answers in between, even when many requests are overdue.
        self._next = due + (self._after() if self._poisson else self._gap)
        self._timer = self.reactor.at(self._next, self._fire)
        counters = self.counters
        counters.due += 1
        request = Request(counters.due, due, _LATE if monotonic_ns() - due > TOLERANCE else 0)
        if self.under_way >= self.spec.in_flight:
            self.under_way += 1
            counters.shed += 1
            self.end(request, _FAILED, _SHED)
            return
        self.under_way += 1
        self._waiting.append(request)
        if self._expiry is None:
            self._expiry = self.reactor.at(due + self._timeout, self._expire)
        assert self.transport is not None
        self.transport.submit(request)

    def _expire(self) -> None:
        now = monotonic_ns()
        waiting, timeout = self._waiting, self._timeout
        while waiting:
            request = waiting[0]
            if request.open:
                if request.due + timeout > now:
                    break
                self._give_up(request)
            waiting.popleft()
        self._expiry = self.reactor.at(waiting[0].due + timeout, self._expire) if waiting else None

    def _give_up(self, request: Request) -> None:
        cause = Cause.TIMEOUT if request.connection is None else request.connection.expired(request)
        if request.open:
            self.end(request, _UNKNOWN if request.sent else _FAILED, int(cause))

    def end(self, request: Request, outcome: int, cause: int = 0, status: int = 0, server: int = NO_POD) -> None:
        """End a request: count it, keep its sample."""
        request.open = False
        self.under_way -= 1
        now = monotonic_ns()
        counters, flags = self.counters, request.flags
        if self.reactor.late > TOLERANCE:
            flags |= _LATE  # the loop itself came late to this answer
        if flags & _LATE:
            counters.late += 1
        counters.done += 1
        if request.sent:
            counters.sent += 1
        if outcome == _OK:
            counters.ok += 1
            self.last_latencies.append(now - request.due)
        else:
            counters.count_end(cause, status)
            if outcome == _FAILED:
                counters.failed += 1
            else:
                counters.unknown += 1
        if counters.done % counters.keep_every == 0:
            counters.stored += 1
            base = self.recorder.base
            self.recorder.keep(
                counters.id,
                server,
                outcome,
                cause,
                status,
                flags,
                request.due + base,
                request.sent + base if request.sent else 0,
                now + base,
                request.sequence,
            )
