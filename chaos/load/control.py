"""The loader's control port, in the same loop as the load: another thread would delay the load.

`GET /healthz`, and with the namespace's token (`chaos.control_key`) `GET /state`, `GET /samples?from=N&epoch=E`,
`GET /ledger?after=N,N,...&epoch=E`, `POST /flows`, `POST /stop`, `POST /aggressor`. Large answers leave piece by piece,
as the socket takes them. Not h11, which writes an answer whole and holds the loop sixteen times as long
(`benchmarks/parsers.py`).
"""

from __future__ import annotations

import errno
import socket
import urllib.parse
from collections.abc import Callable
from typing import Final

from chaos.apps.wire import header
from chaos.control_key import HEADER, Gate
from chaos.errors import Misuse
from chaos.load.reactor import READ, WRITE, Reactor

Handler = Callable[[bytes, dict[str, str], bytes], "tuple[int, bytes]"]  # method, query, body -> status, body

# The whole answer to a POST; what came of it is asked for by GET. Of answers beyond 4 KiB to requests with a body the
# API server's proxy breaks off one in a hundred (docs/real-clusters.md).
DONE: Final = (200, b"{}")
_PIECE: Final = 65536
_MAX_UNKNOWN: Final = 4096  # bytes of a body that comes without the token
_OPEN: Final = frozenset({"/healthz"})  # answered to everybody
_MAX_HEAD: Final = 65536
_MAX_REQUEST: Final = 4 * 1024 * 1024


class Control:
    """A small HTTP/1.1 server. `routes`: path -> handler; a handler's Misuse becomes a 400 with its text. `gate`: whose
    token opens them.
    """

    def __init__(
        self, reactor: Reactor, host: str, port: int, routes: dict[str, Handler], pod: str, gate: Gate
    ) -> None:
        self.reactor, self.routes, self.pod, self.gate = reactor, routes, pod, gate
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.create_server((host, port), family=family, backlog=128)
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        reactor.watch(self.sock.fileno(), READ, self._accept)

    def _accept(self, mask: int) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                raise
            return
        sock.setblocking(False)
        _ControlConnection(self, sock)

    def handle(self, method: bytes, target: bytes, body: bytes, *, known: bool) -> tuple[int, bytes]:
        try:
            parts = urllib.parse.urlsplit(target.decode("latin-1"))
        except ValueError as error:
            return 400, f"{error}\n".encode()
        if not known and parts.path not in _OPEN:
            return 403, f"{self.gate.refusal}\n".encode()
        handler = self.routes.get(parts.path)
        if handler is None:
            return 404, f"known: {' '.join(self.routes)}\n".encode()
        try:
            return handler(method, dict(urllib.parse.parse_qsl(parts.query)), body)
        except Misuse as error:
            return 400, f"{error}\n".encode()

    def close(self) -> None:
        self.reactor.forget(self.sock.fileno())
        self.sock.close()


class _ControlConnection:
    """One connection to the control port."""

    def __init__(self, control: Control, sock: socket.socket) -> None:
        self.control, self.sock, self.fd = control, sock, sock.fileno()
        self.buffer = b""
        self.out = memoryview(b"")
        self.closing = False
        control.reactor.watch(self.fd, READ, self._ready)

    def _close(self) -> None:
        self.control.reactor.forget(self.fd)
        self.sock.close()

    def _ready(self, mask: int) -> None:
        try:
            if self.out:
                self._write()
                return
            data = self.sock.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self.buffer += data
        self._take()

    def _take(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > _MAX_HEAD:
                self._close()
            return
        head = self.buffer[:end]
        length = header(head, b"content-length") or b"0"
        words = head.split(b"\r\n", 1)[0].split(b" ")
        known = self.control.gate.admits(header(head, HEADER.encode()))
        most = _MAX_REQUEST if known else _MAX_UNKNOWN
        if len(words) != 3 or not length.isdigit() or int(length) > most:
            self._close()
            return
        size = end + 4 + int(length)
        if len(self.buffer) < size:
            return
        body = self.buffer[end + 4 : size]
        self.buffer = self.buffer[size:]
        self.closing = header(head, b"connection").lower() == b"close"
        status, answer = self.control.handle(words[0], words[1], body, known=known)
        seq = header(head, b"x-seq")
        self.out = memoryview(
            b"HTTP/1.1 %d %b\r\ncontent-length: %d\r\nx-pod: %b\r\n%b\r\n%b"
            % (
                status,
                b"OK" if status == 200 else b"Error",
                len(answer),
                self.control.pod.encode(),
                b"x-seq: %b\r\n" % seq if seq else b"",
                answer,
            )
        )
        self._write()

    def _write(self) -> None:
        try:
            taken = self.sock.send(self.out[:_PIECE])
        except BlockingIOError:
            taken = 0
        except OSError:
            self._close()
            return
        self.out = self.out[taken:]
        if self.out:
            self.control.reactor.rewatch(self.fd, READ | WRITE)
        elif self.closing:
            self._close()
        else:
            self.control.reactor.rewatch(self.fd, READ)
            if self.buffer:
                self._take()
