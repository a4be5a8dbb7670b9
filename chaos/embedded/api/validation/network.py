"""What becomes rules and addresses: Services, NetworkPolicies, EndpointSlices, Endpoints, a pod's own addresses.

What passes here is written into nftables scripts, so nothing passes that is not an address, a network, a port or a
protocol.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import (
    SUBDOMAIN,
    SUBDOMAIN_RULE,
    Causes,
    validate_label,
    validate_label_selector,
    validate_labels,
)
from chaos.embedded.resources import Object

PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_PORT_RULE: Final = "must be between 1 and 65535, inclusive"
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_ADDRESS_RULE: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NETWORK_RULE: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_address(text: object, *, version: int | None = None) -> bool:
    try:
        return version in (None, ipaddress.ip_address(str(text)).version)
    except ValueError:
        return False


def network_of(text: object) -> Network | None:
    """The network that a text with a prefix length names; None for anything else."""
    try:
        return ipaddress.ip_network(str(text), strict=False) if "/" in str(text) else None
    except ValueError:
        return None


def _port(value: object, field: str) -> Causes:
    if isinstance(value, int) and not 1 <= value <= 65535:
        yield wrong(field, value, _PORT_RULE)
    if isinstance(value, str) and not _PORT_NAME.fullmatch(value):
        yield wrong(
            field,
            value,
            "must be an IANA_SVC_NAME (at most 15 characters, matching regex [a-z0-9]([a-z0-9-]*[a-z0-9])*, it "
            "must contain at least one letter [a-z], and hyphens cannot be adjacent to other hyphens)",
        )


def _protocol(port: Mapping[str, Any], field: str) -> Causes:
    if port.get("protocol", "TCP") not in PROTOCOLS:
        yield unsupported(f"{field}.protocol", port["protocol"], PROTOCOLS)


def network_policy(obj: Object) -> Causes:
    spec = obj["spec"]
    yield from validate_label_selector(spec.get("podSelector") or {}, "spec.podSelector")
    for kind in spec["policyTypes"]:
        if kind not in ("Ingress", "Egress"):
            yield unsupported("spec.policyTypes", kind, ("Egress", "Ingress"))
    for way, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(way) or []):
            where = f"spec.{way}[{index}]"
            for number, port in enumerate(rule.get("ports") or []):
                yield from _policy_port(port, f"{where}.ports[{number}]")
            for number, peer in enumerate(rule.get(side) or []):
                yield from _peer(peer, f"{where}.{side}[{number}]")


def _policy_port(port: Mapping[str, Any], field: str) -> Causes:
    yield from _protocol(port, field)
    number, last = port.get("port"), port.get("endPort")
    yield from _port(number, f"{field}.port")
    if last is None:
        return
    if not isinstance(number, int):
        yield (
            wrong(f"{field}.endPort", last, "may not be specified when `port` is non-numeric")
            if number is not None
            else wrong(f"{field}.endPort", last, "may not be specified when `port` is not specified")
        )
    elif not number <= last <= 65535:
        yield wrong(
            f"{field}.endPort", last, "must be greater than or equal to `port`" if last < number else _PORT_RULE
        )


def _peer(peer: Mapping[str, Any], field: str) -> Causes:
    for name in ("podSelector", "namespaceSelector"):
        yield from validate_label_selector(peer.get(name) or {}, f"{field}.{name}")
    if not peer.keys() & {"podSelector", "namespaceSelector", "ipBlock"}:
        yield required(field, "must specify a peer")
    if "ipBlock" not in peer:
        return
    if peer.keys() & {"podSelector", "namespaceSelector"}:
        yield not_allowed(field, "may not specify both ipBlock and another peer")
    block = peer["ipBlock"]
    outer = network_of(block.get("cidr"))
    if not block.get("cidr"):
        yield required(f"{field}.ipBlock.cidr")
    elif outer is None:
        yield wrong(f"{field}.ipBlock.cidr", block["cidr"], _NETWORK_RULE)
    for index, text in enumerate(block.get("except") or []):
        where, inner = f"{field}.ipBlock.except[{index}]", network_of(text)
        if inner is None:
            yield wrong(where, text, _NETWORK_RULE)
        elif outer is not None and not (inner.version == outer.version and inner.subnet_of(outer) and inner != outer):  # type: ignore[arg-type]
            yield wrong(where, text, "must be a strict subset of `cidr`")


def endpoint_slice(obj: Object) -> Causes:
    kinds = {"IPv4": 4, "IPv6": 6, "FQDN": 0}
    kind = obj.get("addressType", "")
    if not kind:
        yield required("addressType")
    elif kind not in kinds:
        yield unsupported("addressType", kind, tuple(kinds))
    for index, endpoint in enumerate(obj.get("endpoints") or []):
        found = endpoint.get("addresses") or []
        if not found:
            yield required(f"endpoints[{index}].addresses", "must contain at least 1 endpoint address")
        for number, address in enumerate(found):
            if kinds.get(kind) and not is_address(address, version=kinds[kind]):
                yield wrong(f"endpoints[{index}].addresses[{number}]", address, _ADDRESS_RULE)
    for index, port in enumerate(obj.get("ports") or []):
        yield from _port(port.get("port"), f"ports[{index}].port")
        yield from _protocol(port, f"ports[{index}]")


def endpoints(obj: Object) -> Causes:
    for index, subset in enumerate(obj.get("subsets") or []):
        for part in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(part) or []):
                if not is_address(address.get("ip")):
                    yield wrong(f"subsets[{index}].{part}[{number}].ip", address.get("ip"), _ADDRESS_RULE)
        for number, port in enumerate(subset.get("ports") or []):
            yield from _port(port.get("port"), f"subsets[{index}].ports[{number}].port")
            yield from _protocol(port, f"subsets[{index}].ports[{number}]")


def pod_addresses(status: Mapping[str, Any]) -> Causes:
    """What a pod's status says of its addresses: written by whoever may write it."""
    texts = {"podIP": status.get("podIP"), "hostIP": status.get("hostIP")}
    texts |= {f"podIPs[{index}].ip": one.get("ip") for index, one in enumerate(status.get("podIPs") or [])}
    for name, text in texts.items():
        if text and not is_address(text):
            yield wrong(f"status.{name}", text, _ADDRESS_RULE)


