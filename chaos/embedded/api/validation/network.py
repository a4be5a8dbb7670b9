"""Validation of Services, NetworkPolicies, EndpointSlices, Endpoints and pod addresses.

Valid fields are written into nftables scripts: only addresses, networks, ports and protocols pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, too_many, unsupported, wrong
from chaos.embedded.api.validation.addresses import (
    ADDRESS_RULE,
    address_of,
    endpoint_address,
    leading_zeros,
    legacy_address,
    network,
    network_of,
    strict_network,
)
from chaos.embedded.api.validation.names import (
    Causes,
    dns_label,
    dns_subdomain,
    each,
    label_value,
    port,
    port_number,
    qualified,
    validate_label,
    validate_label_selector,
    validate_labels,
)
from chaos.embedded.resources import Object

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ADDRESS_TYPES: Final = ("FQDN", "IPv4", "IPv6")
_POLICIES: Final = ("Cluster", "Local")
_DISTRIBUTION: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
_RANGES: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"
_LONGEST_AFFINITY: Final = 86400


def _protocol(given: Mapping[str, Any], field: str) -> Causes:
    protocol = given.get("protocol", "")
    if not protocol:
        yield required(f"{field}.protocol")
    elif protocol not in PROTOCOLS:
        yield unsupported(f"{field}.protocol", protocol, PROTOCOLS)


def network_policy(obj: Object) -> Causes:
    spec = obj["spec"]
    yield from validate_label_selector(spec.get("podSelector"), "spec.podSelector")
    for way, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(way) or []):
            where = f"spec.{way}[{index}]"
            for number, one in enumerate(rule.get("ports") or []):
                yield from _policy_port(one, f"{where}.ports[{number}]")
            for number, peer in enumerate(rule.get(side) or []):
                yield from _peer(peer, f"{where}.{side}[{number}]")
    kinds = spec["policyTypes"]
    if len(kinds) > 2:
        yield wrong("spec.policyTypes", kinds, "may not specify more than two policyTypes")
        return
    for index, kind in enumerate(kinds):
        if kind not in ("Ingress", "Egress"):
            yield unsupported(f"spec.policyTypes[{index}]", kind, ("Ingress", "Egress"))


def _policy_port(one: Mapping[str, Any], field: str) -> Causes:
    known = ("TCP", "UDP", "SCTP")
    if one.get("protocol", "TCP") not in known:
        yield unsupported(f"{field}.protocol", one["protocol"], known)
    number, last = one.get("port"), one.get("endPort")
    if number is None:
        if last is not None:
            yield wrong(f"{field}.endPort", last, "may not be specified when `port` is not specified")
        return
    if isinstance(number, str):
        if last is not None:
            yield wrong(f"{field}.endPort", last, "may not be specified when `port` is non-numeric")
        yield from port(number, f"{field}.port")
        return
    yield from port_number(number, f"{field}.port")
    if last is not None:
        if last < number:
            yield wrong(f"{field}.endPort", number, "must be greater than or equal to `port`")
        yield from port_number(last, f"{field}.endPort")


def _peer(peer: Mapping[str, Any], field: str) -> Causes:
    kinds = peer.keys() & {"podSelector", "namespaceSelector", "ipBlock"}
    for name in ("podSelector", "namespaceSelector"):
        yield from validate_label_selector(peer.get(name), f"{field}.{name}")
    if "ipBlock" in peer:
        yield from _block(peer["ipBlock"], f"{field}.ipBlock")
    if not kinds:
        yield required(field, "must specify a peer")
    elif len(kinds) > 1 and "ipBlock" in kinds:
        yield not_allowed(field, "may not specify both ipBlock and another peer")


def _block(block: Mapping[str, Any], field: str) -> Causes:
    cidr = block.get("cidr", "")
    if not cidr:
        yield required(f"{field}.cidr")
        return
    yield from strict_network(cidr, f"{field}.cidr")
    outer = network_of(cidr)
    for index, text in enumerate(block.get("except") or [] if outer is not None else []):
        where, inner = f"{field}.except[{index}]", network_of(text)
        yield from strict_network(text, where)
        if inner is None or outer is None:
            continue
        if not (inner.version == outer.version and inner.subnet_of(outer) and inner.prefixlen > outer.prefixlen):  # type: ignore[arg-type]
            yield wrong(where, text, "must be a strict subset of `cidr`")


def endpoint_slice(obj: Object) -> Causes:
    kind = obj.get("addressType", "")
    if not kind:
        yield required("addressType")
    elif kind not in _ADDRESS_TYPES:
        yield unsupported("addressType", kind, _ADDRESS_TYPES)
    names: list[str] = []
    for index, one in enumerate(obj.get("ports") or []):
        where, name = f"ports[{index}]", one.get("name", "")
        if name:
            yield from validate_label(name, f"{where}.name")
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.append(name)
        if one.get("protocol") == "":
            yield unsupported(f"{where}.protocol", "", PROTOCOLS)
        else:
            yield from _protocol(one, where)
        if "appProtocol" in one:
            yield from each(f"{where}.appProtocol", one["appProtocol"], qualified(one["appProtocol"]))
    held = obj.get("endpoints") or []
    if len(held) > 1000:
        yield too_many("endpoints", len(held), 1000)
        return
    for index, endpoint in enumerate(held):
        yield from _endpoint(endpoint, kind, f"endpoints[{index}]")


def _endpoint(endpoint: Mapping[str, Any], kind: str, field: str) -> Causes:
    found = endpoint.get("addresses") or []
    if not found:
        yield required(f"{field}.addresses", "must contain at least 1 address")
    elif len(found) > 100:
        yield too_many(f"{field}.addresses", len(found), 100)
    for number, text in enumerate(found):
        where = f"{field}.addresses[{number}]"
        if kind == "FQDN":
            yield from each(where, text, dns_subdomain(text.removesuffix(".")))
        elif kind in ("IPv4", "IPv6"):
            address = address_of(text)
            if address is None:
                yield wrong(where, text, "must not have leading 0s" if leading_zeros(text) else ADDRESS_RULE)
                continue
            if f"IPv{address.version}" != kind:
                yield wrong(f"{field}.addresses", text, f"must be an {kind} address")
            yield from endpoint_address(text, where)
    if "nodeName" in endpoint:
        yield from each(f"{field}.nodeName", endpoint["nodeName"], dns_subdomain(endpoint["nodeName"]))
    if "hostname" in endpoint:
        yield from each(f"{field}.hostname", endpoint["hostname"], dns_label(endpoint["hostname"]))
    zones: list[str] = []
    for number, zone in enumerate((endpoint.get("hints") or {}).get("forZones") or []):
        name = zone.get("name", "")
        if name in zones:
            yield duplicate(f"{field}.hints.forZones[{number}].name", name)
        zones.append(name)
        yield from each(f"{field}.hints.forZones[{number}].name", name, label_value(name))


def endpoints(obj: Object) -> Causes:
    for index, subset in enumerate(obj.get("subsets") or []):
        where = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required(where, "must specify `addresses` or `notReadyAddresses`")
        for part in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(part) or []):
                at, text = f"{where}.{part}[{number}]", address.get("ip", "")
                yield from legacy_address(text, f"{at}.ip")
                if address.get("hostname"):
                    yield from validate_label(address["hostname"], f"{at}.hostname")
                if "nodeName" in address:
                    yield from each(f"{at}.nodeName", address["nodeName"], dns_subdomain(address["nodeName"]))
                yield from endpoint_address(text, f"{at}.ip")
        ports = subset.get("ports") or []
        for number, one in enumerate(ports):
            at = f"{where}.ports[{number}]"
            if one.get("name"):
                yield from validate_label(one["name"], f"{at}.name")
            elif len(ports) > 1:
                yield required(f"{at}.name")
            yield from port_number(one.get("port", 0), f"{at}.port")
            yield from _protocol(one, at)
            if "appProtocol" in one:
                yield from each(f"{at}.appProtocol", one["appProtocol"], qualified(one["appProtocol"]))


def pod_addresses(status: Mapping[str, Any]) -> Causes:
    """Validate the addresses in a pod's status, which any authorized writer may set."""
    texts = {"podIP": status.get("podIP"), "hostIP": status.get("hostIP")}
    texts |= {f"podIPs[{index}].ip": one.get("ip") for index, one in enumerate(status.get("podIPs") or [])}
    for name, text in texts.items():
        if text:
            yield from legacy_address(text, f"status.{name}")


