"""The ways to a pod's port that pass no proxy of the mesh, and HTTP over those that are streams.

`pods/NAME:PORT/proxy` has the API server dial the pod, which on many managed clusters it cannot (a firewall lets it
reach the kubelet's 10250 alone). Port-forward and exec go through the kubelet: each gives a stream to the port from
inside the pod's network namespace, over a WebSocket, and HTTP/1.1 goes over that, on connections that are kept.
"""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, cast

import urllib3

from chaos.errors import ApiError

OpenStream = Callable[[str, str, int], "Stream"]  # namespace, pod, port -> a new stream to it
_AT_ONCE: Final = 4  # connections to one pod: a collector, a trial, a look
_KEPT: Final = 64  # pods with open connections
_REFUSED: Final = 503  # what the API server's own proxy answers when a pod's port does not


class Way(StrEnum):
    """How a pod's port is reached; the value is shown to people."""

    PROXY = "pods/proxy"
    FORWARD = "port-forward"
    EXEC = "exec"


class Stream:
    """A byte stream over the channels of a WebSocket: as much of a socket as an HTTP client needs.

    The first byte of each message is its channel. What comes on another channel than `reads` is the other side's
    word on why the stream ended.

    Args:
        websocket: of the `websocket` package, connected.
        writes: channel of what is sent.
        reads: channel of what is received.
        unread: first messages of each channel that carry no data (port-forward begins with the port's number).
        what: for errors.
    """

    def __init__(self, websocket: Any, *, writes: int, reads: int, unread: int, what: str) -> None:
        self._websocket = websocket
        self._writes, self._reads, self._what = bytes([writes]), reads, what
        self._unread = dict.fromkeys(range(4), unread)
        self._rest = b""
        self._said = b""
        self._files = 0
        self._closed = False

    def sendall(self, data: bytes) -> None:
        self._translated(lambda: self._websocket.send_binary(self._writes + bytes(data)), sends=True)

    def receive(self, most: int) -> bytes:
        """Return the next bytes; none at the end. Raises ApiError, code 503, with what the other side said instead."""
        while not self._rest:
            message = self._translated(self._websocket.recv)
            if not message:
                if self._said:
                    raise self._refused()
                return b""
            data = message.encode() if isinstance(message, str) else message
            channel, payload = data[0], data[1:]
            if self._unread.get(channel):
                self._unread[channel] -= 1
            elif channel == self._reads:
                self._rest = payload
            elif channel in self._unread and payload:
                final = _final_word(payload)
                if final == "":
                    return b""
                self._said += b" " + payload if final is None else f" {final}".encode()
                if channel % 2:  # the channel of the final word; standard error goes on
                    raise self._refused()
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    def _refused(self) -> ApiError:
        words = " ".join(self._said.decode(errors="replace").split())
        return ApiError(f"{self._what}: {words}", code=_REFUSED, reason="ServiceUnavailable")

    def _translated(self, call: Callable[[], Any], *, sends: bool = False) -> Any:
        from websocket import WebSocketConnectionClosedException, WebSocketException, WebSocketTimeoutException

        try:
            return call()
        except WebSocketTimeoutException as error:
            raise TimeoutError(f"{self._what}: {error}") from error
        except WebSocketConnectionClosedException as error:
            if sends:
                raise ConnectionResetError(f"{self._what}: {error}") from error
            return b""
        except WebSocketException as error:
            raise ConnectionError(f"{self._what}: {error}") from error

    # ---- what http.client and urllib3 ask of a socket

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        assert mode == "rb"
        self._files += 1
        return io.BufferedReader(_Reader(self))

    def settimeout(self, seconds: float | None) -> None:
        self._websocket.settimeout(seconds)

    def setsockopt(self, *_: Any) -> None:
        """Ignored: the connection's options are those of the WebSocket below."""

    def fileno(self) -> int:
        return int(self._websocket.fileno())

    def close(self) -> None:
        self._closed = True
        self._end()

    def let_go(self) -> None:
        """Count down the files open on the stream."""
        self._files -= 1
        self._end()

    def _end(self) -> None:
        if self._closed and self._files <= 0:  # as of a socket: it ends with its last file
            self._websocket.shutdown()


def _final_word(payload: bytes) -> str | None:
    """Return the message of a command's final Status: "" for success; None for any other text."""
    try:
        status = json.loads(payload)
        return "" if status["status"] == "Success" else str(status.get("message") or status)
    except (ValueError, KeyError, TypeError):
        return None


class _Reader(io.RawIOBase):
    """The stream as the file that an HTTP response reads from."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.let_go()
        super().close()


class PodConnections:
    """HTTP connections to ports of pods, over streams. Thread-safe.

    Args:
        open_stream: a new stream to that port; raises ApiError, OSError or urllib3's HTTPError.
    """

    def __init__(self, open_stream: OpenStream) -> None:
        self._open = open_stream
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str, int], urllib3.HTTPConnectionPool] = {}

    def exchange(
        self,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        *,
        method: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and read its whole response; raises urllib3's HTTPError, and ApiError where the way itself
        refuses.

        A GET on a connection that was kept is asked again on a new one when that turns out to have ended; what changes
        something is sent once, on a connection of its own.
        """
        if method != "GET":
            pool = self._pool(namespace, pod, port)
            try:
                return _ask(pool, method, path, body, headers, timeout)
            finally:
                pool.close()
        pool = self._kept(namespace, pod, port)
        opened = pool.num_connections
        try:
            return _ask(pool, method, path, body, headers, timeout)
        except (urllib3.exceptions.ProtocolError, ApiError):
            if pool.num_connections > opened:  # a new one failed as well
                raise
            return _ask(pool, method, path, body, headers, timeout)

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def _kept(self, namespace: str, pod: str, port: int) -> urllib3.HTTPConnectionPool:
        key = (namespace, pod, port)
        with self._lock:
            pool = self._pools.pop(key, None) or self._pool(*key)
            self._pools[key] = pool  # at the end: the first is the one that was not used for longest
            forgotten = [self._pools.pop(next(iter(self._pools)))] if len(self._pools) > _KEPT else []
        for old in forgotten:
            old.close()
        return pool

    def _pool(self, namespace: str, pod: str, port: int) -> urllib3.HTTPConnectionPool:
        open_stream = self._open

        class Connection(urllib3.connection.HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return cast("socket.socket", open_stream(namespace, pod, port))

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool(pod, port, maxsize=_AT_ONCE, retries=False)


def _ask(
    pool: urllib3.HTTPConnectionPool,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
    timeout: float,
) -> urllib3.BaseHTTPResponse:
    waits = urllib3.Timeout(connect=timeout, read=timeout)
    return pool.urlopen(method, path, body=body, headers=headers, timeout=waits, redirect=False)
