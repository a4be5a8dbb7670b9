"""The target file: which namespaces are tenants, who calls whom and how the server is reached, and what mesh it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from chaos.documents import read_yaml, shown
from chaos.errors import Misuse
from chaos.external import exchange
from chaos.external.description import NO_MESH, MeshDescription
from chaos.external.exchange import NOTHING_SENT, Exchange, parse_exchange
from chaos.external.parsing import built_in, parse_description
from chaos.fields import Fields
from chaos.model.modes import MODES

_KEY: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
AUTO: Final = "auto"
_OF_REQUESTS: Final = ("method", "path", "headers", "status", "body-bytes")
_CALL: Final = ("client", "server", "reach", "protocol", "rate", *_OF_REQUESTS, *exchange.WORDS, *exchange.TLS_WORDS)
_METHODS: Final = ("", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_REACH: Final = re.compile(r"(?:[^/:\s\[\]]+|\[[0-9A-Fa-f:.]+\]):\d+")


class CallProtocol(StrEnum):
    """What a client speaks to its server."""

    HTTP = "http"  # HTTP/1.1
    HTTP2 = "http2"  # HTTP/2 with prior knowledge
    GRPC = "grpc"
    TCP = "tcp"  # bytes; what travels is not looked into
    TLS = "tls"  # the application's own: a proxy passes it on unread


@dataclass(frozen=True, slots=True)
class Call:
    """A client workload that calls a server workload, both `namespace/name`.

    Attributes:
        reach: HOST:PORT by which a loader in the client's namespace reaches the server; "" when none is to be loaded.
        protocol: that is spoken there.
        method, path, headers: of the requests; body_bytes: of each request's body; rate: how many a second.
        status: the expected one.
        exchange: what is sent and awaited over TCP and TLS.
    """

    client: str
    server: str
    reach: str = ""
    path: str = "/"
    rate: float = 200.0
    status: int = 200
    protocol: CallProtocol = CallProtocol.HTTP
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    exchange: Exchange = NOTHING_SENT

    @property
    def loaded(self) -> bool:
        """Whether a loader stands in for its client: the file says how the server is reached."""
        return bool(self.reach)

    @property
    def by_request(self) -> bool:
        """Whether a proxy can tell one request from the next; not for TCP, nor for the application's own TLS."""
        return self.protocol not in (CallProtocol.TCP, CallProtocol.TLS)

    @property
    def spread(self) -> bool:
        """Whether each request finds its server anew: a proxy can tell them apart, or each has its connection."""
        return self.by_request or (self.loaded and not self.exchange.keep)

    @property
    def accepted_only(self) -> bool:
        """Whether its requests end well as soon as somebody accepts: a proxy, or the kernel of a server that hangs."""
        return self.protocol is CallProtocol.TCP and self.loaded and self.exchange.answer == exchange.CONNECTED

    @property
    def namespaces(self) -> tuple[str, str]:
        return self.client.partition("/")[0], self.server.partition("/")[0]


@dataclass(frozen=True, slots=True)
class TargetSystem:
    """The content of a target file. `mesh` None: to be detected.

    Attributes:
        label: what the file called its mesh: the name of one of its modes, say.
    """

    tenants: dict[str, tuple[str, ...]]  # tenant -> its namespaces
    calls: tuple[Call, ...]
    mesh: MeshDescription | None
    label: str = ""

    @property
    def name(self) -> str:
        """The mesh's, as a proxy mode in reports."""
        return self.label or (self.mesh.name if self.mesh else AUTO)

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(space for spaces in self.tenants.values() for space in spaces))

    def tenant_of(self, namespace: str) -> str:
        """The tenant that a namespace belongs to."""
        return next(tenant for tenant, spaces in self.tenants.items() if namespace in spaces)


def read_target(file: Path) -> TargetSystem:
    """Read a target file; raises Misuse that names the file and every field that is wrong."""
    return parse_target(read_yaml(file), source=shown(file), folder=file.parent)