def service(obj: Object) -> Causes:
    spec, ports = obj["spec"], obj["spec"].get("ports") or []
    kind, headless = spec["type"], spec.get("clusterIPs") == ["None"] or spec.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        yield required("spec.ports")
    if headless and kind in ("LoadBalancer", "NodePort"):
        yield wrong("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind == "ExternalName":
        yield from _external_name(spec)
    names: set[str] = set()
    for index, one in enumerate(ports):
        yield from _service_port(one, f"spec.ports[{index}]", names, must_be_named=len(ports) > 1)
    yield from validate_labels(spec.get("selector") or {}, "spec.selector")
    yield from _affinity(spec)
    if kind != "ExternalName":
        yield from _cluster_addresses(spec)
    for index, text in enumerate(spec.get("externalIPs") or []):
        faults = list(legacy_address(text, f"spec.externalIPs[{index}]"))
        yield from faults or endpoint_address(text, f"spec.externalIPs[{index}]")
    if kind not in _TYPES:
        yield unsupported("spec.type", kind, _TYPES)
    yield from _distinct(ports, kind)
    yield from _balancer(obj["metadata"], spec)
    yield from _traffic(spec)


def _external_name(spec: Mapping[str, Any]) -> Causes:
    for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(name) or (name == "clusterIPs" and spec.get("clusterIP")):
            yield not_allowed(f"spec.{name}", "may not be set for ExternalName services")
    name = str(spec.get("externalName", "")).removesuffix(".")
    if not name:
        yield required("spec.externalName")
    yield from each("spec.externalName", name, dns_subdomain(name) if name else [])


def _service_port(one: Mapping[str, Any], field: str, names: set[str], *, must_be_named: bool) -> Causes:
    name = one.get("name", "")
    if name:
        yield from validate_label(name, f"{field}.name")
        if name in names:
            yield duplicate(f"{field}.name", name)
        names.add(name)
    elif must_be_named:
        yield required(f"{field}.name")
    yield from port_number(one.get("port", 0), f"{field}.port")
    yield from _protocol(one, field)
    yield from port(one.get("targetPort", 0), f"{field}.targetPort")
    if "appProtocol" in one:
        yield from each(f"{field}.appProtocol", one["appProtocol"], qualified(one["appProtocol"]))


def _affinity(spec: Mapping[str, Any]) -> Causes:
    kind, config = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig")
    if not kind:
        yield required("spec.sessionAffinity")
    elif kind not in ("ClientIP", "None"):
        yield unsupported("spec.sessionAffinity", kind, ("ClientIP", "None"))
    if kind == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds", 0)
        if not 0 < seconds <= _LONGEST_AFFINITY:
            words = f"must be greater than 0 and less than {_LONGEST_AFFINITY}"
            yield wrong("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, words)
    elif kind == "None" and config is not None:
        yield not_allowed("spec.sessionAffinityConfig", "must not be set when session affinity is None")


def _cluster_addresses(spec: Mapping[str, Any]) -> Causes:
    first, held = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if first and held and held[0] != first:
        yield wrong("spec.clusterIPs", held, "first value must match `clusterIP`")
    elif held and not first:
        yield wrong("spec.clusterIPs", held, "must be empty when `clusterIP` is not specified")
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            yield unsupported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))
        elif family in families[:index]:
            yield duplicate(f"spec.ipFamilies[{index}]", family)
    known = ("PreferDualStack", "RequireDualStack", "SingleStack")
    for index, family in enumerate(families if set(families) <= {"IPv4", "IPv6"} else ()):
        if family == "IPv6" and not (spec.get("clusterIP") == "None" and not spec.get("selector")):
            yield wrong(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
    bare = spec.get("clusterIP") == "None" and not spec.get("selector")  # no address is chosen for it
    if spec.get("ipFamilyPolicy") == "RequireDualStack" and not bare:
        words = "this cluster is not configured for dual-stack services"
        yield wrong("spec.ipFamilyPolicy", "RequireDualStack", words)
    if spec.get("ipFamilyPolicy", "SingleStack") not in known:
        yield unsupported("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], known)
    for index, text in enumerate(held or ([first] if first else [])):
        if index == 0 and text == "None":
            if len(held) > 1:
                yield wrong("spec.clusterIPs", held, "'None' must be the first and only value")
            continue
        yield from legacy_address(text, f"spec.clusterIPs[{index}]")
        if ":" in text and address_of(text) is not None:
            yield wrong(f"spec.clusterIPs[{index}]", held or [first], "IPv6 is not configured on this cluster")
    if len(held) == 2 and all(address_of(text) is not None and ":" not in text for text in held):
        yield wrong("spec.clusterIPs", held, "may specify no more than one IP for each IP family")
    if len(held) > 2:
        yield wrong("spec.clusterIPs", held, "may only hold up to 2 values")


def _distinct(ports: list[Any], kind: str) -> Causes:
    if kind == "ClusterIP":
        for index, one in enumerate(ports):
            if one.get("nodePort"):
                yield not_allowed(f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
    taken: set[tuple[str, int]] = set()
    for index, one in enumerate(ports):
        key = (one.get("protocol", ""), one.get("nodePort", 0))
        if key[1] and key in taken:
            yield duplicate(f"spec.ports[{index}].nodePort", key[1])
        taken.add(key)
    taken = set()
    for index, one in enumerate(ports):
        key = (one.get("protocol", ""), one.get("port", 0))
        if key in taken:
            shown = {"Name": "", "Protocol": key[0], "AppProtocol": None, "Port": key[1], "TargetPort": 0}
            yield duplicate(f"spec.ports[{index}]", shown | {"NodePort": 0})
        taken.add(key)


def _balancer(meta: Mapping[str, Any], spec: Mapping[str, Any]) -> Causes:
    kind, only = spec["type"], "may only be used when `type` is 'LoadBalancer'"
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and kind != "LoadBalancer":
        yield not_allowed("spec.LoadBalancerSourceRanges", only)
    for index, text in enumerate(ranges):
        yield from network(text.strip(), f"spec.LoadBalancerSourceRanges[{index}]")
    ranges = str((meta.get("annotations") or {}).get(_RANGES, "")).strip()
    for text in ranges.split(",") if ranges and kind == "LoadBalancer" else ():
        yield from network(text.strip(), f"metadata.annotations[{_RANGES}]")
    if "allocateLoadBalancerNodePorts" in spec and kind != "LoadBalancer":
        yield not_allowed("spec.allocateLoadBalancerNodePorts", only)
    chosen = spec.get("loadBalancerClass")
    if chosen is not None:
        if kind != "LoadBalancer":
            yield not_allowed("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'")
        yield from each("spec.loadBalancerClass", chosen, qualified(chosen))
    annotation = "service.kubernetes.io/topology-mode"
    hints = "service.kubernetes.io/topology-aware-hints"
    notes = meta.get("annotations") or {}
    if {annotation, hints} <= notes.keys() and notes[annotation] != notes[hints]:
        words = f"must match annotations[{hints}] when both are specified"
        yield wrong(f"metadata.annotations[{annotation}]", notes[annotation], words)


def _traffic(spec: Mapping[str, Any]) -> Causes:
    kind = spec["type"]
    reached = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    outside = spec.get("externalTrafficPolicy", "")
    if not reached:
        if outside:
            words = "may only be set for externally-accessible services"
            yield wrong("spec.externalTrafficPolicy", outside, words)
    elif not outside:
        yield required("spec.externalTrafficPolicy")
    elif outside not in _POLICIES:
        yield unsupported("spec.externalTrafficPolicy", outside, _POLICIES)
    checked = kind == "LoadBalancer" and outside == "Local"
    if spec.get("healthCheckNodePort") and not checked:
        words = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield wrong("spec.healthCheckNodePort", spec["healthCheckNodePort"], words)
    inside = spec.get("internalTrafficPolicy")
    if inside is not None and inside not in _POLICIES:
        yield unsupported("spec.internalTrafficPolicy", inside, _POLICIES)
    spread = spec.get("trafficDistribution")
    if spread is not None and spread not in _DISTRIBUTION:
        yield unsupported("spec.trafficDistribution", spread, _DISTRIBUTION)