def service(obj: Object) -> Causes:
    spec = obj["spec"]
    kind, ports = spec["type"], spec.get("ports") or []
    if kind not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        yield unsupported("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    if kind == "ExternalName":
        if not SUBDOMAIN.fullmatch(str(spec.get("externalName", "")).rstrip(".")):
            yield wrong("spec.externalName", spec.get("externalName", ""), SUBDOMAIN_RULE)
    elif not ports and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    names: set[str] = set()
    pairs: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        where, number = f"spec.ports[{index}]", port.get("port", 0)
        if not 1 <= number <= 65535:
            yield wrong(f"{where}.port", number, "must be between 1 and 65535, inclusive")
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{where}.name")
        elif port.get("name"):
            yield from validate_label(port["name"], f"{where}.name")
            if port["name"] in names:
                yield duplicate(f"{where}.name", port["name"])
        names.add(port.get("name", ""))
        if (number, port["protocol"]) in pairs:
            yield duplicate(where, {"port": number, "protocol": port["protocol"]})
        pairs.add((number, port["protocol"]))
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            yield unsupported(f"{where}.protocol", port["protocol"], ("TCP", "UDP", "SCTP"))
        target = port.get("targetPort")
        if isinstance(target, int) and not 1 <= target <= 65535:
            yield wrong(f"{where}.targetPort", target, "must be between 1 and 65535, inclusive")
    yield from validate_labels(spec.get("selector") or {}, "spec.selector")
    if spec["sessionAffinity"] not in ("None", "ClientIP"):
        yield unsupported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
