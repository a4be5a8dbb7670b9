"""Reads Kubernetes objects into the parts of a MeshSnapshot, one object at a time. Pure.

Tenants write most of these objects. Each reader checks the type of what it takes, so that what it returns can be
sorted, compared and turned into configuration, and raises Unreadable for anything else; the caller skips that object.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.errors import Misuse
from chaos.kube import objects
from chaos.kube.placement import Homes, recognise_proxy, stands_apart
from chaos.mesh.snapshot import (
    AccessLog,
    AppProtocol,
    Endpoint,
    Features,
    Policy,
    Rule,
    Service,
    ServicePort,
    Waypoint,
    Workload,
)
from chaos.model.modes import Layer, ProxyMode, Scope
from chaos.model.placement import Proxy
from chaos.names import (
    ANNOTATION_SANDBOX,
    LABEL_LAYER,
    LABEL_MESH,
    LABEL_MODE,
    LABEL_POLICY,
    LABEL_ROLE,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    LABEL_WAYPOINT,
    NO_WAYPOINT,
    spiffe_id,
)

Object = Mapping[str, Any]
SERVICE_OF_SLICE: Final = "kubernetes.io/service-name"
_HTTP: Final = ("http", "http2", "h2c", "grpc")


class Unreadable(Exception):
    """The object violates its kind's schema; the text names the field."""


# ---- fields


def text(value: Any, field: str) -> str:
    """Return the value, which must be a text that can be sent: without half of a surrogate pair."""
    if not isinstance(value, str) or not (value.isascii() or value.encode(errors="ignore").decode() == value):
        raise Unreadable(f"{field} is {value!r:.200}")
    return value


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """Return the value, which must be a mapping or missing."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Unreadable(f"{field} is {value!r}")
    return value


def items(value: Any, field: str) -> Sequence[Mapping[str, Any]]:
    """Return the value, which must be a list of mappings or missing."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise Unreadable(f"{field} is {value!r}")
    return value


def texts(value: Any, field: str) -> Mapping[str, str]:
    """Return the value, which must be a mapping of texts or missing: labels, annotations, a ConfigMap's data."""
    found = mapping(value, field)
    return {text(name, field): text(one, f"{field}[{name}]") for name, one in found.items()}


def address(value: Any, field: str) -> str:
    """Return the value, which must be an IP address without a zone: Envoy refuses configuration that holds anything
    else.
    """
    try:
        ipaddress.ip_address(text(value, field))
    except ValueError as error:
        raise Unreadable(f"{field}: {error}") from error
    if "%" in value:
        raise Unreadable(f"{field} has a zone: {value!r:.200}")
    return str(value)


def port_number(value: Any, field: str) -> int:
    """Return the value, which must be a port."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 16:
        raise Unreadable(f"{field} is {value!r}")
    return value


def meta_of(obj: Object) -> tuple[str, str, str]:
    """(UID, namespace, name); the namespace of what has none is empty."""
    meta = mapping(obj.get("metadata"), "metadata")
    return (
        text(meta.get("uid"), "metadata.uid"),
        text(meta.get("namespace", ""), "metadata.namespace"),
        text(meta.get("name"), "metadata.name"),
    )


def labels_of(obj: Object) -> Mapping[str, str]:
    """The object's labels."""
    return texts(mapping(obj.get("metadata"), "metadata").get("labels"), "metadata.labels")


def has_condition(pod: Object, kind: str) -> bool:
    """Whether that condition of the pod is True."""
    items(mapping(pod.get("status"), "status").get("conditions"), "status.conditions")
    return objects.has_condition(pod, kind)


def has_ended(pod: Object) -> bool:
    """Whether all containers of the pod have ended for good."""
    return mapping(pod.get("status"), "status").get("phase") in ("Succeeded", "Failed")


def is_live(pod: Object) -> bool:
    """Whether the pod is there to stay: neither ended nor being deleted."""
    return not has_ended(pod) and "deletionTimestamp" not in mapping(pod.get("metadata"), "metadata")


# ---- kinds


def features_from(raw: Mapping[str, Any]) -> Features:
    """From the settings' JSON. Raises Misuse for an unknown name."""
    if unknown := sorted(set(raw) - set(Features.__slots__)):
        raise Misuse(f"mesh settings: unknown features {', '.join(unknown)}: known are {', '.join(Features.__slots__)}")
    return Features(**{**raw, **({"access_log": AccessLog(raw["access_log"])} if "access_log" in raw else {})})


def meshed_namespace(namespace: Object) -> str | None:
    """Return the name of a namespace in the mesh; None for another."""
    _, _, name = meta_of(namespace)
    return name if labels_of(namespace).get(LABEL_MESH) == "enabled" else None


def node_address(node: Object) -> tuple[str, str]:
    """(name, InternalIP) of a node; the address is "" while it has none."""
    _, _, name = meta_of(node)
    found = items(mapping(node.get("status"), "status").get("addresses"), "status.addresses")
    internal = next((one.get("address") for one in found if one.get("type") == "InternalIP"), None)
    return name, "" if internal is None else address(internal, "status.addresses")


