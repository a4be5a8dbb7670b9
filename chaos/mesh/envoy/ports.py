"""What the roles read from a MeshSnapshot: names, the ports of a pod, the waypoints of a Service. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from chaos.mesh.mutations import Defect
from chaos.mesh.snapshot import AppProtocol, Endpoint, MeshSnapshot, Policy, Service, ServicePort, Waypoint, Workload
from chaos.model.modes import Hop, Layer, Side
from chaos.model.placement import Place, Proxy
from chaos.names import PORT_ADMIN, PORT_HBONE, PORT_INBOUND, PORT_OUTBOUND, PORT_STATUS, TRUST_DOMAIN

PROXY_PORTS: Final = (PORT_ADMIN, PORT_OUTBOUND, PORT_INBOUND, PORT_HBONE, PORT_STATUS)


def host_name(service: Service) -> str:
    return f"{service.name}.{service.namespace}"


def service_cluster(service: Service, port: ServicePort) -> str:
    """Cluster (and EDS) name of a Service port: `outbound|80|server.tenant-a`."""
    return f"outbound|{port.port}|{host_name(service)}"


def service_ports(snapshot: MeshSnapshot) -> Iterator[tuple[Service, ServicePort]]:
    for service in snapshot.services:
        for port in service.ports:
            yield service, port


def peers_of(service: Service) -> list[dict[str, str]]:
    """Matchers of the identities that may answer for the Service."""
    if service.accounts:
        return [{"exact": account} for account in service.accounts]
    return [{"prefix": f"spiffe://{TRUST_DOMAIN}/ns/{service.namespace}/sa/"}]


def policies_of(snapshot: MeshSnapshot, namespace: str) -> tuple[Policy, ...]:
    heard = snapshot.features.policy and Defect.NO_POLICY not in snapshot.defects
    return tuple(p for p in snapshot.policies if p.namespace == namespace) if heard else ()


def pod_ports(snapshot: MeshSnapshot, pod: Workload) -> tuple[tuple[int, AppProtocol], ...]:
    """The pod's known ports, sorted: the target ports of its namespace's Services (so that they are known before the
    pod is ready), and where it is an endpoint itself, what that Service says."""
    found: dict[int, AppProtocol] = {}
    own: dict[int, AppProtocol] = {}
    for service in snapshot.services:
        if service.namespace != pod.namespace:
            continue
        for port in service.ports:
            if port.target_port:
                found.setdefault(port.target_port, port.protocol)
            for endpoint in port.endpoints:
                if endpoint.pod_uid == pod.uid:
                    own[endpoint.port] = port.protocol
    return tuple(sorted((found | own).items()))


def l7_hop(snapshot: MeshSnapshot) -> Hop | None:
    """The hop of an L7 proxy that stands apart from L4: None where one proxy holds both."""
    return next((hop for hop in snapshot.mode.hops if hop.layers == frozenset({Layer.L7})), None)


def waypoints_of(snapshot: MeshSnapshot, pod: Workload) -> tuple[Waypoint, ...]:
    """All waypoints, ready or not, that may stand before the pod as a destination."""
    hop = l7_hop(snapshot)
    if hop is None:
        return ()
    found = tuple(w for w in snapshot.waypoints if w.proxy.scope is hop.scope)
    if hop.side is Side.CLIENT:  # any client's: its own surroundings pick the instance
        return found
    return tuple(w for w in found if w.proxy.serves(pod))


def waypoints_before(
    snapshot: MeshSnapshot, service: Service, port: ServicePort, client_node: str
) -> tuple[Waypoint, ...]:
    """The waypoints, ready or not, that the mode puts between a client of that node and the Service."""
    hop = l7_hop(snapshot)
    if hop is None:
        return ()
    if hop.side is Side.CLIENT:
        places = [Place(node=client_node)]
    else:  # the namespace's waypoint stands before a Service that has no endpoint, too
        places = [Place(namespace=service.namespace), *(_place(snapshot, service, e) for e in port.endpoints)]
    return tuple(w for w in snapshot.waypoints if w.proxy.scope is hop.scope and any(map(w.proxy.serves, places)))


def _place(snapshot: MeshSnapshot, service: Service, endpoint: Endpoint) -> Place:
    pod = snapshot.pods.get(endpoint.pod_uid)
    return Place(endpoint.pod_uid, pod.node if pod else "", service.namespace)


def waypoint_endpoints(waypoints: Iterable[Waypoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints that accept connections now."""
    return tuple(sorted(Endpoint(w.proxy.uid, w.ip, PORT_HBONE) for w in waypoints if w.ready and w.ip))


def served_endpoints(
    snapshot: MeshSnapshot, waypoint: Proxy, service: Service, port: ServicePort
) -> tuple[Endpoint, ...]:
    """The endpoints that a waypoint sends the Service's requests to; none for a Service that is not its own."""
    hop = l7_hop(snapshot)
    if hop is not None and hop.side is Side.CLIENT:
        return port.endpoints
    return tuple(e for e in port.endpoints if waypoint.serves(_place(snapshot, service, e)))


def meshed_endpoints(snapshot: MeshSnapshot, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Return the endpoints with a proxy: a mesh never falls back to plain text."""
    return tuple(e for e in endpoints if (pod := snapshot.pods.get(e.pod_uid)) is not None and pod.meshed)


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A Service port without its endpoints: what listeners depend on, so that an endpoint more changes none of them."""

    host: str
    namespace: str
    cluster_ip: str
    port: int
    protocol: AppProtocol
    cluster: str
    waypoint: bool = True  # whether a waypoint, where the mode has them, stands before it

    @property
    def authority(self) -> str:
        return f"{self.cluster_ip}:{self.port}"


def targets(snapshot: MeshSnapshot, namespace: str | None = None) -> tuple[ServiceTarget, ...]:
    """All Service ports with a cluster IP, of one namespace when it is given."""
    return tuple(
        ServiceTarget(
            host_name(service),
            service.namespace,
            service.cluster_ip,
            port.port,
            port.protocol,
            service_cluster(service, port),
            service.waypoint,
        )
        for service, port in service_ports(snapshot)
        if service.cluster_ip not in ("", "None") and namespace in (None, service.namespace)
    )
