"""Services as nftables rules of a node, as kube-proxy programs them: planned as data, then rendered as text.

Each Service port's address (and node port) leads to one ready endpoint, chosen at random per connection, or by the
client's address with session affinity ClientIP. Connection tracking keeps a connection on its endpoint, so new
endpoints concern new connections only. An address of the Service range without endpoints is refused at once. The
whole table is replaced in one transaction: no packet meets half of it.

After kube-proxy: k8s.io/kubernetes/pkg/proxy (topology.go for which endpoints count, nftables/README.md for the
rules).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.embedded.network import addresses
from chaos.embedded.resources import Object

TABLE: Final = "sharedfate-services"
SERVICE_NAME: Final = "kubernetes.io/service-name"
_MASQUERADE: Final = "0x4000"  # mark of connections whose source becomes the node's address; kube-proxy's own value

Backend = tuple[str, int]  # address, port


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service, as a node serves it."""

    address: str  # "" for a pod's hostPort, which is served at the node's own addresses only
    protocol: str  # tcp | udp | sctp
    port: int
    backends: tuple[Backend, ...]
    affinity: bool = False
    node_port: int | None = None
    node_backends: tuple[Backend, ...] = ()
    masquerade: bool = True  # the source of node-port connections (externalTrafficPolicy: Cluster)


def cluster_ip(service: Object) -> str | None:
    """The Service's cluster IP; None for headless and ExternalName Services, and before it has one."""
    address = service["spec"].get("clusterIP")
    return address if address and address != "None" and service["spec"].get("type") != "ExternalName" else None


def plan_services(services: Iterable[Object], slices: Iterable[Object], node: str) -> tuple[ServicePort, ...]:
    """The Service ports that `node` serves, ordered by address and port. `slices` are all EndpointSlices."""
    by_service: defaultdict[tuple[str, str], list[Object]] = defaultdict(list)
    for piece in slices:
        name = (piece["metadata"].get("labels") or {}).get(SERVICE_NAME)
        if name and piece.get("addressType", "IPv4") == "IPv4":
            by_service[piece["metadata"].get("namespace", ""), name].append(piece)
    planned = []
    for service in services:
        address = cluster_ip(service)
        if address is None:
            continue
        spec, meta = service["spec"], service["metadata"]
        pieces = by_service[meta.get("namespace", ""), meta["name"]]
        for port in spec.get("ports") or ():
            everywhere = _backends(pieces, port, None)
            here = _backends(pieces, port, node)
            external_local = spec.get("externalTrafficPolicy") == "Local"
            planned.append(
                ServicePort(
                    address=address,
                    protocol=port.get("protocol", "TCP").lower(),
                    port=port["port"],
                    backends=here if spec.get("internalTrafficPolicy") == "Local" else everywhere,
                    affinity=spec.get("sessionAffinity") == "ClientIP",
                    node_port=port.get("nodePort"),
                    node_backends=here if external_local else everywhere,
                    masquerade=not external_local,
                )
            )
    return tuple(sorted(planned, key=lambda one: (one.address, one.protocol, one.port)))


def plan_host_ports(pods: Iterable[Object], node: str) -> tuple[ServicePort, ...]:
    """The hostPorts of the node's pods, as node ports with one backend; hostIP is ignored."""
    planned = []
    for pod in pods:
        status = pod.get("status") or {}
        if (
            pod["spec"].get("nodeName") != node
            or not wants_host_port(pod)
            or not addresses.is_ipv4(status.get("podIP"))
        ):
            continue
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or ():
                if port.get("hostPort"):
                    backend = (status["podIP"], port["containerPort"])
                    planned.append(
                        ServicePort(
                            "",
                            port.get("protocol", "TCP").lower(),
                            0,
                            (),
                            node_port=port["hostPort"],
                            node_backends=(backend,),
                        )
                    )
    return tuple(sorted(planned, key=lambda one: (one.protocol, one.node_port or 0)))


def wants_host_port(pod: Object) -> bool:
    """Whether the pod uses a hostPort: it has one, is not on the host's network, and has not ended."""
    spec = pod["spec"]
    return (
        not spec.get("hostNetwork")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        and any(
            port.get("hostPort") for container in spec.get("containers") or () for port in container.get("ports") or ()
        )
    )


