"""Checks who may connect to a destination, and how far: a pod with a waypoint accepts only that waypoint, and a CONNECT
ends at the pod itself. Without a limit on the authority, a CONNECT terminator is an open proxy.
"""

from __future__ import annotations

from chaos.engine.features.context import CheckContext
from chaos.mesh.ca import Authority
from chaos.model.fate import path
from chaos.model.modes import Layer
from chaos.model.placement import Pair, Pod, Proxy
from chaos.names import PORT_ADMIN, PORT_CONTROL, PORT_HBONE, PORT_HTTP, spiffe_id
from chaos.verdict.check import Check, decided

_L7 = frozenset({Layer.L7})


def waypoint_before(context: CheckContext, server: Pod) -> Proxy | None:
    """Return the waypoint on the way to the server; None where one proxy holds both layers."""
    return next((hop[0] for hop in path(context.placement, Pair(context.client, server)) if hop[0].layers == _L7), None)


def check_tunnels(context: CheckContext) -> list[Check]:
    """Dial the client's servers as their waypoint, as others, and for other places."""
    server = context.servers[0]
    waypoint = waypoint_before(context, server)
    return _ambient(context, server, waypoint) if waypoint else _direct(context, server)


def _direct(context: CheckContext, server: Pod) -> list[Check]:
    """Check a proxy that holds both layers: mutual TLS with a member of the trust domain, or nothing."""
    node, member = server.node, spiffe_id(context.client.namespace, context.client.service_account)

    def tls_client(identity: str = member, authority: str = "", trusted: Authority | None = None) -> int:
        found: int = context.tls_client(
            node, server.ip, PORT_HTTP, identity=identity, authority=authority, trusted=trusted
        )["status"]
        return found

    strangers = {
        "nobody": tls_client(identity=""),
        "another trust domain": tls_client("spiffe://elsewhere/ns/x/sa/y"),
        "a foreign authority": tls_client(trusted=Authority.new()),
    }
    control = tls_client()
    elsewhere = {authority: tls_client(authority=authority) for authority in _elsewhere(context, server)}
    return [
        decided(
            "only members of the trust domain reach a meshed pod",
            control == 200 and not any(strangers.values()),
            f"a member was answered {control}; " + "; ".join(f"{who}: {status}" for who, status in strangers.items()),
        ),
        _nowhere(elsewhere, control == 200),
    ]


def _ambient(context: CheckContext, server: Pod, waypoint: Proxy) -> list[Check]:
    own = spiffe_id(waypoint.namespace, waypoint.service_account)
    others = {spiffe_id(p.namespace, p.service_account) for p in context.placement.proxies if p.layers == _L7} - {own}
    others |= {spiffe_id(pod.namespace, pod.service_account) for pod in (context.client, context.other_tenant)}
    here = f"{server.ip}:{PORT_HTTP}"

    def tls_client(authority: str, identity: str = own, host: str = server.ip) -> dict[str, str | int]:
        return context.tls_client(server.node, host, PORT_HBONE, identity=identity, authority=authority)

    control = tls_client(here)
    served = control["status"] == 200 and f"x-pod: {server.name}" in str(control["body"])
    strangers = {identity: int(tls_client(here, identity)["status"]) for identity in sorted(others)}
    strangers["nobody"] = int(tls_client(here, "")["status"])
    elsewhere = {authority: int(tls_client(authority)["status"]) for authority in _elsewhere(context, server)}
    at_waypoint = context.cluster.get("Pod", waypoint.pod, waypoint.namespace)["status"]["podIP"]
    client = spiffe_id(context.client.namespace, context.client.service_account)
    elsewhere[f"{here} at the waypoint"] = int(tls_client(here, client, at_waypoint)["status"])
    return [
        decided(
            "a destination that has a waypoint accepts only that waypoint",
            served and not any(strangers.values()),
            f"the waypoint was answered {control['status']}; "
            + "; ".join(f"{who.rpartition('/ns/')[2] or who}: {status}" for who, status in strangers.items()),
        ),
        _nowhere(elsewhere, served),
    ]


def _elsewhere(context: CheckContext, server: Pod) -> list[str]:
    """Yield where a CONNECT to the server must not lead: other pods, the node, the proxy's own ports."""
    other = next(one for one in (*context.servers, context.other_tenant) if one.name != server.name)
    node = context.cluster.get("Node", server.node)
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    return [
        f"{other.ip}:{PORT_HTTP}",
        f"{other.ip}:{PORT_CONTROL}",
        f"{address}:22",
        f"127.0.0.1:{PORT_ADMIN}",
        f"{server.ip}:{PORT_ADMIN}",
        f"{server.ip}:{PORT_HBONE}",
    ]


def _nowhere(statuses: dict[str, int], control: bool) -> Check:
    led = [authority for authority, status in statuses.items() if status == 200]
    return decided(
        "a CONNECT to anywhere else is refused",
        control and not led,
        f"{len(led)} of {len(statuses)} led somewhere{': ' if led else ''}{', '.join(led)}",
        len(led),
        "open ways",
    )
