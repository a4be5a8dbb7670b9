"""`build`: makes one proxy's whole configuration from the snapshot. Pure; its parts are cached, so a change costs only
what it changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chaos.mesh.envoy import clusters, listeners
from chaos.mesh.envoy.parts import sandbox_path
from chaos.mesh.envoy.ports import (
    meshed_endpoints,
    peers_of,
    pod_ports,
    policies_of,
    served_endpoints,
    service_cluster,
    service_ports,
    targets,
    waypoint_endpoints,
    waypoints_before,
    waypoints_of,
)
from chaos.mesh.envoy.resources import Resource, Resources
from chaos.mesh.mutations import NO_DEFECTS, Defect, Defects
from chaos.mesh.snapshot import ROOT_SECRET, AppProtocol, Endpoint, MeshSnapshot, ProxyRole, Workload, identity_of
from chaos.model.modes import Scope
from chaos.model.placement import Proxy


def build(proxy: Proxy, snapshot: MeshSnapshot, *, defects: Defects = NO_DEFECTS) -> Resources:
    """Return all listeners, clusters and endpoints of the proxy, and the secrets that it may ask for."""
    defects |= snapshot.defects
    make = {
        ProxyRole.SIDECAR: _both_layers,
        ProxyRole.NODE: _both_layers,
        ProxyRole.L4: _connections,
        ProxyRole.WAYPOINT: _waypoint,
    }[ProxyRole.of(proxy)]
    items = [*make(proxy, snapshot, defects)]
    if Defect.OVER_GENEROUS in defects:
        own = replace(snapshot, defects=NO_DEFECTS).identities(proxy)
        items += [clusters.hoard(identity) for identity in sorted(snapshot.everybody() - own)]
    return Resources.collect(items, {ROOT_SECRET, *snapshot.identities(proxy)})


def _reachable(proxy: Proxy, snapshot: MeshSnapshot) -> list[tuple[str, str, Workload]]:
    """(last part of listeners' names, namespace path, pod) of the pods whose namespace the proxy can listen in."""
    found = []
    for pod in snapshot.served_by(proxy):
        if not pod.ip or not (pod.sandbox or ProxyRole.of(proxy) is ProxyRole.SIDECAR):
            continue  # its sandbox is not known yet
        netns = sandbox_path(pod, proxy)
        found.append((pod.sandbox if netns else "pod", netns, pod))
    return found


def _facts(pod: Workload) -> tuple[str, str, str]:
    return pod.identity, pod.namespace, pod.name


def _both_layers(proxy: Proxy, snapshot: MeshSnapshot, defects: Defects) -> Iterator[Resource]:
    features = snapshot.features
    shared = ProxyRole.of(proxy) is not ProxyRole.SIDECAR
    own = "" if shared else identity_of(proxy)
    for service, port in service_ports(snapshot):
        name = service_cluster(service, port)
        peers = tuple(kind for peer in peers_of(service) for kind in peer.items())
        yield clusters.service(
            name, peers, features, own=own, shared=shared, http2=port.protocol is AppProtocol.HTTP, defects=defects
        )
        yield clusters.endpoints(name, meshed_endpoints(snapshot, port.endpoints), defects)
    yield clusters.plain(clusters.INBOUND, features, shared=shared, defects=defects)
    yield clusters.plain(clusters.INBOUND_HTTP1, features, shared=shared, protocol="http1", defects=defects)
    yield clusters.plain(clusters.INBOUND_HTTP2, features, shared=shared, protocol="http2", defects=defects)
    yield clusters.plain(clusters.PASSTHROUGH, features, shared=shared, defects=defects)
    everything, misanswers = targets(snapshot), snapshot.misanswers_of(proxy)
    for key, netns, pod in _reachable(proxy, snapshot):
        yield listeners.outbound(
            key, _facts(pod), netns, everything, features, tunnel=False, misanswers=misanswers, defects=defects
        )
        yield listeners.inbound(
            key,
            _facts(pod),
            netns,
            pod_ports(snapshot, pod),
            features,
            policies_of(snapshot, pod.namespace),
            misanswers=misanswers,
            defects=defects,
        )


def _connections(proxy: Proxy, snapshot: MeshSnapshot, defects: Defects) -> Iterator[Resource]:
    features = snapshot.features
    accounts = {w.identity for w in snapshot.waypoints}
    for service, port in service_ports(snapshot):
        name = service_cluster(service, port)
        if not service.waypoint:
            yield clusters.tunnelled_service(name, features, defects)
            yield _tunnels_to(snapshot, name, port.endpoints, defects)
            continue
        before = waypoints_before(snapshot, service, port, proxy.node)
        peers = tuple(("exact", account) for account in sorted({w.identity for w in before} or accounts))
        yield clusters.service(
            name,
            peers or (("exact", "spiffe://nobody"),),
            features,
            own="",
            shared=True,
            http2=True,
            tunnel=True,
            defects=defects,
        )
        yield clusters.endpoints(name, waypoint_endpoints(before), defects - {Defect.UNBALANCED})
    yield clusters.tunnel_origin("", features, shared=True, defects=defects)
    yield listeners.tunnel_exit(features, source=listeners.L4_PROXY)
    yield clusters.connect_target(features, defects)
    yield clusters.plain(clusters.PASSTHROUGH, features, shared=True, defects=defects)
    everything = targets(snapshot)
    for key, netns, pod in _reachable(proxy, snapshot):
        yield listeners.outbound(key, _facts(pod), netns, everything, features, tunnel=True, defects=defects)
        peers_in = tuple(sorted({w.identity for w in waypoints_of(snapshot, pod)}))
        alone = None if pod.waypoint else policies_of(snapshot, pod.namespace)
        yield listeners.hbone(key, _stable(pod), netns, peers_in, features, policies=alone, defects=defects)


def _waypoint(proxy: Proxy, snapshot: MeshSnapshot, defects: Defects) -> Iterator[Resource]:
    features = snapshot.features
    namespace: str | None = None
    if proxy.scope is Scope.NAMESPACE:
        namespace = proxy.key
    elif proxy.scope is Scope.POD:
        pod = snapshot.pods.get(proxy.key)
        namespace = pod.namespace if pod else ""
    mine = tuple(target for target in targets(snapshot, namespace) if target.waypoint)
    names = {t.cluster for t in mine}
    for service, port in service_ports(snapshot):
        name = service_cluster(service, port)
        if name not in names:
            continue
        yield clusters.tunnelled_service(name, features, defects)
        yield _tunnels_to(snapshot, name, served_endpoints(snapshot, proxy, service, port), defects)
    yield clusters.tunnel_origin(identity_of(proxy), features, defects=defects)
    for target in mine:
        yield clusters.internal(listeners.inner_name(target), listeners.inner_name(target), features)
        yield listeners.waypoint_inner(
            target,
            features,
            policies_of(snapshot, target.namespace),
            misanswers=snapshot.misanswers_of(proxy),
            defects=defects,
        )
    yield listeners.tunnel_exit(features, source=listeners.WAYPOINT)
    yield listeners.waypoint_entry(identity_of(proxy), mine, features, defects=defects)


def _tunnels_to(snapshot: MeshSnapshot, name: str, ends: tuple[Endpoint, ...], defects: Defects) -> Resource:
    there = meshed_endpoints(snapshot, ends)
    return clusters.tunnelled_endpoints(name, tuple((e, snapshot.pods[e.pod_uid].identity) for e in there), defects)


def _stable(pod: Workload) -> Workload:
    """Return the pod without what changes while it lives: readiness must not change its listeners."""
    return Workload(
        uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        node=pod.node,
        ip=pod.ip,
        service_account=pod.service_account,
        sandbox=pod.sandbox,
    )
