"""The API server's audit log as accesses: who did what, and was it refused."""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from chaos.embedded.api.paths import parse_path
from chaos.kube.access import Permission


@dataclass(frozen=True, slots=True)
class Entry:
    """One request to a resource."""

    user: str
    access: Permission
    namespace: str
    code: int


def entries(log: Path) -> list[Entry]:
    """The requests for resources, in order; what is no resource (discovery, /version) anybody may read."""
    found = []
    for line in log.read_text().splitlines():
        row = json.loads(line)
        path = urllib.parse.unquote(row["uri"].partition("?")[0])
        target = parse_path(path)
        if not target.resource:
            continue
        verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}.get(
            row["verb"], row["verb"]
        )
        if verb == "get" and not target.name:  # a refused request is noted with its method alone
            verb = "watch" if "watch=1" in row["uri"] else "list"
        resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
        name = target.name.partition(":")[0] if target.subresource == "proxy" else target.name
        found.append(
            Entry(row["user"], Permission(verb, resource, target.group, name=name), target.namespace, row["code"])
        )
    return found


def used(rows: list[Entry], user: str) -> set[Permission]:
    """What a user did, names left out."""
    return {Permission(row.access.verb, row.access.resource, row.access.group) for row in rows if row.user == user}
