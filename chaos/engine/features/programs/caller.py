"""Runs inside a pod: makes a few calls as an application would, and reports what each returned.

`caller JSON`, a list of objects with the fields of `CallSpec`; prints for each a JSON list
of replies. One request after the other: the checks count and compare requests, they do not load anything.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from chaos.apps.wire import FRAME

_GRPC: Final = [("te", "trailers"), ("content-type", "application/grpc")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpec:
    """One call to make."""

    host: str
    port: int
    protocol: str = "http1"  # http1 | grpc | tcp
    requests: int = 1
    keep: bool = False  # all requests on one connection
    method: str = "GET"
    path: str = "/"
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float = 3.0  # seconds, of each
    pause: float = 0.0  # seconds between them


@dataclass(slots=True)
class CallReply:
    """The reply to a call. `status` 0: no answer."""

    status: int = 0
    pod: str = ""
    attempts: int = 0  # as the proxy that balances counts them
    ms: float = 0.0
    body: str = ""
    error: str = ""


class _Http1:
    def __init__(self, call: CallSpec) -> None:
        self.call = call
        self.connection = http.client.HTTPConnection(call.host, call.port, timeout=call.timeout)

    def ask(self) -> CallReply:
        call = self.call
        self.connection.request(call.method, call.path, call.body.encode() or None, call.headers)
        answer = self.connection.getresponse()
        body = answer.read().decode(errors="replace")
        return CallReply(
            answer.status,
            answer.headers.get("x-pod", ""),
            int(answer.headers.get("x-envoy-attempt-count", 0)),
            body=body,
        )

    def close(self) -> None:
        self.connection.close()


class _Grpc:
    """HTTP/2 with prior knowledge and gRPC's framing on it."""

    def __init__(self, call: CallSpec) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self.call = call
        self.socket = socket.create_connection((call.host, call.port), call.timeout)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()

    def ask(self) -> CallReply:
        call, payload = self.call, self.call.body.encode()
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", call.host),
                (":path", "/sharedfate.Echo/Unary"),
                *_GRPC,
                *call.headers.items(),
            ],
        )
        self.h2.send_data(stream, b"\0" + len(payload).to_bytes(4, "big") + payload, end_stream=True)
        fields: dict[str, str] = {}
        body = b""
        while True:
            self.socket.sendall(self.h2.data_to_send())
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionResetError("the connection was closed")
            for event in self.h2.receive_data(data):
                if getattr(event, "stream_id", stream) != stream:
                    continue
                kind = type(event).__name__
                if kind in ("ResponseReceived", "TrailersReceived"):
                    fields |= dict(event.headers)
                elif kind == "DataReceived":
                    body += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif kind in ("StreamReset", "ConnectionTerminated"):
                    raise ConnectionResetError(kind)
                elif kind == "StreamEnded":
                    self.socket.sendall(self.h2.data_to_send())
                    good = fields.get("grpc-status") == "0"
                    return CallReply(
                        200 if good else int(fields[":status"]) if fields[":status"] != "200" else 500,
                        fields.get("x-pod", ""),
                        int(fields.get("x-envoy-attempt-count", 0)),
                        body=body[5:].decode(errors="replace"),
                        error="" if good else str(fields.get("grpc-message", "")),
                    )

    def close(self) -> None:
        self.socket.close()


class _Tcp:
    """One frame of the reference streams, echoed."""

    def __init__(self, call: CallSpec) -> None:
        self.call = call
        self.socket = socket.create_connection((call.host, call.port), call.timeout)
        self.socket.settimeout(call.timeout)

    def ask(self) -> CallReply:
        payload = self.call.body.encode()
        self.socket.sendall(FRAME.pack(len(payload), 0, 1) + payload)
        size, pod, _ = FRAME.unpack(self._read(FRAME.size))
        name = self._read(pod).decode()
        return CallReply(200, name, body=self._read(size).decode(errors="replace"))

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self.socket.recv(size - len(found))
            if not data:
                raise ConnectionResetError("the stream was closed")
            found += data
        return found

    def close(self) -> None:
        self.socket.close()


_KINDS: Final[dict[str, type[_Http1] | type[_Grpc] | type[_Tcp]]] = {"http1": _Http1, "grpc": _Grpc, "tcp": _Tcp}


def run(call: CallSpec) -> list[CallReply]:
    """All requests, one after the other."""
    replies: list[CallReply] = []
    line: _Http1 | _Grpc | _Tcp | None = None
    for number in range(call.requests):
        if number and call.pause:
            time.sleep(call.pause)
        begin = time.monotonic()
        try:
            line = line or _KINDS[call.protocol](call)
            reply = line.ask()
        except (OSError, http.client.HTTPException) as error:
            reply = CallReply(error=f"{type(error).__name__}: {error}")
        reply.ms = (time.monotonic() - begin) * 1e3
        replies.append(reply)
        if line is not None and (not call.keep or not reply.status):
            line.close()
            line = None
    if line is not None:
        line.close()
    return replies


def main() -> None:
    calls: list[dict[str, Any]] = json.loads(sys.argv[1])
    print(json.dumps([[asdict(reply) for reply in run(CallSpec(**call))] for call in calls]))


if __name__ == "__main__":
    main()
