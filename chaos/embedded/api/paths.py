"""Request paths, as k8s.io/apiserver/pkg/endpoints/request parses them. Pure; called by the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chaos.embedded.api.errors import bad_request, not_served
from chaos.embedded.api.options import is_true

VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class RequestPath:
    """A parsed path. `resource` is empty for non-resource paths; `rest` is what follows `proxy`."""

    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def parse_path(path: str) -> RequestPath:
    """Parse a decoded path, as k8s.io/apiserver/pkg/endpoints/request does."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return RequestPath()
    namespace = ""
    if (
        parts[0] == "namespaces"
        and len(parts) > 2
        and not (group == "" and parts[2] in ("status", "finalize") and len(parts) == 3)
    ):
        namespace, parts = parts[1], parts[2:]
    name, subresource = (parts[1] if len(parts) > 1 else ""), (parts[2] if len(parts) > 2 else "")
    rest = "/".join(parts[3:])
    return RequestPath(group, version, namespace, parts[0], name, subresource, rest)


def verb_of(method: str, target: RequestPath, query: Mapping[str, str]) -> str:
    verb = VERBS[method]
    if verb == "get" and not target.name:
        return "watch" if is_true(query, "watch") else "list"
    return "deletecollection" if verb == "delete" and not target.name else verb


def split_port(name: str) -> tuple[str, str]:
    """Split `[scheme:]name[:port]` of a proxy path."""
    parts = name.split(":")
    if len(parts) == 3:
        if parts[0] not in ("", "http"):
            raise not_served(f"proxying with scheme {parts[0]!r}")
        return parts[1], parts[2]
    if len(parts) > 3:
        raise bad_request(f'invalid pod request "{name}"')
    return parts[0], parts[1] if len(parts) == 2 else ""
