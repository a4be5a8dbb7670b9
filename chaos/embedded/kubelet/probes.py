"""Probes of running containers, and the HTTP, TCP and gRPC checks that lifecycle hooks share.

Network checks are made from the node itself (its own address is their source), as a kubelet makes them. Each probe is
one task; a startup probe runs first and delays the others. Results go into the container's ProbeState, and `changed`
is called when status may change. Timing and words are pkg/kubelet/prober's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from chaos.embedded.kubelet.container_records import ProbeState, Record
from chaos.fields import whole_number

AGENT: Final = "kube-probe/1.36"
HEAD: Final = 10 * 1024  # bytes of an answer that are read

MakeSocket = Callable[[], socket.socket]
RunCommand = Callable[[list[str], float], Awaitable[tuple[int, str]]]  # command, timeout -> exit code, output


class ProbeFailed(Exception):
    """The check failed; the message goes into the Event."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The address of a container's checks."""

    address: str
    container: Mapping[str, Any]
    make_socket: MakeSocket
    run: RunCommand

    def port(self, port: int | str) -> int:
        """Resolve a port's number or name. Raises ProbeFailed."""
        if (number := port if isinstance(port, int) else whole_number(port)) is not None:
            return number
        for entry in self.container.get("ports") or []:
            if entry.get("name") == port:
                return int(entry["containerPort"])
        raise ProbeFailed(f"couldn't find port: {port}")


async def connect(make_socket: MakeSocket, host: str, port: int) -> socket.socket:
    """Open a TCP connection; raises ProbeFailed in Go's words."""
    sock = make_socket()
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except OSError as error:
        sock.close()
        raise ProbeFailed(f"dial tcp {host}:{port}: connect: {(os.strerror(error.errno or 0)).lower()}") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def http_get(action: Mapping[str, Any], target: ProbeTarget, timeout: float) -> str:
    """Make an httpGet check; the status line. 200 to 399 is success. Raises ProbeFailed."""
    scheme = (action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.address
    port = target.port(action["port"])
    path = "/" + quote((action.get("path") or "/").lstrip("/"), safe="%/?#[]@!$&'()*+,;=:~")
    url = f"{scheme}://{host}:{port}{path}"
    headers = {"Host": f"{host}:{port}", "User-Agent": AGENT, "Accept": "*/*", "Connection": "close"}
    headers |= {h["name"]: h["value"] for h in action.get("httpHeaders") or []}
    for name, value in headers.items():
        if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
            raise ProbeFailed(f'Get "{url}": net/http: invalid header field value for "{name}"')
    try:
        async with asyncio.timeout(timeout):
            sock = await connect(target.make_socket, host, port)
            try:
                context = None
                if scheme == "https":
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                reader, writer = await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname="" if context else None
                )
            except BaseException:
                sock.close()
                raise
            try:
                head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(head.encode() + b"\r\n")
                line = (await reader.readline()).decode("latin-1").strip()
            finally:
                writer.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
    except TimeoutError:
        raise ProbeFailed(
            f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from None
    except ProbeFailed as error:
        raise ProbeFailed(f'Get "{url}": {error}') from None
    except OSError as error:
        raise ProbeFailed(f'Get "{url}": {error.strerror or error}') from None
    parts = line.split(" ", 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise ProbeFailed(f'Get "{url}": EOF')
    if not 200 <= int(parts[1]) < 400:
        raise ProbeFailed(f"HTTP probe failed with statuscode: {parts[1]}")
    return line


async def tcp_open(action: Mapping[str, Any], target: ProbeTarget, timeout: float) -> str:
    """Make a tcpSocket check. Raises ProbeFailed."""
    host, port = action.get("host") or target.address, target.port(action["port"])
    try:
        async with asyncio.timeout(timeout):
            (await connect(target.make_socket, host, port)).close()
    except TimeoutError:
        raise ProbeFailed(f"dial tcp {host}:{port}: i/o timeout") from None
    return ""


async def grpc_health(action: Mapping[str, Any], target: ProbeTarget, timeout: float) -> str:
    """Call grpc.health.v1.Health/Check over plain HTTP/2. Raises ProbeFailed."""
    port = target.port(action["port"])
    try:
        async with asyncio.timeout(timeout):
            sock = await connect(target.make_socket, target.address, port)
            status = await _grpc_check(sock, target.address, port, action.get("service") or "")
    except TimeoutError:
        raise ProbeFailed(f'timeout: failed to connect service "{target.address}:{port}" within {timeout:g}s') from None
    if status != 1:
        word = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
        raise ProbeFailed(f'service unhealthy (responded with "{word}")')
    return ""


async def _grpc_check(sock: socket.socket, host: str, port: int, service: str) -> int:
    """The service's status; raises ProbeFailed for any other answer."""
    from h2.config import H2Configuration  # only where a pod asks for it: not a cost of starting the cluster
    from h2.connection import H2Connection
    from h2.events import DataReceived, StreamEnded, StreamReset
    from h2.exceptions import ProtocolError

    reader, writer = await asyncio.open_connection(sock=sock)
    connection = H2Connection(H2Configuration(client_side=True))
    body = b""
    try:
        connection.initiate_connection()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": f"{host}:{port}",
            ":path": "/grpc.health.v1.Health/Check",
            "content-type": "application/grpc",
            "te": "trailers",
            "user-agent": AGENT,
        }
        connection.send_headers(1, list(headers.items()))
        name = service.encode()
        message = b"\x0a" + bytes([len(name)]) + name if name else b""
        connection.send_data(1, b"\x00" + len(message).to_bytes(4, "big") + message, end_stream=True)
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                raise ProbeFailed("error reading from server: EOF")
            for event in connection.receive_data(data):
                if isinstance(event, DataReceived):
                    body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, StreamReset):
                    raise ProbeFailed("the server reset the stream")
                elif isinstance(event, StreamEnded):
                    if len(body) < 5:
                        raise ProbeFailed("the server does not serve grpc.health.v1.Health for this service")
                    return body[6] if len(body) >= 7 and body[5] == 0x08 else 0
    except (ProtocolError, OSError) as error:
        raise ProbeFailed(f"connection error: {error}") from None
    finally:
        writer.close()