def parse_target(document: Any, *, source: str, folder: Path = Path()) -> TargetSystem:
    """Parse a target from a document; raises one Misuse with every problem. Paths in it are relative to `folder`."""
    problems: list[str] = []
    top = Fields(document, "", problems, known=("version", "tenants", "calls", "mesh"))
    if top.values.get("version") != 1:
        top.wrong("version", f"is {top.values.get('version')!r}, and should be 1")
    tenants: dict[str, tuple[str, ...]] = {}
    for i, one in enumerate(top.items("tenants", needed=True)):
        entry = Fields(one, f"tenants[{i}]", problems, known=("name", "namespaces"))
        tenants[entry.text("name")] = tuple(map(str, entry.items("namespaces", needed=True)))
    spaces = [space for names in tenants.values() for space in names]
    if twice := sorted({space for space in spaces if spaces.count(space) > 1}):
        top.wrong("tenants", f"have {', '.join(twice)} more than once: a namespace belongs to one tenant")
    calls = tuple(
        _call(one, f"calls[{i}]", problems, spaces, folder) for i, one in enumerate(top.items("calls", needed=True))
    )
    pairs = [(call.client, call.server) for call in calls]
    if repeated := sorted({f"{client} -> {server}" for client, server in pairs if pairs.count((client, server)) > 1}):
        top.wrong("calls", f"have {', '.join(repeated)} more than once: one flow is judged of each")
    mesh: MeshDescription | None = None
    label = ""
    said = top.values.get("mesh", AUTO)
    try:
        if isinstance(said, dict):
            mesh = parse_description(said, source=source, where="mesh")
            if mesh.name in MODES:
                problems.append(f"mesh.name is {mesh.name!r}, a proxy mode of our own: take another")
        elif said == NO_MESH.name:
            mesh = NO_MESH
        elif said != AUTO:
            mesh, label = built_in(str(said)), str(said)
    except Misuse as error:
        problems.append(str(error).removeprefix(f"{source}: "))
    if problems:
        raise Misuse(f"{source}: {'; '.join(problems)}")
    return TargetSystem(tenants, calls, mesh, label)


def parse_call(value: Mapping[str, Any], *, source: str) -> Call:
    """Parse a single loaded call, as in a target file's `calls`; raises one Misuse with every problem."""
    problems: list[str] = []
    spaces = [str(value.get(end, "")).partition("/")[0] for end in ("client", "server")]
    found = _call(value, "", problems, spaces, Path())
    if not found.reach:
        problems.append("reach is missing: HOST:PORT by which the client's namespace reaches the server")
    if problems:
        raise Misuse(f"{source}: {'; '.join(problems)}")
    return found


def _call(value: Any, where: str, problems: list[str], spaces: list[str], folder: Path) -> Call:
    entry = Fields(value, where, problems, known=_CALL)
    ends = {name: entry.text(name) for name in ("client", "server")}
    for name, key in ends.items():
        if not key:
            continue
        if not _KEY.fullmatch(key):
            entry.wrong(name, f"is {key!r}, and should be NAMESPACE/WORKLOAD")
        elif key.partition("/")[0] not in spaces:
            entry.wrong(name, f"is {key!r}, and no tenant has namespace {key.partition('/')[0]!r}")
    reach = entry.text("reach", default="")
    if reach and not _REACH.fullmatch(reach):
        entry.wrong("reach", f"is {reach!r}, and should be HOST:PORT, an IPv6 address in brackets")
    protocol = CallProtocol(entry.text("protocol", default=CallProtocol.HTTP.value, one_of=[*CallProtocol]))
    unspoken = {
        CallProtocol.TCP: (*_OF_REQUESTS, *exchange.TLS_WORDS),
        CallProtocol.TLS: _OF_REQUESTS,
        # always POST; well is what `grpc-status: 0` says
        CallProtocol.GRPC: ("method", "status", *exchange.WORDS, *exchange.TLS_WORDS),
    }
    for name in unspoken.get(protocol, (*exchange.WORDS, *exchange.TLS_WORDS)):
        if name in entry.values:
            entry.wrong(name, f"is not said of a call over {protocol}")
    rate = entry.number("rate", default=200.0)
    found = Call(
        ends["client"],
        ends["server"],
        reach,
        entry.text("path", default="/"),
        rate,
        int(entry.number("status", default=200)),
        protocol,
        entry.text("method", default="", one_of=_METHODS),
        entry.texts("headers"),
        _size(entry, "body-bytes"),
    )
    if found.by_request:
        return found
    return replace(found, exchange=parse_exchange(entry, tls=protocol is CallProtocol.TLS, rate=rate, folder=folder))


def _size(entry: Fields, name: str) -> int:
    value = entry.values.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        entry.wrong(name, f"is {value!r}, and should be a number of bytes")
        return 0
    return value
