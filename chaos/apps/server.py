"""The reference server: `python -m chaos.apps.server`, an application that knows nothing of any mesh.

8080 speaks HTTP/1.1, HTTP/2 with prior knowledge and gRPC; 9000 raw TCP streams; 9990 control (health, sentinel,
misbehaviour, counts). SIGTERM: stops accepting, ends what is under way, exits 0 within a second.
Environment: POD_NAME (default: the host's name), LISTEN (default 0.0.0.0), HTTP_PORT, TCP_PORT, CONTROL_PORT,
CONTROL_DIGEST (`chaos.control_key`; without it the control port answers probes and sentinels alone).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import uvloop

from chaos.apps.http1 import Http1
from chaos.apps.misbehaviour import Temper
from chaos.apps.service import AppPort, ControlService
from chaos.apps.streams import Streams
from chaos.control_key import Gate
from chaos.names import PORT_CONTROL, PORT_HTTP, PORT_TCP

DRAIN_SECONDS = 0.8


def _http2(service: AppPort) -> asyncio.Protocol:
    from chaos.apps.http2 import Http2  # only a connection that speaks it pays for h2's import

    return Http2(service)


async def serve(*, host: str, pod: str, http: int, tcp: int, control: int, gate: Gate) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    temper = Temper()
    app = AppPort(pod, temper)
    streams = AppPort(pod, temper)
    streams.counters = app.counters
    controls = ControlService(pod, app, temper, lambda: not app.draining, gate)
    servers = [
        await loop.create_server(lambda: Http1(app, lambda: _http2(app)), host, http, backlog=1024),
        await loop.create_server(lambda: Streams(streams), host, tcp, backlog=1024),
        await loop.create_server(lambda: Http1(controls), host, control, backlog=1024),
    ]
    await stopping.wait()
    app.draining = streams.draining = controls.draining = True
    for server in servers:
        server.close()
    for service in (app, streams, controls):
        for connection in list(service.connections):
            connection.drain()
    end = loop.time() + DRAIN_SECONDS
    while (app.connections or streams.connections) and loop.time() < end:
        await asyncio.sleep(0.01)


def main() -> None:
    ports = {
        name: int(os.environ.get(f"{name.upper()}_PORT", default))
        for name, default in (("http", PORT_HTTP), ("tcp", PORT_TCP), ("control", PORT_CONTROL))
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            serve(
                host=os.environ.get("LISTEN", "0.0.0.0"),
                pod=os.environ.get("POD_NAME") or socket.gethostname(),
                gate=Gate.of_pod(),
                **ports,
            )
        )


if __name__ == "__main__":
    main()