async def run_command(action: Mapping[str, Any], target: ProbeTarget, timeout: float) -> str:
    """Make an exec check. Raises ProbeFailed with the command's output."""
    try:
        code, output = await target.run(list(action["command"]), timeout)
    except TimeoutError:
        raise ProbeFailed(f'command timed out: "{" ".join(action["command"])}" timed out after {timeout:g}s') from None
    if code:
        raise ProbeFailed(output[:HEAD])
    return output


CHECKS: Final = {"httpGet": http_get, "tcpSocket": tcp_open, "grpc": grpc_health, "exec": run_command}


async def check(probe: Mapping[str, Any], target: ProbeTarget) -> None:
    """Make the check that the probe defines. Raises ProbeFailed."""
    for kind, function in CHECKS.items():
        if kind in probe:
            await function(probe[kind], target, float(probe.get("timeoutSeconds") or 1))
            return


class Probes:
    """All probes of one running container; `close` it when the container has ended."""

    def __init__(
        self,
        record: Record,
        target: ProbeTarget,
        state: ProbeState,
        *,
        changed: Callable[[], None],
        unhealthy: Callable[[str, str], None],
    ) -> None:
        self.state = state
        self._record = record
        self._target = target
        self._changed = changed
        self._unhealthy = unhealthy
        self._pokes: list[asyncio.Event] = []
        container = record.spec
        state.started = "startupProbe" not in container
        state.ready = state.started and "readinessProbe" not in container
        self._tasks = {
            kind: asyncio.create_task(self._run(kind, container[kind + "Probe"]))
            for kind in ("startup", "liveness", "readiness")
            if container.get(kind + "Probe")
        }

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def ending(self) -> None:
        """Keep only the readiness probe, for clients that still send to a container that is being stopped."""
        for kind, task in self._tasks.items():
            if kind != "readiness":
                task.cancel()

    def poke(self) -> None:
        """Probe readiness at once, as the kubelet does after a status write while the container is not ready."""
        for event in self._pokes:
            event.set()

    async def _run(self, kind: str, probe: Mapping[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        period = float(probe.get("periodSeconds") or 10)
        needed = {True: int(probe.get("successThreshold") or 1), False: int(probe.get("failureThreshold") or 3)}
        delay = float(probe.get("initialDelaySeconds") or 0)
        if delay:
            await asyncio.sleep(delay)
        poke = asyncio.Event()
        if kind == "readiness":
            self._pokes.append(poke)
        due = loop.time()
        run, last = 0, None
        while True:
            if kind == "startup" or self.state.started:
                good, output = True, ""
                try:
                    await check(probe, self._target)
                except ProbeFailed as error:
                    good, output = False, str(error)
                if self._record.state == "exited" or self._record.unseen is not None:
                    return  # the answer of a container that is no more says nothing about the next one
                if not good:
                    self._unhealthy(kind, output)
                run = run + 1 if good == last else 1
                last = good
                if run >= needed[good]:
                    self._settle(kind, good, output)
                    if kind == "startup" or (kind == "liveness" and not good):
                        return
            due = max(due + period, loop.time())
            poke.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):  # not wait_for: before Python 3.12 it may swallow a cancellation
                    await poke.wait()
                due -= period  # out of turn: the rhythm stays

    def _settle(self, kind: str, good: bool, output: str) -> None:
        before = (self.state.started, self.state.ready, self.state.failed)
        if kind == "readiness":
            self.state.ready = good
        elif kind == "startup" and good:
            self.state.started = True
            self.state.ready = "readinessProbe" not in self._record.spec
            self.poke()
        elif not good:
            self.state.failed = "startup" if kind == "startup" else "liveness"
            self.state.failure = output
        if before != (self.state.started, self.state.ready, self.state.failed):
            self._changed()
