"""A fixed number of long-lived connections, each shared by many requests: raw TCP streams, HTTP/2, gRPC.

Request n goes over connection n modulo their number. A connection that was reset is made again by the next due request,
at once; one that gave no sign for a whole timeout while answers were awaited is given up, as an application's
keep-alive would.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import monotonic_ns
from typing import Final

from chaos.history.words import Cause, Flag, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.outcomes import connecting_failed
from chaos.load.sockets import Address, Resolver, Socket

_NEW: Final = int(Flag.NEW_CONNECTION)
_UNKNOWN: Final = int(Outcome.UNKNOWN)


class SharedConnection(Socket, ABC):
    """One shared connection. A subclass writes requests and reads answers."""

    __slots__ = ("awaiting", "fresh", "heard", "pending", "slot", "transport")

    def __init__(self, transport: SharedTransport, slot: int, address: Address) -> None:
        self.transport = transport
        self.slot = slot
        self.pending: list[Request] = []  # until connected
        self.awaiting: dict[int, Request] = {}  # by the protocol's own number
        self.heard = 0  # when the last byte came
        self.fresh = True  # no request went over it yet
        transport.engine.counters.opened += 1
        super().__init__(transport.engine.reactor, address)

    # What a subclass fills in.

    def greet(self) -> None:
        """Send what comes before the first request of a new connection."""

    @abstractmethod
    def write(self, request: Request) -> None:
        """Send the request and put it into `awaiting`."""

    def gone(self, request: Request, number: int) -> None:
        """Handle a timeout of an awaited request: its answer is no longer wanted."""

    @property
    def full(self) -> bool:
        """Whether the open connection takes no more requests."""
        return False

    # The rest is shared.

    def add(self, request: Request) -> None:
        request.connection = self
        if self.fresh:
            self.fresh = False
            request.flags |= _NEW
        if self.connecting:
            self.pending.append(request)
        else:
            request.sent = monotonic_ns()
            self.write(request)

    def connected(self) -> None:
        self.heard = monotonic_ns()
        self.greet()
        pending, self.pending = self.pending, []
        for request in pending:
            if request.open and not self.closed:
                request.sent = monotonic_ns()
                self.write(request)
            elif request.open:
                self.transport.engine.end(request, int(Outcome.FAILED), int(Cause.RESET))

    def refused(self, code: int) -> None:
        self.transport.drop(self, refused=True)
        outcome, cause = connecting_failed(code)
        for request in self.pending:
            if request.open:
                self.transport.engine.end(request, int(outcome), int(cause))
        self.pending = []

    def lost(self) -> None:
        self.transport.drop(self)
        self.give_up_all(Cause.RESET)

    def give_up_all(self, cause: Cause) -> None:
        awaiting, self.awaiting = self.awaiting, {}
        for request in awaiting.values():
            if request.open:
                self.transport.engine.end(request, _UNKNOWN, int(cause))

    def expired(self, request: Request) -> Cause:
        engine = self.transport.engine
        if self.connecting:
            self.close()
            self.transport.drop(self)
            pending, self.pending = self.pending, []
            for other in pending:
                if other is not request and other.open:
                    self.transport.submit(other)
            return Cause.CONNECT_TIMEOUT
        number = next((n for n, other in self.awaiting.items() if other is request), None)
        if number is not None:
            del self.awaiting[number]
            if not self.closed:
                self.gone(request, number)
        if not self.closed and monotonic_ns() - self.heard > engine.spec.timeout * 1e9:
            self.close()
            self.transport.drop(self)
            self.give_up_all(Cause.TIMEOUT)
        return Cause.TIMEOUT

    def ended(self) -> None:
        """Handle a complete answer: with a new connection for each request, this one is done."""
        if self.transport.engine.spec.new_connections and not self.closed:
            self.close()
            self.transport.drop(self)


class SharedTransport(ABC):
    """A flow's shared connections."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        self.engine = engine
        self.resolver = resolver
        self.slots: list[SharedConnection | None] = [None] * engine.spec.connections
        self.singles: set[SharedConnection] = set()  # one for each request, when the flow asks for new connections
        self.address: Address | None = None
        self._turn = 0
        self._unaddressed: list[Request] = []

    @abstractmethod
    def make(self, slot: int, address: Address) -> SharedConnection:
        """Start a connection to the address."""

    def submit(self, request: Request) -> None:
        spec = self.engine.spec
        if self.address is None:
            self.address = self.resolver.find(spec.host, spec.port, self._addressed)
            if self.address is None:
                request.connection = self
                self._unaddressed.append(request)
                return
        if spec.new_connections:
            single = self.make(-1, self.address)
            self.singles.add(single)
            single.add(request)
            return
        slot = self._turn = (self._turn + 1) % len(self.slots)
        connection = self.slots[slot]
        if connection is None or connection.full:
            connection = self.slots[slot] = self.make(slot, self.address)
        connection.add(request)

    def expired(self, request: Request) -> Cause:
        return Cause.DNS  # its name was never found

    def _addressed(self, address: Address) -> None:
        self.address = address
        waiting, self._unaddressed = self._unaddressed, []
        for request in waiting:
            if request.open:
                self.submit(request)

    def drop(self, connection: SharedConnection, *, refused: bool = False) -> None:
        """Forget the connection."""
        self.singles.discard(connection)
        if connection.slot >= 0 and self.slots[connection.slot] is connection:
            self.slots[connection.slot] = None
        if refused:
            self.address = None
            self.resolver.refresh()

    def close(self) -> None:
        for connection in [*self.slots, *self.singles]:
            if connection is not None:
                connection.close()
                connection.give_up_all(Cause.RESET)
                self.drop(connection)