def workload(pod: Object, mode: ProxyMode, meshed: frozenset[str]) -> Workload | None:
    """Return the pod as configuration sees it; None for pods of other namespaces, proxies, and pods without an
    address.

    A pod that only says that it is a proxy is a workload like any other. The sandbox that its annotation names counts
    only when it is the pod's own: the annotation can be written by whoever may write the pod. A pod that is being
    deleted is carried until it has ended: its application may still call while it shuts down.
    """
    uid, namespace, name = meta_of(pod)
    spec, status = mapping(pod.get("spec"), "spec"), mapping(pod.get("status"), "status")
    if namespace not in meshed or has_ended(pod) or spec.get("hostNetwork"):
        return None
    if not spec.get("nodeName") or not status.get("podIP") or stands_apart(pod, mode):
        return None
    labels = labels_of(pod)
    annotations = texts(mapping(pod.get("metadata"), "metadata").get("annotations"), "metadata.annotations")
    sandbox = annotations.get(ANNOTATION_SANDBOX, "")
    return Workload(
        uid=uid,
        namespace=namespace,
        name=name,
        node=text(spec["nodeName"], "spec.nodeName"),
        ip=address(status["podIP"], "status.podIP"),
        service_account=text(spec.get("serviceAccountName", "default"), "spec.serviceAccountName"),
        labels=tuple(sorted(labels.items())),
        ready=has_condition(pod, "Ready") and is_live(pod),
        meshed=LABEL_MODE in labels,
        sandbox=sandbox if re.fullmatch(rf"{re.escape(uid)}-[0-9]+", sandbox) else "",
    )


def waypoint(pod: Object, mode: ProxyMode, homes: Homes) -> Waypoint | None:
    """Return the L7 proxy that the pod is; None for one that serves nothing or has no address, and for any other
    pod.

    Raises NotAProxy for a pod that is no proxy of the mesh.
    """
    proxy = recognise_proxy(pod, mode, homes)
    ip = mapping(pod.get("status"), "status").get("podIP")
    if proxy.layers != frozenset({Layer.L7}) or not proxy.key or not ip or not is_live(pod):
        return None
    found = Waypoint(proxy, address(ip, "status.podIP"), has_condition(pod, "Ready"))
    hash(found)  # TypeError for a field that holds an object where a text should stand: such a pod cannot be read
    return found


