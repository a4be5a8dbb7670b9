"""NetworkPolicies as nftables rules of a node, enforced where the node routes its pods' packets.

A pod that a policy selects is isolated in that direction: only what some policy allows passes. The node's own packets
(its kubelet's probes) are not routed and always pass, as Kubernetes requires. Only new connections are checked;
established ones go on. The cluster's DNS counts as a pod of kube-system labelled `k8s-app: kube-dns`, so that the usual
"allow DNS" policy works although no pod serves DNS here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.embedded.controllers.labels import matches
from chaos.embedded.network import addresses
from chaos.embedded.resources import Object

TABLE: Final = "sharedfate-policies"
_DNS_POD: Final[Object] = {
    "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
    "spec": {},
    "status": {"podIP": addresses.FABRIC_ADDRESS},
}

PortRange = tuple[str, int | None, int | None]  # protocol, first, last; None: every port


@dataclass(frozen=True, slots=True)
class Allowance:
    """One allowed kind of traffic: to or from `networks` but not `excepted`, on these ports. None: any."""

    networks: tuple[str, ...] | None
    excepted: tuple[str, ...]
    ports: tuple[PortRange, ...] | None


@dataclass(frozen=True, slots=True)
class Isolation:
    """Allowed ingress and egress of one pod. None: not isolated in that direction."""

    address: str
    ingress: tuple[Allowance, ...] | None
    egress: tuple[Allowance, ...] | None


def canonical_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """IPv4 networks without host bits and without overlaps, both of which nft refuses."""
    networks = [ipaddress.ip_network(text, strict=False) for text in texts]
    kept = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv4Network))
    return tuple(str(one) for one in kept)


def _address(pod: Object) -> str | None:
    """The pod's own IPv4 address; None without one, on the host's network, or after its end."""
    status = pod.get("status") or {}
    if pod["spec"].get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    address: str = status.get("podIP") or ""
    return address if addresses.is_ipv4(address) else None


def plan_policies(
    policies: Sequence[Object], pods: Sequence[Object], namespaces: Iterable[Object], node: str
) -> tuple[Isolation, ...]:
    """The isolated pods of `node`, ordered by address. `pods` are all pods of the cluster."""
    labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in namespaces}
    everyone = [*pods, _DNS_POD]
    planned = []
    for pod in pods:
        address = _address(pod)
        if address is None or pod["spec"].get("nodeName") != node:
            continue
        own = [
            policy
            for policy in policies
            if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            and matches(policy["spec"].get("podSelector") or {}, pod["metadata"].get("labels"))
        ]
        ways: dict[str, tuple[Allowance, ...] | None] = {}
        for way in ("ingress", "egress"):
            isolating = [policy for policy in own if way.capitalize() in _types(policy)]
            ways[way] = (
                tuple(
                    allowance
                    for policy in isolating
                    for rule in policy["spec"].get(way) or ()
                    for allowance in _allowances(rule, way, pod, policy["metadata"]["namespace"], everyone, labels)
                )
                if isolating
                else None
            )
        if any(way is not None for way in ways.values()):
            planned.append(Isolation(address, ways["ingress"], ways["egress"]))
    return tuple(sorted(planned, key=lambda one: one.address))


def _types(policy: Object) -> Sequence[str]:
    spec = policy["spec"]
    return spec.get("policyTypes") or (("Ingress", "Egress") if spec.get("egress") else ("Ingress",))


def _allowances(
    rule: Mapping[str, Any],
    way: str,
    pod: Object,
    namespace: str,
    pods: Sequence[Object],
    labels: Mapping[str, Mapping[str, str]],
) -> Iterable[Allowance]:
    peers = rule.get("from" if way == "ingress" else "to")
    ports = rule.get("ports")
    if not peers:
        yield Allowance(None, (), _ports(ports, pod if way == "ingress" else None))
        return
    for peer in peers:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            if networks := canonical_networks([block["cidr"]]):  # of IPv6 there is nothing here
                excepted = canonical_networks(block.get("except") or ())
                yield Allowance(networks, excepted, _ports(ports, pod if way == "ingress" else None))
            continue
        chosen = [one for one in pods if _address(one) and _is_peer(one, peer, namespace, labels)]
        if way == "ingress" or not _named(ports):
            found = tuple(sorted({_address(one) or "" for one in chosen}))
            if found:
                yield Allowance(found, (), _ports(ports, pod))
        else:  # a named port is whatever each destination calls so
            for one in chosen:
                yield Allowance((_address(one) or "",), (), _ports(ports, one))


def _is_peer(pod: Object, peer: Mapping[str, Any], namespace: str, labels: Mapping[str, Mapping[str, str]]) -> bool:
    own = pod["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        # every namespace carries its name as a label, also one that is not there yet
        if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": own, **labels.get(own, {})}):
            return False
    elif own != namespace:
        return False
    return "podSelector" not in peer or matches(peer["podSelector"], pod["metadata"].get("labels"))


def _named(ports: Sequence[Mapping[str, Any]] | None) -> bool:
    return any(isinstance(port.get("port"), str) for port in ports or ())


def _ports(ports: Sequence[Mapping[str, Any]] | None, pod: Object | None) -> tuple[PortRange, ...] | None:
    """Ports as numbers; a name that the pod does not define matches none."""
    if not ports:
        return None
    found: list[PortRange] = []
    for port in ports:
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        if isinstance(number, str):
            found += [
                (protocol.lower(), one["containerPort"], one["containerPort"])
                for container in (pod["spec"].get("containers") or () if pod else ())
                for one in container.get("ports") or ()
                if one.get("name") == number and one.get("protocol", "TCP") == protocol
            ]
        else:
            found.append((protocol.lower(), number, port.get("endPort", number)))
    return tuple(found)


def render_policies(isolations: Sequence[Isolation]) -> str:
    """Render the nftables script that replaces a node's policy rules; an empty plan removes the table."""
    head = [f"add table ip {TABLE}", f"delete table ip {TABLE}"]
    if not isolations:
        return "\n".join([*head, ""])
    chains: list[str] = []
    jumps: dict[str, list[str]] = {"egress": [], "ingress": []}
    for number, one in enumerate(isolations):
        for way, side, allowed in (("egress", "daddr", one.egress), ("ingress", "saddr", one.ingress)):
            if allowed is None:
                continue
            lines = (line for allowance in allowed for line in _lines(allowance, side))
            chains += [f"chain {way}-{number} {{", *lines, "drop", "}"]
            jumps[way].append(f"{one.address} : jump {way}-{number}")
    forward = ["chain forward { type filter hook forward priority filter - 10;", "ct state established,related accept"]
    for way, side in (("egress", "saddr"), ("ingress", "daddr")):
        if jumps[way]:
            forward.append(f"ip {side} vmap {{ {', '.join(jumps[way])} }}")
    return "\n".join([*head, f"table ip {TABLE} {{", *chains, *forward, "}", "}", ""])


def _lines(allowance: Allowance, side: str) -> Iterable[str]:
    where = ""
    if allowance.networks is not None and allowance.networks != ("0.0.0.0/0",):
        where = f"ip {side} {{ {', '.join(allowance.networks)} }} "
    if allowance.excepted:
        where += f"ip {side} != {{ {', '.join(allowance.excepted)} }} "
    if allowance.ports is None:
        yield f"{where}return"
        return
    for protocol, first, last in allowance.ports:
        if first is None:
            yield f"{where}meta l4proto {protocol} return"
        else:
            yield f"{where}{protocol} dport {first}{f'-{last}' if last != first else ''} return"
