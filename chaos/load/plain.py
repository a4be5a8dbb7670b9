"""Bytes of an application's own protocol, over TCP or over TLS of its own: connect, send what is stated, await what is
stated.

Nothing is known of what travels, so an answer is what the flow says that one is (`Answer`), and names no server. A
handshake is held with whoever ends the TLS: where proxies pass it on unread, with the server itself.
"""

from __future__ import annotations

import ssl
from base64 import b64decode
from time import monotonic_ns
from typing import Final

from chaos.history.words import SAID_OF_HANDSHAKE, Cause, Outcome
from chaos.load.engine import Engine, Request
from chaos.load.exclusive_connection import ExclusiveConnection, ExclusiveTransport
from chaos.load.sockets import Address, Resolver
from chaos.load.spec import Answer, FlowSpec, Protocol

# ns for which a connection over TCP must stay open to count as established: a kernel, or a proxy, accepts it before
# anybody knows whether the server does, and closes it once that is known.
SETTLE: Final = 100_000_000


def tls_context(spec: FlowSpec) -> ssl.SSLContext:
    """Return what a flow's handshakes are held with: its trust anchors, else those of the pod's image."""
    context = ssl.create_default_context(cadata=spec.ca or None)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # the server's own certificate will do
    if spec.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class PlainTransport(ExclusiveTransport):
    """A flow's connections."""

    def __init__(self, engine: Engine, resolver: Resolver) -> None:
        super().__init__(engine, resolver)
        spec = engine.spec
        self.payload = b64decode(spec.send)
        self.awaited = int(spec.answer) if spec.answer.isdigit() else 0
        self.connects_only = spec.answer == Answer.CONNECTED
        self.context = tls_context(spec) if spec.protocol is Protocol.TLS else None
        self.name = spec.sni or spec.host

    def make(self, address: Address, request: Request) -> ExclusiveConnection:
        return PlainConnection(self, address, request)


class PlainConnection(ExclusiveConnection):
    """One connection and the request that is on it."""

    __slots__ = ("_got", "_incoming", "_outgoing", "_shaken", "_tls", "_transport")

    def __init__(self, transport: PlainTransport, address: Address, request: Request) -> None:
        self._transport = transport
        self._got = 0  # bytes of the answer
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._shaken = transport.context is None  # nothing but bytes is to come
        super().__init__(transport, address, request)

    def connected(self) -> None:
        context = self._transport.context
        if context is None or self.request is None or not self.request.open:
            super().connected()
            return
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._transport.name)
        self._shake_hands()

    def begin(self, request: Request) -> None:
        request.connection = self
        self.request = request
        transport = self._transport
        self._got = 0
        if transport.connects_only and self._tls is not None:
            self._end(Outcome.OK)
        elif transport.connects_only:
            self._timer = self.reactor.at(monotonic_ns() + SETTLE, self._settled)
        elif transport.payload:
            request.sent = monotonic_ns()
            self._write(transport.payload)

    def readable(self) -> None:
        data = self.receive(262_144)
        if self._tls is None or not data:
            self._take(len(data))
            return
        self._incoming.write(data)
        if not self._shaken:
            self._shake_hands()
        if self._shaken and not self.closed:
            self._take(self._decrypted())

    def lost(self) -> None:
        if not self._shaken:
            self.transport.engine.counters.said = f"{SAID_OF_HANDSHAKE}closed by the other side"
        self.gone(Cause.RESET if self._shaken else Cause.TLS)

    def expired(self, request: Request) -> Cause:
        shaken = self._shaken
        cause = super().expired(request)
        return cause if shaken else Cause.CONNECT_TIMEOUT

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush_tls()
            return
        except ssl.SSLError as error:  # with a certificate that is not believed, too
            self._flush_tls()  # the alert says why to the other side
            said = getattr(error, "verify_message", "") or error.reason or str(error)
            self.transport.engine.counters.said = f"{SAID_OF_HANDSHAKE}{said}"
            if not self.closed:
                self.close()
                self.gone(Cause.TLS)
            return
        self._shaken = True
        self._flush_tls()
        if not self.closed:
            super().connected()

    def _settled(self) -> None:
        self._timer = None
        if not self.closed and self.request is not None and self.request.open:
            self._end(Outcome.OK)

    def _take(self, size: int) -> None:
        """Count bytes of the answer; 0: none came, or the connection is lost."""
        transport, request = self._transport, self.request
        if not size or self.closed or transport.connects_only:
            return
        if request is None:  # bytes that nobody asked for
            self.drop()
            return
        self._got += size
        if not transport.awaited or self._got == transport.awaited:
            self._end(Outcome.OK)
        elif self._got > transport.awaited:
            self._end(Outcome.UNKNOWN, Cause.WRONG_BODY)

    def _end(self, outcome: Outcome, cause: Cause = Cause.NONE) -> None:
        request = self.request
        assert request is not None
        self.free(reusable=outcome is Outcome.OK)
        self.transport.engine.end(request, int(outcome), int(cause))

    # ---- TLS

    def _write(self, data: bytes) -> None:
        if self._tls is None:
            self.send(data)
            return
        self._tls.write(data)
        self._flush_tls()

    def _flush_tls(self) -> None:
        if (data := self._outgoing.read()) and not self.closed:
            self.send(data)

    def _decrypted(self) -> int:
        """Return how many bytes of the other side's application came."""
        assert self._tls is not None
        size = 0
        try:
            while data := self._tls.read(65536):
                size += len(data)
            self._close_after(size)  # it said that it sends no more
        except ssl.SSLWantReadError:
            self._flush_tls()
        except ssl.SSLError:
            self._close_after(size)
        return size

    def _close_after(self, size: int) -> None:
        """Handle the end of the other side's bytes: what came before it may have been the whole answer."""
        wanted = self._transport.awaited or 1
        if self._got + size < wanted or self.request is None:
            self._lose()
