"""Connections into pods: log, exec, attach, portforward over WebSockets, and the HTTP proxy. Called by the server.

exec and attach speak `v5.channel.k8s.io` and `v4.channel.k8s.io` (first byte of each message: 0 stdin, 1 stdout, 2
stderr, 3 the final Status, 4 terminal size, 255 end of a stream), portforward `v4.channel.k8s.io` (two channels a port,
each beginning with the port's number), as k8s.io/apimachinery/pkg/util/remotecommand and the `kubernetes` client do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aiohttp import WSMsgType, web

from chaos.embedded.api.calls import Call
from chaos.embedded.api.connections import abort
from chaos.embedded.api.errors import Cause, StatusError, bad_request, invalid, not_allowed, not_served, wrong
from chaos.embedded.api.options import is_true, number
from chaos.embedded.api.schema import is_time
from chaos.embedded.clock import LONGEST, parse_time
from chaos.embedded.node_api import ExecSession, Kubelet, LogOptions
from chaos.embedded.resources import Object, Resource
from chaos.fields import whole_number

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_EXEC_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_FORWARD_PROTOCOLS: Final = ("v4.channel.k8s.io",)
_CHUNK: Final = 32768
_MOST_PORTS: Final = 127  # of a portforward: two channels each, and a channel is a byte
_MAX_MESSAGE: Final = 4 << 20
_PIECE: Final = 1 << 16  # bytes of an answer that are passed on at once
_INTERIM: Final = 10  # answers of the kind 1xx before the one
_URL: Final = re.compile(r"[!-~]*")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})( [\t -~\x80-\xff]*)?")
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[\t ]*(;[\t -~\x80-\xff]*)?\r\n")  # with extensions, unread
_HOP_HEADERS: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "authorization",
        "content-length",
    }
)


def _true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "") in ("true", "1", "True")


def kubelet_of(kubelets: Mapping[str, Kubelet], pod: Object) -> Kubelet:
    """The kubelet of the pod's node; raises StatusError when it cannot be reached."""
    meta, node = pod["metadata"], pod["spec"].get("nodeName", "")
    if not node:
        raise bad_request(f"pod {meta['name']} does not have a host assigned")
    if node not in kubelets:
        raise StatusError(503, f"the kubelet of node {node} cannot be reached")
    return kubelets[node]


