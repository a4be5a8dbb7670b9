"""Says where a mesh takes a call's requests for bytes: it carries them, and spreads their connections alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.external.description import Protocols, annotations_of
from chaos.external.reaching import Reached
from chaos.external.routes import name_of, named_in

Object = Mapping[str, Any]


def why_unread(protocols: Protocols, reached: Reached, server: Object) -> str:
    """Return why the mesh reads no requests of a call to that pod; "" when it does, or nothing is known against it.

    Raises Misuse for a list of ports that is none, or that holds for the call or not as its port is.
    """
    service = None if reached.by_pod else reached.service
    port = _port_of(reached)
    if service is not None and port is not None:
        where = f"port {reached.port} of {name_of(service, 'Service')}"
        said = str(port.get("appProtocol") or (port.get("name", "") if protocols.by_name else "")).lower()
        for spoken in (said, said.partition("-")[0]) if protocols.by_name and not port.get("appProtocol") else (said,):
            if spoken in protocols.requests:
                return ""
            if spoken in protocols.bytes:
                return f"{where} is said to carry {spoken}: its connections are spread, and not its requests"
    holder = service or server
    listed = annotations_of(holder).get(protocols.ports) if protocols.ports else None
    if listed is not None:
        found = named_in(listed, reached.port, holder, protocols.ports)
        return f"{name_of(holder)} has {protocols.ports}={listed}: no requests are read there" if found else ""
    if reached.port in protocols.usual:
        return f"port {reached.port} is taken for bytes where nothing says otherwise: no requests are read there"
    return ""


def _port_of(reached: Reached) -> Mapping[str, Any] | None:
    """The Service's port that is dialled."""
    ports = (reached.service or {}).get("spec", {}).get("ports") or []
    return next((one for one in ports if one["port"] == reached.port), None)
