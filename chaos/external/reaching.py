"""Resolves how a call's server is addressed: by a Service, or by a pod's own address. Pure.

It decides what is passed: a waypoint may take one and not the other, a port may be taken past a proxy, and what a
client dials (the Service's port) is not what its server hears (the container's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.errors import Misuse

Object = Mapping[str, Any]
_NEAR: Final = {"internalTrafficPolicy": "Local", "trafficDistribution": "PreferSameNode"}  # servers of one's own node


@dataclass(frozen=True, slots=True)
class Reached:
    """How a server is addressed.

    Attributes:
        service: the Service; None: none, or it is not known which.
        port: that the client dials; None: not known.
        by_pod: pods' own addresses are dialled.
        why: for people.
    """

    service: Object | None = None
    port: int | None = None
    by_pod: bool = False
    why: str = ""


def resolve_reach(reach: str, namespace: str, services: Sequence[Object], servers: Sequence[Object]) -> Reached:
    """Resolve HOST:PORT as the client's pods in that namespace see it.

    Args:
        reach: "" when the call does not say: then the Services that select its servers.
        servers: the call's server pods.

    Raises Misuse where no Service and no pod has that name or address, or where Services that differ are meant.
    """
    if not reach:
        return _selected(services, servers)
    host, _, text = reach.rpartition(":")
    host, port = host.strip("[]"), int(text)
    if any(host in addresses_of(pod) for pod in servers):
        if len(servers) > 1:
            raise Misuse(
                f"reach {reach}: it is the address of one of {len(servers)} pods, and the others are not called: name "
                "their Service"
            )
        return Reached(None, port, by_pod=True, why=f"{reach} is a pod's address")
    service = next((one for one in services if host in service_addresses(one)), None) or _named(
        host, namespace, services
    )
    if service is None:
        return Reached(None, port, why=f"{reach} names no Service that was found")
    spec, name = service["spec"], f"Service {service['metadata']['namespace']}/{service['metadata']['name']}"
    if spec.get("type") == "ExternalName":
        raise Misuse(f"reach {reach}: {name} is an ExternalName: what carries it from there on is not modelled")
    _refuse_other_ends(f"reach {reach}: {name}", service, servers)
    if spec.get("clusterIP") == "None":
        return Reached(service, port, by_pod=True, why=f"{name} is headless: its pods' own addresses are dialled")
    if not any(one["port"] == port for one in spec.get("ports") or []):
        ports = ", ".join(str(one["port"]) for one in spec.get("ports") or []) or "none"
        raise Misuse(f"reach {reach}: {name} has no port {port} (it has {ports})")
    return Reached(service, port, why=f"{reach} is {name}")


def _refuse_other_ends(what: str, service: Object, servers: Sequence[Object]) -> None:
    """Raise Misuse for a Service that leads elsewhere than to the call's servers, or to some of them by the client's
    node: shares of them are taken to be equal.
    """
    spec = service["spec"]
    if spec.get("selector") and servers and not any(selects(service, pod) for pod in servers):
        raise Misuse(
            f"{what} selects none of the call's servers: what it leads to stands in between, and is not modelled: "
            "write one call to that, and another from it"
        )
    near = next((key for key, value in _NEAR.items() if spec.get(key) == value), "")
    if near and len({pod["spec"].get("nodeName") for pod in servers}) > 1:
        raise Misuse(
            f"{what} has {near}={spec[near]}, and its servers are on several nodes: which of them a client is given is "
            "not modelled: leave the call out"
        )


def addresses_of(pod: Object) -> set[str]:
    """The pod's IP addresses."""
    status = pod.get("status") or {}
    found = {one["ip"] for one in status.get("podIPs") or []} | {status.get("podIP", "")}
    return found - {""}


def service_addresses(service: Object) -> set[str]:
    """The Service's own IP addresses."""
    return {*(service["spec"].get("clusterIPs") or []), service["spec"].get("clusterIP", "")} - {"", "None"}


def _named(host: str, namespace: str, services: Iterable[Object]) -> Object | None:
    """The Service of that DNS name: NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc, and so on."""
    parts = host.rstrip(".").split(".")
    wanted = (parts[1] if len(parts) > 1 else namespace, parts[0])
    if len(parts) > 2 and parts[2] != "svc":
        wanted = (parts[2], parts[1])  # POD.NAME.NAMESPACE.svc: a headless Service's pod
    return next((one for one in services if (one["metadata"]["namespace"], one["metadata"]["name"]) == wanted), None)


def _selected(services: Sequence[Object], servers: Sequence[Object]) -> Reached:
    """Return the one Service that selects the servers; none, with the reason, when there is none or several."""
    found = [one for one in services if any(selects(one, pod) for pod in servers)]
    names = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in found)
    if len(found) != 1:
        return Reached(why=f"Services {names} select it" if found else "no Service selects it")
    headless = found[0]["spec"].get("clusterIP") == "None"
    ports = [one["port"] for one in found[0]["spec"].get("ports") or []]
    return Reached(
        found[0], ports[0] if len(ports) == 1 else None, by_pod=headless, why=f"Service {names} alone selects it"
    )


def selects(service: Object, pod: Object) -> bool:
    """Whether a Service's selector matches the pod."""
    wanted, labels = service["spec"].get("selector") or {}, pod["metadata"].get("labels") or {}
    same = service["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return bool(wanted) and same and all(labels.get(key) == value for key, value in wanted.items())


def server_port(reached: Reached, server: Object) -> int | None:
    """The port that the server's pod hears the call on; None when it is not known."""
    if reached.by_pod or reached.service is None or reached.port is None:
        return reached.port
    ports = [one for one in reached.service["spec"].get("ports") or [] if one["port"] == reached.port]
    target = ports[0].get("targetPort", reached.port) if ports else reached.port
    if isinstance(target, int):
        return target
    named = [
        one["containerPort"]
        for container in server["spec"]["containers"]
        for one in container.get("ports") or []
        if one.get("name") == target
    ]
    return named[0] if named else None
