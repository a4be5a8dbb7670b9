"""The loader's orders: flows and aggressors, from JSON, with every problem in one error.

A flow's JSON (in the environment variable `LOADER_FLOWS`, a list, or in `POST /flows`):
`{"name": "http", "server": "tenant-a/server", "target": "server:80", "protocol": "http1", "rate": 200}`.
All other fields have the defaults below.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from chaos.errors import Misuse
from chaos.fields import Fields


class Protocol(StrEnum):
    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"  # frames with sequence numbers, of the reference servers
    PLAIN = "plain"  # bytes over TCP, of which nothing is known
    TLS = "tls"  # the same over TLS

    @property
    def of_requests(self) -> bool:
        """Whether it says itself where an answer ends, and what it answers."""
        return self not in (Protocol.PLAIN, Protocol.TLS)


class Answer(StrEnum):
    """What ends a request of bytes, beside a number of bytes."""

    ANY = "any"  # the first bytes that come
    CONNECTED = "connected"  # the connection, with its handshake


class Arrival(StrEnum):
    UNIFORM = "uniform"
    POISSON = "poisson"


class Profile(StrEnum):
    """How an aggressor overloads its path."""

    REQUESTS = "requests"
    HANDSHAKES = "handshakes"  # a new connection for each request
    BODIES = "bodies"
    SLOW_READERS = "slow-readers"  # large answers, read slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSpec:
    """One stream of requests. `rate` 0 stops it. Times in seconds, sizes in bytes."""

    name: str  # unique within this loader
    server: str  # namespace/workload: whom it calls, for the history
    target: str  # host:port
    protocol: Protocol = Protocol.HTTP1
    rate: float = 200.0  # requests a second
    label: str = ""  # of the history's flow, when one pair of workloads has several
    sentinel: bool = False
    arrival: Arrival = Arrival.UNIFORM
    seed: int = 0
    connections: int = 8  # kept open and used in turn (http1), or shared by all requests (http2, grpc, tcp)
    new_connections: bool = False  # one for each request
    in_flight: int = 512  # more than this are shed: counted, recorded, never sent
    timeout: float = 1.0  # from when the request was due
    method: str = "GET"  # POST when there is a body and nothing else is said
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    answer_bytes: int = 0  # asked of the server; 0: the body comes back
    expect_status: int = 200
    echoes: bool = True  # a reference server: it names itself, and returns the request's number and body
    slow_reader: float = 0.0  # bytes a second at which the answer is read; 0: at once
    keep_every: int = 1  # store each n-th sample; counts stay whole
    # Of plain and tls:
    send: str = ""  # in base64, sent at the beginning of each request; "": nothing
    answer: str = Answer.ANY  # `Answer`, or a number of bytes
    ca: str = ""  # trust anchors in PEM; "": those of the pod's image
    sni: str = ""  # the server's name in the handshake; "": the target's host
    insecure: bool = False  # believe any certificate

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class AggressorSpec:
    """Load that grows by `growth` each `step` until its path saturates, and is then held at `overload` times that
    rate.

    It ends by itself after `seconds`, whoever started it.
    """

    profile: Profile
    server: str
    target: str
    seconds: float
    protocol: Protocol = Protocol.HTTP1
    start_rate: float = 200.0
    max_rate: float = 50_000.0
    growth: float = 1.5
    step: float = 0.3
    overload: float = 1.3
    connections: int = 32
    in_flight: int = 1024
    timeout: float = 2.0
    body_bytes: int = 256 * 1024  # of bodies
    answer_bytes: int = 1024 * 1024  # of slow readers
    slow_reader: float = 64 * 1024.0
    keep_every: int = 10
    arrival: Arrival = Arrival.UNIFORM
    seed: int = 0
    path: str = "/"
    expect_status: int = 200
    echoes: bool = True
    method: str = ""  # as the profile says when it is empty
    headers: Mapping[str, str] = field(default_factory=dict)


_Spec = TypeVar("_Spec", FlowSpec, AggressorSpec)
_MAY_BE_ZERO: Final = frozenset({"rate", "seed", "body_bytes", "answer_bytes", "slow_reader"})


def _build(cls: type[_Spec], data: Any) -> _Spec:
    problems: list[str] = []
    top = Fields(data, "", problems, known=[one.name for one in fields(cls)])
    values = top.of(cls)
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            top.number(name, default=1, low=0.0 if name in _MAY_BE_ZERO else None)
    target = values.get("target", "host:1")
    if isinstance(target, str) and not (target.rpartition(":")[0] and target.rpartition(":")[2].isdigit()):
        top.wrong("target", f"is {target!r}, and should be HOST:PORT")
    if problems:
        raise Misuse(f"loader: {top.values.get('name') or top.values.get('profile') or 'flow'}: {'; '.join(problems)}")
    return cls(**values)


def flow_from(data: Any) -> FlowSpec:
    """Parse a flow's JSON object; raises Misuse with every problem."""
    if isinstance(data, dict) and data.get("body_bytes") and "method" not in data:
        data = {**data, "method": "POST"}
    flow = _build(FlowSpec, data)
    if not flow.protocol.of_requests and (problems := _of_bytes(flow)):
        raise Misuse(f"loader: {flow.name}: {'; '.join(problems)}")
    return flow


