"""Finds NetworkPolicies that would cut a run's loader off from the server it calls, before the load. Pure.

A loader is no pod of the client's workload: it carries none of the client's labels (a Service or a ReplicaSet would
take it for one of its own), so a policy that lets the client through by its labels does not let the loader through.
The rules are those of networking.k8s.io/v1: a pod that no policy selects for a direction is open in it; otherwise what
any selecting policy allows is allowed. Where a rule cannot be read for certain (the port behind a Service, an address
behind a NAT) it counts as one that allows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from chaos.external.file import Call
from chaos.kube.objects import label_selector, selects
from chaos.names import LABEL_ROLE

Object = Mapping[str, Any]
Direction = Literal["Ingress", "Egress"]
_SIDES: Final[Mapping[Direction, str]] = {"Ingress": "from", "Egress": "to"}
_DNS: Final = 53


@dataclass(frozen=True, slots=True)
class NetworkObjects:
    """What of a cluster decides who may reach whom."""

    policies: Sequence[Object] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # name -> labels
    services: Sequence[Object] = ()


def detect_cuts(call: Call, loader: Object, servers: Iterable[Object], around: NetworkObjects) -> list[str]:
    """Return a sentence for each way in which policies keep the loader of a call from its servers; empty when none
    does.

    Args:
        loader: its pod, as placed.
        servers: pods of the call's server workload.
    """
    found = []
    name = f"{loader['metadata']['namespace']}/{loader['metadata']['name']}"
    host, _, text = call.reach.rpartition(":")
    for server in servers:
        ports = _ports(int(text), host, server, around.services)
        for pod, peer, direction, what in (
            (loader, server, "Egress", f"{name} may not send to {call.server}"),
            (server, loader, "Ingress", f"{call.server} takes nothing from {name}"),
        ):
            if names := _cut(pod, peer, direction, ports, server, around):  # type: ignore[arg-type]
                found.append(f"NetworkPolicy {', '.join(names)}: {what}")
    if not _is_address(host) and (names := _without_dns(loader, around.policies)):
        found.append(f"NetworkPolicy {', '.join(names)}: {name} may not ask DNS for {host}")
    return list(dict.fromkeys(found))


def plan_allowances(call: Call) -> list[str]:
    """Return two policies, a line of YAML each, that let a loader of a run call that server, and allow nothing more."""
    client, server = call.namespaces
    loader = f"{{matchLabels: {{{LABEL_ROLE}: client}}}}"
    return [
        f"{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: sharedfate-{name}, namespace: "
        f"{namespace}}}, spec: {spec}}}"
        for name, namespace, spec in (
            ("out", client, f"{{podSelector: {loader}, policyTypes: [Egress], egress: [{{}}]}}"),
            (
                "in",
                server,
                "{podSelector: {}, policyTypes: [Ingress], "
                f"ingress: [{{from: [{{namespaceSelector: {{}}, podSelector: {loader}}}]}}]}}",
            ),
        )
    ]


def _cut(
    pod: Object, peer: Object, direction: Direction, ports: frozenset[int], server: Object, around: NetworkObjects
) -> list[str]:
    """Return the policies that select the pod for that direction, when none of them allows the peer."""
    selecting = _selecting(pod, direction, around.policies)
    for policy in selecting:
        for rule in policy["spec"].get(direction.lower()) or []:
            peers = rule.get(_SIDES[direction]) or []
            if (not peers or any(_is_peer(one, peer, policy, around.namespaces) for one in peers)) and _has_port(
                rule.get("ports") or [], ports, server
            ):
                return []
    return [_name(policy) for policy in selecting]


def _without_dns(loader: Object, policies: Sequence[Object]) -> list[str]:
    selecting = _selecting(loader, "Egress", policies)
    rules = [rule for policy in selecting for rule in policy["spec"].get("egress") or []]
    allowed = any(not rule.get("ports") or _has_port(rule["ports"], frozenset({_DNS}), {}) for rule in rules)
    return [] if allowed else [_name(policy) for policy in selecting]


def _selecting(pod: Object, direction: Direction, policies: Sequence[Object]) -> list[Object]:
    return [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and direction in _directions(policy["spec"])
        and selects(label_selector(policy["spec"].get("podSelector") or {}), pod["metadata"].get("labels") or {})
    ]


def _directions(spec: Object) -> Sequence[str]:
    return spec.get("policyTypes") or ("Ingress", *(["Egress"] if "egress" in spec else []))


def _is_peer(rule: Object, pod: Object, policy: Object, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    if "ipBlock" in rule:
        return _is_within(str((pod.get("status") or {}).get("podIP", "")), rule["ipBlock"])
    namespace = pod["metadata"]["namespace"]
    if "namespaceSelector" in rule:
        if not selects(label_selector(rule["namespaceSelector"] or {}), namespaces.get(namespace, {})):
            return False
    elif namespace != policy["metadata"]["namespace"]:
        return False
    return "podSelector" not in rule or selects(
        label_selector(rule["podSelector"] or {}), pod["metadata"].get("labels") or {}
    )


def _is_within(address: str, block: Object) -> bool:
    try:
        ip = ipaddress.ip_address(address)
        inside = ip in ipaddress.ip_network(block["cidr"], strict=False)
        return inside and not any(ip in ipaddress.ip_network(one, strict=False) for one in block.get("except") or [])
    except ValueError:
        return True  # an address that is not known yet


def _has_port(rules: Sequence[Object], ports: frozenset[int], server: Object) -> bool:
    if not rules:
        return True
    for rule in rules:
        port = rule.get("port")
        if isinstance(port, str):
            port = _named_ports(server).get(port)
        if "port" not in rule or any(port is not None and port <= one <= rule.get("endPort", port) for one in ports):
            return True
    return False


def _ports(port: int, host: str, server: Object, services: Sequence[Object]) -> frozenset[int]:
    """The pod's ports that a call to that port may come to: itself, and what Services of that name make of it."""
    found = {port}
    for service in services:
        meta = service["metadata"]
        if host.split(".")[0] != meta["name"] and host != service["spec"].get("clusterIP"):
            continue
        for one in service["spec"].get("ports") or []:
            if one["port"] == port:
                target = one.get("targetPort", port)
                found.add(target if isinstance(target, int) else _named_ports(server).get(target, port))
    return frozenset(found)


def _named_ports(pod: Object) -> dict[str, int]:
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    return {
        one["name"]: one["containerPort"] for part in containers for one in part.get("ports") or [] if one.get("name")
    }


def _name(policy: Object) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
