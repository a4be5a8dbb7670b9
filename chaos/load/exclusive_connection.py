"""One request at a time on each connection: HTTP/1.1, and plain bytes with or without TLS.

The first requests open a connection each, until there are as many as the flow keeps: where connections are balanced,
not requests, one alone would go to one server. From then on each due request takes the connection that was idle
longest, or opens another at once: an answer that does not come never holds the next request back. After a reset the
next due request reconnects at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from time import monotonic_ns
from typing import Final

from chaos.history.words import Cause, Flag, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.outcomes import connecting_failed
from chaos.load.sockets import Address, Resolver, Socket

_NEW: Final = int(Flag.NEW_CONNECTION)
_SURPLUS: Final = (
    1_000_000_000  # ns without need of another connection, after which those beyond `connections` are closed
)


class ExclusiveTransport(ABC):
    """A flow's connections."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        self.engine = engine
        self.resolver = resolver
        self.idle: deque[ExclusiveConnection] = deque()
        self.all: set[ExclusiveConnection] = set()
        self.address: Address | None = None
        self.opened = 0  # when the last connection was
        self._unaddressed: deque[Request] = deque()

    @abstractmethod
    def make(self, address: Address, request: Request) -> ExclusiveConnection:
        """Start a connection to the address, for that request first."""

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
        self.all.add(self.make(self.address, request))

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
        for connection in list(self.all):
            connection.drop()


class ExclusiveConnection(Socket, ABC):
    """One connection and the request that is on it. A subclass writes requests and reads answers."""

    __slots__ = ("request", "transport")

    def __init__(
        self, transport: ExclusiveTransport, address: Address, request: Request, *, receive_buffer: int = 0
    ) -> None:
        self.transport = transport
        self.request: Request | None = request
        request.connection = self
        super().__init__(transport.engine.reactor, address, receive_buffer=receive_buffer)

    @abstractmethod
    def begin(self, request: Request) -> None:
        """Send the request over the connection, which is made."""

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
        self.gone(Cause.RESET)

    def gone(self, cause: Cause) -> None:
        """End the request of a connection that is closed: nothing of one that was not sent can have reached the
        server.
        """
        transport, request = self.transport, self.request
        transport.all.discard(self)
        self.request = None
        if request is None:
            transport.idle.remove(self)
        elif request.open:
            transport.engine.end(request, int(Outcome.UNKNOWN if request.sent else Outcome.FAILED), int(cause))

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

    def free(self, *, reusable: bool) -> None:
        """Give the connection back after its request: kept for the next, or closed."""
        transport = self.transport
        self.request = None
        spec = transport.engine.spec
        enough = len(transport.idle) >= spec.connections and monotonic_ns() - transport.opened > _SURPLUS
        if not reusable or spec.new_connections or enough:
            self.drop()
        else:
            transport.idle.append(self)