def container_of(pod: Object, asked: str) -> str:
    """The requested container; StatusError 400 in Kubernetes' words."""
    spec, meta = pod["spec"], pod["metadata"]
    known = [
        c["name"] for kind in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(kind) or []
    ]
    if asked:
        if asked not in known:
            raise bad_request(f"container {asked} is not valid for pod {meta['name']}")
        return asked
    default = (meta.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if default in known:
        return str(default)
    if len(spec["containers"]) == 1:
        return str(known[0])
    inits = [c["name"] for c in spec.get("initContainers") or []]
    more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise bad_request(
        f"a container name must be specified for pod {meta['name']}, choose one of: "
        f"[{' '.join(c['name'] for c in spec['containers'])}]{more}"
    )


def _no_log(pod: Object, container: str, *, previous: bool) -> StatusError:
    name = pod["metadata"]["name"]
    if previous:
        return bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    statuses = [
        s for kind in ("containerStatuses", "initContainerStatuses") for s in pod.get("status", {}).get(kind, [])
    ]
    status: dict[str, Any] = next((s for s in statuses if s["name"] == container), {})
    reason = (status.get("state", {}).get("waiting") or {}).get("reason", "ContainerCreating")
    return bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')


_POD_LOG_OPTIONS: Final = Resource("", "v1", "PodLogOptions", "podlogoptions")


def _log_options(query: Mapping[str, str], name: str, now: datetime) -> LogOptions:
    """The options of a log request; StatusError 400 for malformed values, 422 for invalid ones."""
    since, tail, most = (number(query, one) for one in ("sinceSeconds", "tailLines", "limitBytes"))
    seconds = None if since is None else min(float(since), LONGEST)
    causes: list[Cause] = []
    if tail is not None and tail < 0:
        causes.append(wrong("tailLines", tail, "must be greater than or equal to 0"))
    if most is not None and most < 1:
        causes.append(wrong("limitBytes", most, "must be greater than 0"))
    if since is not None and "sinceTime" in query:
        causes.append(not_allowed("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif since is not None and since < 1:
        causes.append(wrong("sinceSeconds", since, "must be greater than 0"))
    if "stream" in query:
        causes.append(not_allowed("stream", "may not be specified"))
    if "sinceTime" in query:
        text = query["sinceTime"]
        if not is_time(text):
            layout = "2006-01-02T15:04:05Z07:00"
            raise bad_request(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"')
        seconds = min(max(0.0, (now - parse_time(text)).total_seconds()), LONGEST)
    if causes:
        raise invalid(_POD_LOG_OPTIONS, name, causes)
    return LogOptions(
        follow=is_true(query, "follow"),
        previous=is_true(query, "previous"),
        timestamps=is_true(query, "timestamps"),
        tail_lines=tail,
        since_seconds=seconds,
        limit_bytes=most,
    )


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in tuple[bytes, ...]():
        yield chunk


def log_chunks(kubelets: Mapping[str, Kubelet], pod: Object, call: Call, now: datetime) -> AsyncIterator[bytes]:
    """Read the log by the query's options; raises StatusError at the first chunk."""
    query = call.query
    options = _log_options(query, pod["metadata"]["name"], now)
    container = container_of(pod, query.get("container", ""))
    previous = options.previous
    if not pod["spec"].get("nodeName"):
        return _nothing()  # of a pod without a host there is none, and that is no fault
    kubelet = kubelet_of(kubelets, pod)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in kubelet.logs(call.namespace, call.name, container, options):
                yield chunk
        except LookupError:
            raise _no_log(pod, container, previous=previous) from None

    return chunks()


def _status(code: int) -> bytes:
    """The Status that ends an exec."""
    if code == 0:
        return b'{"metadata":{},"status":"Success"}'
    return json.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    ).encode()


def _upgrade(request: web.BaseRequest, protocols: Sequence[str]) -> web.WebSocketResponse:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        if "spdy" in request.headers.get("Upgrade", "").lower():
            raise not_served("SPDY: use a client that speaks WebSockets (kubectl 1.31 and later does)")
        raise bad_request("Upgrade request required")
    offered = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if one.strip()]
    if offered and not set(offered) & set(protocols):
        raise bad_request(
            f"unable to upgrade: none of the sub-protocols {offered} is supported; use one of {list(protocols)}"
        )
    return web.WebSocketResponse(protocols=protocols, max_msg_size=_MAX_MESSAGE, compress=False, timeout=1.0)


async def exec_in(
    request: web.BaseRequest, kubelets: Mapping[str, Kubelet], pod: Object, call: Call, command: Sequence[str]
) -> web.StreamResponse:
    """Run a command in a container and stream its input and output."""
    container = container_of(pod, call.query.get("container", ""))
    if not command and "Upgrade" in request.headers:
        raise bad_request("you must specify at least 1 command for the container")
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        raise bad_request(f"cannot exec into a container in a completed pod; current phase is {pod['status']['phase']}")
    stdin, tty = _true(call.query, "stdin"), _true(call.query, "tty")

    def begin(kubelet: Kubelet) -> Awaitable[ExecSession]:
        return kubelet.exec(call.namespace, call.name, container, command, stdin=stdin, tty=tty)

    return await _stream(request, kubelet_of(kubelets, pod), call, container, begin)


async def attach(
    request: web.BaseRequest, kubelets: Mapping[str, Kubelet], pod: Object, call: Call
) -> web.StreamResponse:
    """Stream what the container's own process writes from now on, and its input."""
    container = container_of(pod, call.query.get("container", ""))

    def begin(kubelet: Kubelet) -> Awaitable[ExecSession]:
        return kubelet.attach(call.namespace, call.name, container, stdin=_true(call.query, "stdin"))

    return await _stream(request, kubelet_of(kubelets, pod), call, container, begin)


async def _stream(
    request: web.BaseRequest,
    kubelet: Kubelet,
    call: Call,
    container: str,
    begin: Callable[[Kubelet], Awaitable[ExecSession]],
) -> web.StreamResponse:
    """Begin a session, and stream its input and output until one side ends."""
    missing = web.Response(status=500, text=f'container not found ("{container}")')  # in the kubelet's own words
    if not kubelet.runs(call.namespace, call.name, container):
        return missing
    socket = _upgrade(request, _EXEC_PROTOCOLS)
    try:
        session = await begin(kubelet)
    except LookupError:  # it ended meanwhile
        return missing
    try:
        await socket.prepare(request)
        await _converse(socket, session)
    finally:
        session.kill()
    return socket


async def _converse(socket: web.WebSocketResponse, session: ExecSession) -> None:
    pumps = [asyncio.create_task(_send(socket, STDOUT, session.stdout))]
    if session.stderr is not None:
        pumps.append(asyncio.create_task(_send(socket, STDERR, session.stderr)))
    listener = asyncio.create_task(_listen(socket, session))
    waiter = asyncio.create_task(session.wait())
    try:
        await asyncio.wait({listener, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if waiter.done():
            await asyncio.wait(pumps, timeout=5.0)  # a child may keep the pipes open for ever
            if not socket.closed:
                with contextlib.suppress(ConnectionError):
                    await socket.send_bytes(bytes([ERROR]) + _status(waiter.result()))
                    await socket.close()
    finally:
        for task in (*pumps, listener, waiter):
            task.cancel()
        await asyncio.gather(*pumps, listener, waiter, return_exceptions=True)


async def _send(socket: web.WebSocketResponse, channel: int, stream: asyncio.StreamReader) -> None:
    prefix = bytes([channel])
    await socket.send_bytes(prefix)  # clients learn by it that the channel is there
    while chunk := await stream.read(_CHUNK):
        await socket.send_bytes(prefix + chunk)


async def _listen(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """Forward input and terminal sizes until the client disconnects."""
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return
        data = message.data.encode() if isinstance(message.data, str) else message.data
        if not data:
            continue
        channel, payload = data[0], data[1:]
        if channel == STDIN and session.stdin is not None:
            if not payload:
                continue
            session.stdin.write(payload)
            with contextlib.suppress(ConnectionError):
                await session.stdin.drain()
        elif channel == CLOSE and payload[:1] == bytes([STDIN]):
            session.close_stdin()
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error):
                size = json.loads(payload)
                session.resize(int(size["Width"]), int(size["Height"]))


def parse_ports(texts: Sequence[str]) -> list[int]:
    """Parse the `ports` of a portforward query."""
    given = [part for text in texts for part in text.split(",") if part]
    ports = [port for part in given if (port := whole_number(part)) is not None and 0 < port < 65536]
    if not ports or len(ports) < len(given):
        raise bad_request(f"portforward: ports must be numbers from 1 to 65535, got {str(given)[:200]}")
    if len(ports) > _MOST_PORTS:
        raise bad_request(f"portforward: {len(ports)} ports, and at most {_MOST_PORTS} have a channel")
    return ports


async def portforward(
    request: web.BaseRequest, kubelets: Mapping[str, Kubelet], pod: Object, call: Call, ports: Sequence[int]
) -> web.StreamResponse:
    """Open one TCP connection per requested port."""
    kubelet = kubelet_of(kubelets, pod)
    if pod.get("status", {}).get("phase") != "Running":
        raise bad_request(
            f"unable to forward port because pod is not running. Current status={pod.get('status', {}).get('phase')}"
        )
    socket = _upgrade(request, _FORWARD_PROTOCOLS)
    await socket.prepare(request)
    writers: dict[int, asyncio.StreamWriter] = {}
    tasks: list[asyncio.Task[None]] = []
    try:
        for index, port in enumerate(ports):
            number = port.to_bytes(2, "little")
            await socket.send_bytes(bytes([2 * index]) + number)
            await socket.send_bytes(bytes([2 * index + 1]) + number)
            try:
                reader, writers[index] = await kubelet.connect(call.namespace, call.name, port)
            except (OSError, LookupError) as error:
                await socket.send_bytes(
                    bytes([2 * index + 1]) + f"error forwarding port {port} to pod: {error}".encode()
                )
                continue
            tasks.append(asyncio.create_task(_from_pod(socket, 2 * index, reader)))
        async for message in socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            writer = writers.get(message.data[0] // 2)
            if writer is not None and message.data[0] % 2 == 0:
                writer.write(message.data[1:])
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
    finally:
        for task in tasks:
            task.cancel()
        for writer in writers.values():
            writer.close()
        await asyncio.gather(*tasks, return_exceptions=True)
    return socket


async def _from_pod(socket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):  # a pod that is killed may reset what it has not read
        while chunk := await reader.read(_CHUNK):
            await socket.send_bytes(bytes([channel]) + chunk)
    with contextlib.suppress(ConnectionError):
        await socket.close()


# The HTTP proxy


def proxied_port(pod: Object, text: str) -> int:
    """The port of `pods/NAME:PORT/proxy`; the first container port when none is named."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or []]
    if not text:
        return int(ports[0]["containerPort"]) if ports else 80
    if 0 < (number := whole_number(text) or 0) < 65536:
        return number
    named = next((port["containerPort"] for port in ports if port.get("name") == text), None)
    if named is None:
        raise StatusError(503, f'no port named "{text}" in pod {pod["metadata"]["name"]}', reason="ServiceUnavailable")
    return int(named)


async def proxy(
    request: web.BaseRequest, kubelet: Kubelet, pod: Object, port: int, path: str, body: bytes
) -> web.StreamResponse:
    """Make one HTTP/1.1 exchange with a port of a pod, streamed; StatusError 503 when nothing answers.

    The pod is not trusted: its answer is passed on in pieces, and a broken or invalid one, after its head was passed
    on, ends the caller's connection, so that no part of it is taken for another answer.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    query = request.rel_url.raw_query_string
    if not _URL.fullmatch(query):
        raise bad_request("the query of a proxied request must be percent-encoded")
    lines = [
        f"{request.method} {path}{'?' + query if query else ''} HTTP/1.1",
        f"Host: {name}:{port}",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{key}: {value}" for key, value in request.headers.items() if key.lower() not in _HOP_HEADERS]
    if any("\r" in line or "\n" in line for line in lines):
        raise bad_request("a header of a proxied request contains a line break")
    try:
        reader, writer = await kubelet.connect(namespace, name, port)
    except (OSError, LookupError) as error:
        why = str(error)
        if isinstance(error, ConnectionRefusedError):
            why = f"dial tcp {(pod.get('status') or {}).get('podIP', '')}:{port}: connect: connection refused"
        raise StatusError(503, f"error trying to reach service: {why}", reason="ServiceUnavailable") from None
    response: web.StreamResponse | None = None
    try:
        writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body)
        await writer.drain()
        status, headers = await _head(reader)
        length, chunked = framing(headers)
        begun = web.StreamResponse(status=status, headers=[(k, v) for k, v in headers if k.lower() not in _HOP_HEADERS])
        if length is not None:
            begun.content_length = length
        await begun.prepare(request)
        response = begun
        if request.method != "HEAD" and status not in (204, 304):
            async for chunk in _content(reader, chunked=chunked, length=length):
                await response.write(chunk)
        await response.write_eof()
        return response
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, ConnectionError) as error:
        if response is not None:
            if request.transport is not None:
                abort(request.transport)
            raise ConnectionResetError(f"the pod's answer ended early: {error}") from None
        raise StatusError(
            503, f"error trying to reach service: {type(error).__name__}: {error}", reason="ServiceUnavailable"
        ) from None
    finally:
        abort(writer.transport)  # what it has not read, it need not read


async def _head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[str, str]]]:
    for _ in range(_INTERIM):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        found = _STATUS_LINE.fullmatch(head[0])
        if found is None:
            raise ValueError(f"the answer is not HTTP: {head[0][:60]!r}")
        status = int(found.group(1))
        if status == 101:
            raise ValueError("the answer switches protocols, which was not requested")
        if status >= 200:
            rows = [line.partition(":") for line in head[1:]]
            if not all(colon and _TOKEN.fullmatch(key) and _VALUE.fullmatch(value) for key, colon, value in rows):
                raise ValueError("the answer has a malformed header")
            return status, [(key, value.strip(" \t")) for key, _, value in rows]
    raise ValueError(f"no answer came after {_INTERIM} interim ones")


def framing(headers: Sequence[tuple[str, str]]) -> tuple[int | None, bool]:
    """(length of a body or None when it ends with the connection, whether it is chunked). Raises ValueError for headers
    that two readers could interpret differently (RFC 9112, 6.3).
    """
    codings = [value.lower() for key, value in headers if key.lower() == "transfer-encoding"]
    lengths = {value for key, value in headers if key.lower() == "content-length"}
    if codings:
        if codings != ["chunked"] or lengths:
            raise ValueError(f"unsupported Transfer-Encoding {codings} with Content-Length {sorted(lengths)}")
        return None, True
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(value) for value in lengths):
        raise ValueError(f"invalid Content-Length {sorted(lengths)}")
    return (int(lengths.pop()), False) if lengths else (None, False)


async def _content(reader: asyncio.StreamReader, *, chunked: bool, length: int | None) -> AsyncIterator[bytes]:
    if not chunked:
        async for piece in _pieces(reader, length):
            yield piece
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise ValueError(f"invalid chunk size {line[:20]!r}")
        if not (left := int(size.group(1), 16)):
            return
        async for piece in _pieces(reader, left):
            yield piece
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk is longer than its declared size")


async def _pieces(reader: asyncio.StreamReader, left: int | None) -> AsyncIterator[bytes]:
    """Read `length` bytes, or all to the end, in small pieces."""
    while left is None or left > 0:
        piece = await reader.read(_PIECE if left is None else min(_PIECE, left))
        if not piece:
            if left:
                raise asyncio.IncompleteReadError(b"", left)
            return
        left = None if left is None else left - len(piece)
        yield piece


def exec_command(query: Any) -> list[str]:
    """All `command` parameters, in order."""
    return list(query.getall("command", []))
