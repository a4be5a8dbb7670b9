"""The target file: which namespaces are tenants, who calls whom and how the server is reached, and what mesh it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from chaos.errors import Misuse
from chaos.external.description import NO_MESH, MeshDescription, built_in, parse_description
from chaos.external.fields import Fields
from chaos.model.modes import MODES

_KEY: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
AUTO: Final = "auto"
_REACH: Final = re.compile(r"(?:[^/:\s\[\]]+|\[[0-9A-Fa-f:.]+\]):\d+")


@dataclass(frozen=True, slots=True)
class Call:
    """A client workload that calls a server workload, both `namespace/name`.

    Attributes:
        reach: HOST:PORT by which a loader in the client's namespace reaches the server; "" when none is to be loaded.
        path: of the requests; rate: how many a second; status: the expected one.
    """

    client: str
    server: str
    reach: str = ""
    path: str = "/"
    rate: float = 200.0
    status: int = 200

    @property
    def namespaces(self) -> tuple[str, str]:
        return self.client.partition("/")[0], self.server.partition("/")[0]


@dataclass(frozen=True, slots=True)
class TargetSystem:
    """What a target file says. `mesh` None: to be detected."""

    tenants: dict[str, tuple[str, ...]]  # tenant -> its namespaces
    calls: tuple[Call, ...]
    mesh: MeshDescription | None

    @property
    def name(self) -> str:
        """The mesh's, as a proxy mode in reports."""
        return self.mesh.name if self.mesh else AUTO

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(space for spaces in self.tenants.values() for space in spaces))

    def tenant_of(self, namespace: str) -> str:
        """The tenant that a namespace belongs to."""
        return next(tenant for tenant, spaces in self.tenants.items() if namespace in spaces)


def read_target(file: Path) -> TargetSystem:
    """Read a target file; raises Misuse that names the file and every field that is wrong."""
    try:
        document = yaml.safe_load(file.read_text())
    except OSError as error:
        raise Misuse(f"{file}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Misuse(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    return parse_target(document, source=str(file))


def parse_target(document: Any, *, source: str) -> TargetSystem:
    """A target from a document; raises one Misuse with every problem."""
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
    calls = tuple(_call(one, f"calls[{i}]", problems, spaces) for i, one in enumerate(top.items("calls", needed=True)))
    pairs = [(call.client, call.server) for call in calls]
    if repeated := sorted({f"{client} -> {server}" for client, server in pairs if pairs.count((client, server)) > 1}):
        top.wrong("calls", f"have {', '.join(repeated)} more than once: one flow is judged of each")
    mesh: MeshDescription | None = None
    said = top.values.get("mesh", AUTO)
    try:
        if isinstance(said, dict):
            mesh = parse_description(said, source=source, where="mesh")
            if mesh.name in MODES:
                problems.append(f"mesh.name is {mesh.name!r}, a proxy mode of our own: take another")
        elif said == NO_MESH.name:
            mesh = NO_MESH
        elif said != AUTO:
            mesh = built_in(str(said))
    except Misuse as error:
        problems.append(str(error).removeprefix(f"{source}: "))
    if problems:
        raise Misuse(f"{source}: {'; '.join(problems)}")
    return TargetSystem(tenants, calls, mesh)


def _call(value: Any, where: str, problems: list[str], spaces: list[str]) -> Call:
    entry = Fields(value, where, problems, known=("client", "server", "reach", "path", "rate", "status"))
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
    return Call(
        ends["client"],
        ends["server"],
        reach,
        entry.text("path", default="/"),
        entry.number("rate", default=200.0),
        int(entry.number("status", default=200)),
    )
