"""The loader's event loop: epoll, timers, and its own lateness.

Why not asyncio or uvloop: a request costs one write, one read and a share of a poll; the rest of a general loop would
cost more than these, and its timers are a millisecond coarse, while latency counts from when a request was due.
"""

from __future__ import annotations

import heapq
import os
import select
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

Ready = Callable[[int], None]

READ = select.EPOLLIN | select.EPOLLRDHUP
WRITE = select.EPOLLOUT
TOLERANCE = 2_000_000  # ns: a timer that fires later than this makes what it starts LATE


class Timer:
    """A pending call; `cancel` makes it do nothing."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Reactor:
    """One thread's loop. Only `call_from_thread` may be used from another thread.

    Attributes:
        late: how late, in ns, this round's first timer was: what the round starts or finishes is marked by it.
        stalls: rounds that were later than TOLERANCE. worst: the latest, in ns, ever.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Ready] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wake, READ, self._called)
        self.running = False
        self.late = 0
        self.stalls = 0
        self.worst = 0

    def watch(self, fd: int, mask: int, handler: Ready) -> None:
        """Call the handler with the events that are ready."""
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

    def rewatch(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """Stop watching, before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, when: int, call: Callable[[], None]) -> Timer:
        """Call at an instant of `monotonic_ns`."""
        timer = Timer(call)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def call_from_thread(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        os.eventfd_write(self._wake, 1)

    def _called(self, mask: int) -> None:
        os.eventfd_read(self._wake)
        while self._calls:
            self._calls.popleft()()

    def stop(self) -> None:
        self.running = False

    def run(self) -> None:
        """Run until `stop`."""
        timers, handlers, poll, epoll = self._timers, self._handlers, self._epoll.poll, [self._epoll.fileno()]
        pop = heapq.heappop
        self.running = True
        while self.running:
            if timers:
                wait = timers[0][0] - monotonic_ns()
                if wait > 0:
                    # epoll_wait rounds its timeout up to milliseconds; select on the epoll descriptor does not.
                    select.select(epoll, (), (), wait / 1e9)
            else:
                select.select(epoll, (), ())
            self.late = monotonic_ns() - timers[0][0] if timers else 0
            for fd, mask in poll(0, 256):  # answers first: they have waited in the kernel already
                handler = handlers.get(fd)
                if handler is not None:
                    handler(mask)
            now = monotonic_ns()
            # Measured again: the process may have been stopped, or busy, since the round began.
            if timers and (late := now - timers[0][0]) > TOLERANCE:
                self.late = late
                self.stalls += 1
                self.worst = max(self.worst, late)
            budget = 64
            while timers and timers[0][0] <= now and budget:
                budget -= 1
                call = pop(timers)[2].call
                if call is not None:
                    call()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wake)
