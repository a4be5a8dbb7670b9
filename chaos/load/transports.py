"""Which transport carries which protocol. Heavy libraries are imported only for the protocol that needs them."""

from __future__ import annotations

from chaos.load.engine import Engine, Transport
from chaos.load.http1 import Http1Transport
from chaos.load.sockets import Resolver
from chaos.load.spec import Protocol


def open_transport(engine: Engine, resolver: Resolver) -> Transport:
    """Return the transport for the engine's protocol."""
    protocol = engine.spec.protocol
    if protocol is Protocol.HTTP1:
        return Http1Transport(engine, resolver)
    if protocol is Protocol.TCP:
        from chaos.load.tcp import TcpTransport

        return TcpTransport(engine, resolver)
    if not protocol.of_requests:
        from chaos.load.plain import PlainTransport

        return PlainTransport(engine, resolver)
    from chaos.load.http2 import Http2Transport

    return Http2Transport(engine, resolver)