def _of_bytes(flow: FlowSpec) -> list[str]:
    """Return what is wrong with a flow of bytes."""
    problems = []
    try:
        b64decode(flow.send, validate=True)
    except ValueError:
        problems.append(f"send is {flow.send!r}, and should be base64")
    numbered = flow.answer.isdigit() and int(flow.answer) > 0
    if not numbered and flow.answer not in [*Answer]:
        problems.append(f"answer is {flow.answer!r}, and should be {', '.join(Answer)} or a number of bytes")
    elif not numbered and not flow.new_connections:
        problems.append(f"answer is {flow.answer}: a kept connection wants a number of bytes")
    if flow.ca:
        import ssl  # slow to import, and only here of use

        try:
            ssl.create_default_context(cadata=flow.ca)
        except (ssl.SSLError, ValueError) as error:
            problems.append(f"ca holds no certificates in PEM: {error}")
    return problems


def flows_from(text: str | bytes) -> list[FlowSpec]:
    """Parse flows from a JSON list, or from an object with `flows`; raises Misuse."""
    try:
        data = json.loads(text or "[]")
    except ValueError as error:
        raise Misuse(f"loader: not JSON: {error}") from error
    if isinstance(data, dict):
        data = data.get("flows", [data])
    if not isinstance(data, list):
        raise Misuse("loader: expected a list of flows")
    flows = [flow_from(item) for item in data]
    names = [flow.name for flow in flows]
    if len(set(names)) != len(names):
        raise Misuse(f"loader: flow names must differ, got {', '.join(names)}")
    return flows


def aggressor_from(data: Any) -> AggressorSpec:
    """Parse an aggressor's JSON object; raises Misuse with every problem."""
    spec = _build(AggressorSpec, data)
    if not spec.protocol.of_requests:
        raise Misuse(f"loader: {spec.profile}: an overload is of requests, and {spec.protocol} has none")
    return spec


def aggressor_flow(spec: AggressorSpec) -> FlowSpec:
    """Return the flow that an aggressor drives, at its first rate."""
    profile = spec.profile
    return FlowSpec(
        name=f"aggressor-{profile}",
        label=f"aggressor-{profile}",
        server=spec.server,
        target=spec.target,
        protocol=spec.protocol,
        rate=spec.start_rate,
        arrival=spec.arrival,
        seed=spec.seed,
        connections=spec.connections,
        in_flight=spec.in_flight,
        timeout=spec.timeout,
        keep_every=spec.keep_every,
        path=spec.path,
        expect_status=spec.expect_status,
        echoes=spec.echoes,
        new_connections=profile is Profile.HANDSHAKES,
        method=spec.method or ("POST" if profile is Profile.BODIES else "GET"),
        headers=spec.headers,
        body_bytes=spec.body_bytes if profile is Profile.BODIES else 0,
        answer_bytes=spec.answer_bytes if profile is Profile.SLOW_READERS else 0,
        slow_reader=spec.slow_reader if profile is Profile.SLOW_READERS else 0.0,
    )