def _backends(slices: Sequence[Object], port: Mapping[str, Any], node: str | None) -> tuple[Backend, ...]:
    """Ready endpoints of a port (of one node's only); without any, those that still serve while terminating."""
    ready: set[Backend] = set()
    ending: set[Backend] = set()
    for piece in slices:
        number = next(
            (
                one.get("port")
                for one in piece.get("ports") or ()
                if (one.get("name") or "") == (port.get("name") or "")
                and one.get("protocol", "TCP") == port.get("protocol", "TCP")
            ),
            None,
        )
        if number is None or not 0 < number < 65536:
            continue
        for endpoint in piece.get("endpoints") or ():
            if not endpoint.get("addresses") or (node is not None and endpoint.get("nodeName") != node):
                continue
            conditions = endpoint.get("conditions") or {}
            backend = (endpoint["addresses"][0], int(number))
            if conditions.get("ready") is not False:  # absent means ready, says the API
                ready.add(backend)
            elif conditions.get("serving") and conditions.get("terminating"):
                ending.add(backend)
    return tuple(sorted(ready or ending))


def render_services(ports: Sequence[ServicePort]) -> str:
    """Render the nftables script that replaces a node's Service rules in one transaction.

    Of two ports with the same address or node port the first wins: nft would refuse the whole script.
    """
    chains: list[str] = []
    addressed: dict[str, str] = {}
    on_nodes: dict[str, str] = {}
    hairpins = sorted({backend[0] for port in ports for backend in (*port.backends, *port.node_backends)})
    for number, port in enumerate(ports):
        if port.backends:
            chains.append(f"chain svc-{number} {{ {_choose(port, port.backends)} }}")
            addressed.setdefault(f"{port.address} . {port.protocol} . {port.port}", f"goto svc-{number}")
        if port.node_port and port.node_backends:
            mark = f"meta mark set meta mark | {_MASQUERADE}; " if port.masquerade else ""
            chains.append(f"chain node-{number} {{ {mark}{_choose(port, port.node_backends)} }}")
            on_nodes.setdefault(f"{port.protocol} . {port.node_port}", f"goto node-{number}")
    service_range = "{}/{}".format(*addresses.SERVICE_CIDR)
    lines = [
        f"add table ip {TABLE}",
        f"delete table ip {TABLE}",
        f"table ip {TABLE} {{",
        *chains,
        _collection("map services { type ipv4_addr . inet_proto . inet_service : verdict;", _pairs(addressed)),
        _collection("map node-ports { type inet_proto . inet_service : verdict;", _pairs(on_nodes)),
        _collection("set hairpins { type ipv4_addr . ipv4_addr;", [f"{one} . {one}" for one in hairpins]),
        "chain dispatch {",
        "ip daddr . meta l4proto . th dport vmap @services",
        f"fib daddr type local ip daddr != 127.0.0.0/8 ip daddr != {addresses.FABRIC_ADDRESS} "
        "meta l4proto . th dport vmap @node-ports",
        "}",
        "chain prerouting { type nat hook prerouting priority dstnat; jump dispatch; }",
        "chain output { type nat hook output priority -100; jump dispatch; }",
        "chain postrouting { type nat hook postrouting priority srcnat;",
        f"meta mark & {_MASQUERADE} == {_MASQUERADE} masquerade",
        "ct status dnat ip saddr . ip daddr @hairpins masquerade",  # a pod that meets itself would drop its own address
        "}",
        f"chain refuse {{ ip daddr {service_range} reject with icmp port-unreachable; }}",
        "chain forward { type filter hook forward priority filter; jump refuse; }",
        "chain local { type filter hook output priority filter; jump refuse; }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _choose(port: ServicePort, backends: Sequence[Backend]) -> str:
    if len(backends) == 1:
        return f"meta l4proto {port.protocol} dnat ip to {backends[0][0]}:{backends[0][1]};"
    pick = "jhash ip saddr" if port.affinity else "numgen random"
    choices = ", ".join(f"{number} : {address} . {target}" for number, (address, target) in enumerate(backends))
    return f"meta l4proto {port.protocol} dnat ip to {pick} mod {len(backends)} map {{ {choices} }};"


def _pairs(elements: Mapping[str, str]) -> list[str]:
    return [f"{key} : {verdict}" for key, verdict in elements.items()]


def _collection(head: str, elements: Sequence[str]) -> str:
    return head + (f" elements = {{ {', '.join(elements)} }} }}" if elements else " }")
