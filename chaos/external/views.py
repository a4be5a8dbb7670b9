"""Reads the mesh's own view of which proxies carry which pods: dumps and statistics, reduced to a few common
facts.

A prediction rests on the Kubernetes objects; what the proxies were told may differ. `contradictions` says where, before
anything is broken. Pure; `chaos.external.reading` fetches the pages.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from chaos.errors import ExperimentFailure
from chaos.model.modes import Layer, Route, Scope, Side
from chaos.model.placement import Pair, Placement, Pod, Proxy

_CLUSTER: Final = re.compile(r"(?:outbound|inbound-vip)\|\d+\|[^|]*\|([^.|]+)\.([^.|]+)\.svc(?:\.|$)")
_IDENTITY: Final = re.compile(r"spiffe://[^/]+/ns/(?P<ns>[^/]+)/sa/(?P<sa>[^/]+)$")
_LINKERD_IDENTITY: Final = re.compile(r"(?P<sa>[^.]+)\.(?P<ns>[^.]+)\.serviceaccount\.identity\.")
_CARRIED: Final = "HBONE"  # a workload's protocol in ztunnel's dump: it is spoken to through a proxy of the mesh


@dataclass(frozen=True, slots=True)
class View:
    """One proxy's view. None where it says nothing.

    Attributes:
        carried: `namespace/pod` -> whether the mesh speaks to it through a proxy.
        waypoints: `namespace/service` -> key of the waypoint that it is bound to, "" for none.
        services: `namespace/service` of those that it has routes for.
        identities: (namespace, service account) of those whose certificates it holds.
        callers: (namespace, service account) of those whose requests it has taken over mutual TLS.
    """

    carried: Mapping[str, bool] | None = None
    waypoints: Mapping[str, str] | None = None
    services: frozenset[str] | None = None
    identities: frozenset[tuple[str, str]] | None = None
    callers: frozenset[tuple[str, str]] | None = None


def _ztunnel(text: str) -> View:
    """ztunnel's `/config_dump` (JSON; what `istioctl ztunnel-config all -o yaml` prints has the same entries)."""
    dump = _mapping(text)
    services = dump.get("services") or []
    by_address = {address: one for one in services for address in one.get("vips") or []}
    waypoints = {f"{one['namespace']}/{one['name']}": _destination(one.get("waypoint"), by_address) for one in services}
    carried = {
        f"{one['namespace']}/{one['name']}": one.get("protocol") == _CARRIED
        for one in dump.get("workloads") or []
        if one.get("workloadType") == "pod" and "namespace" in one
    }
    certificates = dump.get("certificates")
    held = [one for one in certificates or [] if one.get("certChain")]  # others are asked for, refused, or given up
    names = [_split(_IDENTITY, str(one.get("identity", ""))) for one in held]
    return View(
        carried, waypoints, identities=None if certificates is None else frozenset(name for name in names if name)
    )


def _destination(waypoint: Any, by_address: Mapping[str, Mapping[str, Any]]) -> str:
    """`namespace/name` of a waypoint, from `namespace/hostname`, or from its Service's address."""
    if not waypoint:
        return ""
    named = waypoint.get("destination", "") if isinstance(waypoint, Mapping) else waypoint
    if isinstance(named, Mapping):
        named = f"{named.get('namespace', '')}/{named.get('hostname', '')}"
    if (service := by_address.get(str(named))) is not None:
        return f"{service['namespace']}/{service['name']}"
    namespace, _, host = str(named).partition("/")
    return f"{namespace}/{host.partition('.')[0]}"


def _envoy(text: str) -> View:
    """Envoy's `/config_dump`, or a list of its clusters' names: those of Services are `outbound|PORT|SUBSET|HOST`."""
    dump = _mapping(text)
    names = dump.get("clusters")
    configs = dump.get("configs") or []
    if names is None:
        names = [name for config in configs for name in _cluster_names(config)]
    found = (_CLUSTER.match(str(name)) for name in names)
    chains = [chain for config in configs for chain in _certificate_chains(config)]
    held = [_split(_IDENTITY, uri) for chain in chains for uri in _uris_of(chain)]
    return View(
        services=frozenset(f"{one[2]}/{one[1]}" for one in found if one),
        identities=frozenset(name for name in held if name) if chains else None,
    )


def _certificate_chains(config: Mapping[str, Any]) -> Iterable[bytes]:
    """The certificates for which a dump shows that there is a key (its own text is redacted), PEM."""
    for part in ("static_secrets", "dynamic_active_secrets"):
        for one in config.get(part) or []:
            chain = ((one.get("secret") or {}).get("tls_certificate") or {}).get("certificate_chain") or {}
            if text := chain.get("inline_bytes"):
                yield base64.b64decode(text)
            elif text := chain.get("inline_string"):
                yield str(text).encode()


