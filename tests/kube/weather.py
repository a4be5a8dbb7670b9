"""Bad weather in front of an API server: a proxy on loopback that refuses, delays, cuts and loses, by a seeded choice.

Speaks plain HTTP to the client and the cluster's own TLS to the API server, with the client's credentials.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import random
import socket
import ssl
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3

from chaos.errors import ApiError
from chaos.kube.client import Cluster


@dataclass(frozen=True, slots=True)
class Climate:
    """Shares of the requests that meet each kind of trouble."""

    busy: float = 0.0  # 429 with Retry-After
    unavailable: float = 0.0  # 503 with Retry-After
    broken: float = 0.0  # 500 without having acted
    lost_before: float = 0.0  # the connection breaks before the API server hears of it
    lost_after: float = 0.0  # it breaks after the API server has acted: the answer is lost
    cut: float = 0.0  # a watch ends in the middle of a line


class Weather:
    """The proxy. `seen` counts what was done to whom."""

    def __init__(self, cluster: Cluster, climate: Climate, *, seed: int) -> None:
        self.cluster, self.climate = cluster, climate
        self.seen: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self.over = threading.Event()  # what hangs is let go

    def rewritten(self, method: str, path: str, body: bytes | None) -> bytes | None:
        """The body as it goes on to the API server."""
        del method, path
        return body

    def answered(self, method: str, path: str) -> bytes | None:
        """The body that answers in place of the API server; None to pass the request on."""
        del method, path
        return None

    def acted(self, method: str, path: str) -> None:
        """The API server has answered well, and the client does not know yet."""

    def fate(self, method: str, path: str) -> str:
        """What happens to the next request; "" for nothing."""
        del method, path
        with self._lock:
            draw = self._chance.random()
            for name in ("busy", "unavailable", "broken", "lost_before", "lost_after", "cut"):
                draw -= getattr(self.climate, name)
                if draw < 0:
                    self.seen[name] += 1
                    return name
            self.seen[""] += 1
            return ""


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[ssl.SSLSocket]:
    """A connection to the API server, with the client's certificate."""
    configuration, address = cluster.configuration, urllib.parse.urlsplit(cluster.host)
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    with (
        socket.create_connection((address.hostname, address.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as stream,
    ):
        yield stream


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _handler(weather: Weather) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            fate = weather.fate(self.command, self.path)
            if fate == "hung":
                weather.over.wait(120)
            if fate in ("lost_before", "hung"):
                self._hang_up()
                return
            if code := {"busy": 429, "unavailable": 503, "broken": 500}.get(fate):
                self._answer(
                    code,
                    json.dumps({"kind": "Status", "message": fate, "code": code}).encode(),
                    after=fate if fate != "broken" else "",
                )
                return
            if self.headers.get("Upgrade"):
                self._pass_on()
                return
            path, _, query = self.path.partition("?")
            if (instead := weather.answered(self.command, path)) is not None:
                self._answer(200, instead)
                return
            body = weather.rewritten(self.command, path, body)
            try:
                response = weather.cluster.open(
                    self.command,
                    path + ("?" + query if query else ""),
                    body=body,
                    headers={name: value for name, value in self.headers.items() if name.lower().startswith("x-")},
                    read_timeout=100,
                    content_type=self.headers.get("Content-Type", "application/json"),
                )
            except ApiError as error:
                self._answer(error.code, json.dumps(error.status).encode())
                return
            except urllib3.exceptions.HTTPError:
                self._hang_up()
                return
            weather.acted(self.command, path)
            with contextlib.closing(response):
                if fate == "lost_after":
                    self._hang_up()
                elif "watch=1" in query or "follow=" in query:
                    self._stream(response, cut=fate == "cut")
                else:
                    self._answer(response.status, response.read(decode_content=True))

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _do  # noqa: N815

        def _answer(self, code: int, body: bytes, *, after: str = "") -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if after:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, response: urllib3.BaseHTTPResponse, *, cut: bool) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in response.stream(amt=None):
                part = chunk[: len(chunk) // 2] if cut else chunk
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                if cut:
                    self._hang_up()
                    return
            self.wfile.write(b"0\r\n\r\n")

        def _pass_on(self) -> None:
            """An upgraded connection: bytes both ways, until one side ends."""
            self.close_connection = True
            head = f"{self.command} {self.path} HTTP/1.1\r\n" + "".join(
                f"{k}: {v}\r\n" for k, v in self.headers.items()
            )
            with contextlib.suppress(OSError), connected(weather.cluster) as beyond:
                beyond.sendall(head.encode() + b"\r\n")
                there = threading.Thread(target=_pump, args=(beyond, self.connection), daemon=True)
                there.start()
                _pump(self.connection, beyond)
                there.join(5)

        def _hang_up(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError, urllib3.exceptions.HTTPError):
                super().handle()

    return Handler


@contextlib.contextmanager
def bad_weather(cluster: Cluster, climate: Climate, folder: Path, *, seed: int) -> Iterator[tuple[Weather, Path]]:
    """The weather and a kubeconfig that leads through it."""
    with before(Weather(cluster, climate, seed=seed), folder) as (weather, config):
        yield weather, config


@contextlib.contextmanager
def before(weather: Weather, folder: Path) -> Iterator[tuple[Weather, Path]]:
    """That weather in front of its cluster, and a kubeconfig that leads through it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(weather))
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield weather, plain_config(folder / "weather.json", server.server_address[1])
    finally:
        weather.over.set()
        server.shutdown()
        server.server_close()


def plain_config(path: Path, port: int, token: str = "") -> Path:
    """A kubeconfig for a plain server on loopback."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "w",
                "clusters": [{"name": "w", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "w", "user": {"token": token} if token else {}}],
                "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
            }
        )
    )
    return path
