"""Non-blocking connects and name lookups for the loader's transports."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import threading
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from chaos.load.reactor import READ, WRITE, Reactor, Timer

Address = tuple[int, tuple[str, int]]  # family, address for connect

_FRESH_SECONDS: Final = 5.0


class Resolver:
    """Resolves names in its own thread, again every few seconds: a lookup must never stall the loop."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._known: dict[tuple[str, int], Address] = {}
        self._waiting: dict[tuple[str, int], list[Callable[[Address], None]]] = {}
        self._again = queue.SimpleQueue[None]()
        self._names: list[tuple[str, int]] = []
        self._thread: threading.Thread | None = None

    def find(self, host: str, port: int, found: Callable[[Address], None]) -> Address | None:
        """Return the address, or None: then call `found` in the loop's thread once it is known."""
        key = (host, port)
        address = self._known.get(key)
        if address is None:
            self._waiting.setdefault(key, []).append(found)
            if key not in self._names:
                self._names.append(key)
                self.refresh()
        return address

    def refresh(self) -> None:
        """Resolve again soon: a connection failed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="resolver", daemon=True)
            self._thread.start()
        if self._again.empty():
            self._again.put(None)

    def _run(self) -> None:
        while True:
            pending = False
            for key in list(self._names):
                try:
                    family, _, _, _, address = socket.getaddrinfo(*key, type=socket.SOCK_STREAM)[0]
                except OSError:
                    pending = pending or key not in self._known
                    continue
                pair = (int(family), (str(address[0]), int(address[1])))
                self._reactor.call_from_thread(lambda key=key, pair=pair: self._found(key, pair))  # type: ignore[misc]
            with contextlib.suppress(queue.Empty):
                self._again.get(timeout=0.1 if pending else _FRESH_SECONDS)

    def _found(self, key: tuple[str, int], address: Address) -> None:
        self._known[key] = address
        for found in self._waiting.pop(key, []):
            found(address)


class Socket:
    """A client's TCP socket in the reactor. A subclass says what to do when it is connected, readable or lost."""

    __slots__ = ("_connecting", "_out", "_timer", "address", "closed", "fd", "reactor", "reset", "sock")

    def __init__(self, reactor: Reactor, address: Address, *, receive_buffer: int = 0, reading: bool = True) -> None:
        self.reactor = reactor
        self.address = address
        self.closed = False
        self.reset = False  # it ended by an error, not by the other side's orderly close
        self._out: list[memoryview] = []
        self._connecting = True
        self._timer: Timer | None = None
        self.sock = socket.socket(address[0], socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.fd = self.sock.fileno()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        code = self.sock.connect_ex(address[1])
        if code in (0, errno.EINPROGRESS):
            reactor.watch(self.fd, WRITE, self._ready)
        else:  # told at once; the owner hears of it from the loop, as always
            self._timer = reactor.at(monotonic_ns(), lambda: self._fail(code))

    # What a subclass fills in.

    def connected(self) -> None: ...
    def readable(self) -> None: ...
    def refused(self, code: int) -> None:
        """Handle a failed connect, with its errno. The socket is closed."""

    def lost(self) -> None:
        """Handle a close or reset by the other side. The socket is closed."""

    @property
    def reading_mask(self) -> int:
        return READ

    # What it may call.

    @property
    def connecting(self) -> bool:
        return self._connecting

    def send(self, data: bytes) -> bool:
        """Write, or buffer what the kernel does not take; return False when the connection is lost (and `lost` was
        called).
        """
        if self._out:
            self._out.append(memoryview(data))
            return True
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._lose()
            return False
        if taken < len(data):
            self._out.append(memoryview(data)[taken:])
            self.reactor.rewatch(self.fd, self.reading_mask | WRITE)
        return True

    def receive(self, size: int = 65536) -> bytes:
        """Return what has arrived, b"" when nothing has or the connection is lost (then `lost` was called)."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return b""
        except OSError:
            self.reset = True
            data = b""
        if not data:
            self._lose()
        return data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.reactor.forget(self.fd)
            if self._timer is not None:
                self._timer.cancel()
            self.sock.close()

    def _lose(self) -> None:
        if not self.closed:
            self.close()
            self.lost()

    def _fail(self, code: int) -> None:
        if not self.closed:
            self.close()
            self.refused(code)

    def _ready(self, mask: int) -> None:
        if self._connecting:
            # A second connect tells the first one's result, and is right even for an event of a descriptor's former
            # owner.
            code = self.sock.connect_ex(self.address[1])
            if code in (errno.EALREADY, errno.EINPROGRESS):
                return
            if code not in (0, errno.EISCONN):
                self._fail(code)
                return
            self._connecting = False
            self.reactor.rewatch(self.fd, self.reading_mask)
            self.connected()
            return
        if mask & WRITE and self._out:
            self._flush()
            if self.closed:
                return
        if mask & ~WRITE:
            self.readable()

    def _flush(self) -> None:
        out = self._out
        while out:
            try:
                taken = self.sock.send(out[0])
            except BlockingIOError:
                return
            except OSError:
                self._lose()
                return
            if taken < len(out[0]):
                out[0] = out[0][taken:]
                return
            out.pop(0)
        self.reactor.rewatch(self.fd, self.reading_mask)