def _uris_of(chain: bytes) -> list[str]:
    """The URIs in the first certificate's subjectAltName."""
    from cryptography import x509  # longer to load than all else here, and few read a dump

    leaf = x509.load_pem_x509_certificates(chain)[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _cluster_names(config: Mapping[str, Any]) -> Iterable[str]:
    for part in ("static_clusters", "dynamic_active_clusters"):
        yield from (str((one.get("cluster") or {}).get("name", "")) for one in config.get(part) or [])


def _linkerd(text: str) -> View:
    """Linkerd's `/metrics`: the inbound requests that came over mutual TLS, by the client's identity."""
    callers = set()
    for family in _families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("direction", "inbound") == "inbound" and labels.get("tls") == "true" and sample.value > 0:
                callers.add(_split(_LINKERD_IDENTITY, labels.get("client_id", "")))
    return View(callers=frozenset(name for name in callers if name))


def _families(text: str) -> Iterable[Any]:
    from prometheus_client.parser import text_string_to_metric_families

    return text_string_to_metric_families(_with_types(text))


def sum_of(text: str, names: Sequence[str]) -> float:
    """Return the sum of these counters on a page of statistics. Raises ExperimentFailure for any other page."""
    try:
        families = list(_families(text))
    except ValueError as error:
        raise ExperimentFailure(f"a proxy's page is no statistics: {text[:80]!r}") from error
    return float(sum(sample.value for family in families for sample in family.samples if sample.name in names))


def _with_types(text: str) -> str:
    """Lines of samples alone, as they are: the parser needs no TYPE, but an end of line."""
    return text if text.endswith("\n") else f"{text}\n"


def _split(pattern: re.Pattern[str], text: str) -> tuple[str, str] | None:
    found = pattern.match(text)
    return (found["ns"], found["sa"]) if found else None


def _mapping(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ExperimentFailure(f"a proxy's dump is neither JSON nor YAML: {text[:80]!r}") from error
    if not isinstance(found, Mapping):
        raise ExperimentFailure(f"a proxy's dump is a {type(found).__name__}, and should be a mapping: {text[:80]!r}")
    return found


FORMATS: Final[Mapping[str, Callable[[str], View]]] = {
    "ztunnel-dump": _ztunnel,
    "envoy-dump": _envoy,
    "linkerd-metrics": _linkerd,
}


def parse_view(text: str, form: str) -> View:
    """Parse a page of that format. Raises ExperimentFailure for one that cannot be read."""
    try:
        return FORMATS[form](text)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ExperimentFailure(f"a proxy's page is no {form}: {error!r}") from error


@dataclass(frozen=True, slots=True)
class SeenProxy:
    """A proxy and its view."""

    proxy: Proxy
    view: View = field(default_factory=View)


def contradictions(
    placement: Placement, services: Mapping[tuple[str, str], str], seen: Sequence[SeenProxy], *, loaded: bool = False
) -> list[str]:
    """Return where the proxies' own view and the prediction differ, a sentence each.

    Args:
        services: by call (client and server key), `namespace/service` that it addresses; a call that addresses pods, or
            of which it is not known, is not there.
        loaded: requests of every call have been made: what counts them has to have seen them.
    """
    found = [text for one in seen for pod in placement.pods if (text := _carried_otherwise(one, pod))]
    for pair in placement.pairs():
        route, service = placement.route(pair), services.get(pair.call, "")
        call = f"{pair.call[0]} -> {pair.call[1]}"
        bound = next((hop.key for hop in route.hops if hop.scope is Scope.WAYPOINT), "")
        by_node = _stands(route, Scope.NODE, Side.CLIENT)
        for one in seen:
            named = (one.view.waypoints or {}).get(service) if by_node else None
            if named is not None and named != bound:
                found.append(
                    f"{one.proxy} sends calls to {service} through {named or 'no waypoint'}, and by the objects {call} "
                    f"passes {bound or 'none'}"
                )
            routed, picks, ends = one.view.services, *_stands_at(one.proxy, pair, placement)
            if routed is not None and service and picks and service not in routed:
                found.append(f"{one.proxy} has no route for {service}, and by the objects {call} passes it")
            who = (pair.client.namespace, pair.client.service_account)
            if loaded and ends and one.view.callers is not None and who not in one.view.callers:
                found.append(f"{one.proxy} has taken no request of {'/'.join(who)} over mutual TLS, of {call}")
    return list(dict.fromkeys(found))


def _carried_otherwise(one: SeenProxy, pod: Pod) -> str:
    """Where a proxy's word and the objects differ on whether a node's proxy carries the pod; "" where they agree."""
    said = (one.view.carried or {}).get(f"{pod.namespace}/{pod.name}")
    if said is None or Scope.POD in pod.carried_by or said is (Scope.NODE in pod.carried_by):
        return ""
    words = ("carried", "not") if said else ("not carried", "that it is")
    return f"{one.proxy} says that {pod.namespace}/{pod.name} is {words[0]}, and its marks say {words[1]}"


def _stands(route: Route, scope: Scope, side: Side) -> bool:
    return any(hop.scope is scope and hop.side is side for hop in route.hops)


def _stands_at(proxy: Proxy, pair: Pair, placement: Placement) -> tuple[bool, bool]:
    """(whether the proxy is where the pair's requests are given a server, whether it is where they end, in a pod whose
    client is carried in its own pod too)."""
    route = placement.route(pair)
    here = [h for h in route.hops if h.scope is proxy.scope and proxy.key == h.key_at(pair.at(h.side))]
    picks = any(Layer.L7 in h.layers and (h.side is Side.CLIENT or h.scope is Scope.WAYPOINT) for h in here)
    ends = any(h.side is Side.SERVER and h.scope is Scope.POD for h in here)
    return picks, ends and _stands(route, Scope.POD, Side.CLIENT)
