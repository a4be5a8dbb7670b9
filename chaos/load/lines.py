"""Which line carries which protocol. Heavy libraries are imported only for the protocol that needs them."""

from __future__ import annotations

from chaos.load.engine import Engine, Line
from chaos.load.http1 import Http1Line
from chaos.load.sockets import Resolver
from chaos.load.spec import Protocol


def open_line(engine: Engine, resolver: Resolver) -> Line:
    """The line for the engine's protocol."""
    protocol = engine.spec.protocol
    if protocol is Protocol.HTTP1:
        return Http1Line(engine, resolver)
    if protocol is Protocol.TCP:
        from chaos.load.tcp import TcpLine

        return TcpLine(engine, resolver)
    from chaos.load.http2 import Http2Line

    return Http2Line(engine, resolver)