def believed_waypoint(pod: Object) -> Waypoint | None:
    """The mutation BELIEVED_LABELS: a waypoint from a pod's own labels, believed without a check."""
    uid, namespace, name = meta_of(pod)
    labels, spec = labels_of(pod), mapping(pod.get("spec"), "spec")
    ip = mapping(pod.get("status"), "status").get("podIP")
    if (labels.get(LABEL_ROLE), labels.get(LABEL_LAYER)) != ("proxy", "l7") or not ip or not is_live(pod):
        return None
    scope, node = Scope(labels[LABEL_SCOPE]), text(spec.get("nodeName"), "spec.nodeName")
    key = labels.get(LABEL_SCOPE_KEY, "") if scope is not Scope.NODE else node
    account_name = text(spec.get("serviceAccountName", "default"), "spec.serviceAccountName")
    proxy = Proxy(namespace, name, "proxy", uid, node, frozenset({Layer.L7}), scope, key, account_name)
    return Waypoint(proxy, address(ip, "status.podIP"), has_condition(pod, "Ready"))


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice: the pods behind a Service. Only pods of its own namespace count."""

    namespace: str
    service: str
    ports: Mapping[str, int]  # by name, "" for the one without
    endpoints: tuple[tuple[str, tuple[str, ...], bool], ...]  # pod UID, addresses, ready

    @property
    def uids(self) -> frozenset[str]:
        """The UIDs of the pods behind the Service, ready or not."""
        return frozenset(uid for uid, _, _ in self.endpoints)


def pod_addresses(pod: Object) -> tuple[str, frozenset[str]]:
    """(UID, the addresses that the pod's status says)."""
    uid, _, _ = meta_of(pod)
    status = mapping(pod.get("status"), "status")
    found = [status.get("podIP"), *(one.get("ip") for one in items(status.get("podIPs"), "status.podIPs"))]
    return uid, frozenset(text(one, "status.podIPs") for one in found if one)


def endpoint_slice(piece: Object, homes: Homes, addresses_of: Mapping[str, Collection[str]]) -> Slice | None:
    """Return the slice; None for one without a Service.

    An endpoint is the pod that it names only at that pod's own addresses, and only if the pod is of the slice's
    namespace: who writes a slice chooses both. Any other is left out.

    Args:
        addresses_of: UID -> the pod's addresses.
    """
    _, namespace, _ = meta_of(piece)
    service = labels_of(piece).get(SERVICE_OF_SLICE)
    if not service:
        return None
    ports = {
        text(port.get("name") or "", "ports.name"): port_number(port["port"], "ports.port")
        for port in items(piece.get("ports"), "ports")
        if port.get("port") is not None
    }
    found = []
    for one in items(piece.get("endpoints"), "endpoints"):
        ref = mapping(one.get("targetRef"), "endpoints.targetRef")
        if ref.get("kind") != "Pod":
            continue
        uid = text(ref.get("uid"), "endpoints.targetRef.uid")
        addresses = one.get("addresses")
        if not isinstance(addresses, list):
            raise Unreadable(f"endpoints.addresses is {addresses!r}")
        there = tuple(address(value, "endpoints.addresses") for value in addresses)
        ready = mapping(one.get("conditions"), "endpoints.conditions").get("ready") is not False
        if homes.get(uid) == namespace:
            found.append((uid, tuple(one for one in there if one in addresses_of.get(uid, ())), ready))
    return Slice(namespace, service, ports, tuple(found))


def protocol(port: Object) -> AppProtocol:
    """From appProtocol, or the prefix of the port's name."""
    said = text(port.get("appProtocol") or "", "ports.appProtocol")
    said = said or text(port.get("name") or "", "ports.name").split("-")[0]
    return AppProtocol.HTTP if said.rsplit("/", 1)[-1].lower() in _HTTP else AppProtocol.TCP


def service(obj: Object, slices: Iterable[Slice], accounts: Mapping[str, str]) -> Service | None:
    """Return the Service with its ready endpoints; None for one without a cluster IP.

    Args:
        slices: those of this Service.
        accounts: UID of every pod -> its SPIFFE id.
    """
    _, namespace, name = meta_of(obj)
    spec, pieces = mapping(obj.get("spec"), "spec"), list(slices)
    if spec.get("clusterIP") in (None, "", "None"):
        return None
    ports = tuple(
        ServicePort(
            port=port_number(port.get("port"), "spec.ports.port"),
            protocol=protocol(port),
            endpoints=_endpoints(pieces, text(port.get("name") or "", "spec.ports.name")),
            target_port=_target_port(port.get("targetPort")),
        )
        for port in items(spec.get("ports"), "spec.ports")
        if port.get("protocol", "TCP") == "TCP"
    )
    behind = {accounts[uid] for piece in pieces for uid in piece.uids if uid in accounts}
    return Service(
        namespace,
        name,
        address(spec["clusterIP"], "spec.clusterIP"),
        ports,
        tuple(sorted(behind)),
        waypoint=labels_of(obj).get(LABEL_WAYPOINT) != NO_WAYPOINT,
    )


def _target_port(value: Any) -> int:
    """A target port that is a number; 0 for a name, or for none."""
    return port_number(value, "spec.ports.targetPort") if isinstance(value, int) else 0


def _endpoints(pieces: Iterable[Slice], port: str) -> tuple[Endpoint, ...]:
    """The ready endpoints of the Service port of that name, sorted."""
    return tuple(
        sorted(
            {
                Endpoint(uid, there, piece.ports[port])
                for piece in pieces
                if port in piece.ports
                for uid, addresses, ready in piece.endpoints
                if ready
                for there in addresses
            }
        )
    )


def account(pod: Object) -> tuple[str, str]:
    """(UID, SPIFFE id) of any pod."""
    uid, namespace, _ = meta_of(pod)
    name = mapping(pod.get("spec"), "spec").get("serviceAccountName", "default")
    return uid, spiffe_id(namespace, text(name, "spec.serviceAccountName"))


def policy(config_map: Object) -> tuple[Policy, str] | None:
    """Return the allow-list of a ConfigMap with the policy's label, and why it cannot be read ("": it can); None for
    any other.

    `policy.json` holds `{"rules": [{"sources": [...], "methods": [...], "paths": [...]}]}`. A text that cannot be read,
    or holds anything else, allows nothing: a policy with no rule.
    """
    if labels_of(config_map).get(LABEL_POLICY) != "enabled":
        return None
    _, namespace, name = meta_of(config_map)
    try:
        said = json.loads(texts(config_map.get("data"), "data")["policy.json"])
        if said["rules"] is None:
            raise Unreadable("rules is null")
        return Policy(namespace, name, tuple(_rule(one) for one in items(said["rules"], "rules"))), ""
    except (KeyError, ValueError, TypeError, RecursionError, Unreadable) as error:
        return Policy(namespace, name), f"{type(error).__name__}: {error}"[:400]


def _rule(raw: Mapping[str, Any]) -> Rule:
    """A rule; a part that cannot be read would else be one that is missing, which allows everything."""
    parts = ("sources", "methods", "paths")
    if unknown := sorted(set(raw) - set(parts)):
        raise Unreadable(f"rules has {unknown}")
    for part in parts:
        if not isinstance(raw.get(part), list | None):
            raise Unreadable(f"rules.{part} is {raw[part]!r:.200}")
    return Rule(*(tuple(text(value, f"rules.{part}") for value in raw.get(part) or ()) for part in parts))
