"""Listeners of every role. Each depends on its own pod, on Service ports (not endpoints) and on features only.

A listener of a proxy outside of the pod is opened inside the pod's namespace; its name holds the sandbox, because a new
namespace under an old name would open nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from chaos.mesh.envoy import l7
from chaos.mesh.envoy.clusters import CACHE, INBOUND, PASSTHROUGH, TUNNEL_LISTENER, TUNNEL_METADATA
from chaos.mesh.envoy.parts import BUFFER, downstream_tls, filter_state, original_dst, pod_state, socket_address
from chaos.mesh.envoy.ports import PROXY_PORTS, ServiceTarget
from chaos.mesh.envoy.protos import Config, extension, message
from chaos.mesh.envoy.resources import Resource
from chaos.mesh.mutations import Defect, Defects
from chaos.mesh.snapshot import AppProtocol, Features, Misanswering, Policy, Workload
from chaos.names import PORT_HBONE, PORT_INBOUND, PORT_OUTBOUND

_LISTENER: Final = "envoy.config.listener.v3.Listener"
WAYPOINT: Final = "waypoint"  # who opens a tunnel, in log lines
L4_PROXY: Final = "l4"
_CHAIN: Final = "envoy.config.listener.v3.FilterChain"
# filters of no kind close a connection at once: the proxy's own ports and the loop-back network are nobody's
# destination
_NO_LOOPS: Final[list[Config]] = [
    {"name": "loop-back", "filter_chain_match": {"prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}},
    *({"name": f"own-{port}", "filter_chain_match": {"destination_port": port}} for port in PROXY_PORTS),
]


def _listener(config: Config, chains: Sequence[Any] = ()) -> Resource:
    listener = message(_LISTENER, {**BUFFER, **config})
    listener.filter_chains.extend(chains)
    return Resource.of(listener)


def _only(address: str, port: int) -> Config:
    return {"prefix_ranges": [{"address_prefix": address, "prefix_len": 32}], "destination_port": port}


@lru_cache(CACHE)
def _outbound_chain(
    pod: tuple[str, str, str],
    target: ServiceTarget,
    features: Features,
    netns: str,
    tunnel: bool,
    misanswers: tuple[Misanswering, ...],
    defects: Defects,
) -> Any:
    identity, namespace, name = pod
    source = f"{namespace}/{name}"
    if tunnel:
        last = l7.connections(
            target.cluster,
            target.cluster,
            features,
            source=source,
            destination=target.host,
            tunnel_to="%DOWNSTREAM_LOCAL_ADDRESS%" if target.waypoint else "",  # else tunnel_exit names the endpoint
        )
    elif target.protocol is AppProtocol.HTTP:
        last = l7.requests(
            target.cluster,
            target.cluster,
            features,
            acting=True,
            source=source,
            destination=target.host,
            misanswers=misanswers,
            defects=defects,
        )
    else:
        last = l7.connections(target.cluster, target.cluster, features, source=source, destination=target.host)
    state = pod_state(identity, netns, defects)
    return message(
        _CHAIN,
        {
            "name": target.cluster,
            "filter_chain_match": _only(target.cluster_ip, target.port),
            "filters": [*state, last],
        },
    )


@lru_cache(CACHE)
def outbound(
    key: str,
    pod: tuple[str, str, str],
    netns: str,
    targets: tuple[ServiceTarget, ...],
    features: Features,
    *,
    tunnel: bool,
    misanswers: tuple[Misanswering, ...] = (),
    defects: Defects,
) -> Resource:
    """The listener for the pod's own calls: a chain for each Service port, and passthrough for the rest.

    Args:
        key: last part of the name: the sandbox, or `pod` for a sidecar.
        pod: (SPIFFE id, namespace, name).
        tunnel: an L4 proxy: every Service port is a CONNECT to its waypoint, or to an endpoint where it has none.
    """
    identity, namespace, name = pod
    chains = [
        _outbound_chain(pod, target, features, netns, tunnel, l7.misanswers_for(misanswers, target.namespace), defects)
        for target in targets
    ]
    passing = l7.connections(PASSTHROUGH, PASSTHROUGH, features, source=f"{namespace}/{name}", destination="outside")
    return _listener(
        {
            "name": f"outbound|{key}",
            "address": socket_address("127.0.0.1", PORT_OUTBOUND, netns),
            "traffic_direction": "OUTBOUND",
            "listener_filters": [original_dst()],
            "filter_chains": _NO_LOOPS,
            "default_filter_chain": {"name": PASSTHROUGH, "filters": [*pod_state(identity, netns, defects), passing]},
        },
        chains,
    )


@lru_cache(CACHE)
def inbound(
    key: str,
    pod: tuple[str, str, str],
    netns: str,
    ports: tuple[tuple[int, AppProtocol], ...],
    features: Features,
    policies: tuple[Policy, ...],
    *,
    misanswers: tuple[Misanswering, ...] = (),
    defects: Defects,
) -> Resource:
    """The listener for calls to the pod, in a proxy that holds both layers: mutual TLS required, then policy, then the
    application.
    """
    identity, namespace, name = pod
    tls = downstream_tls(identity, shared=bool(netns), defects=defects)
    state = pod_state(identity, netns, defects)
    chains: list[Config] = [*_NO_LOOPS]
    for port, protocol in ports:
        label = f"{INBOUND}|{port}|{name}.{namespace}"
        if protocol is AppProtocol.HTTP:
            filters = [
                l7.requests(
                    label,
                    INBOUND,
                    features,
                    acting=False,
                    source=l7.PEER,
                    destination=f"{namespace}/{name}",
                    counted=True,
                    policies=policies,
                    misanswers=l7.misanswers_for(misanswers, namespace),
                    defects=defects,
                )
            ]
        else:
            filters = _inbound_connections(label, pod, features, policies)
        chains.append(
            {
                "name": label,
                "filter_chain_match": {"destination_port": port},
                "transport_socket": tls,
                "filters": [*state, *filters],
            }
        )
    label = f"{INBOUND}|{name}.{namespace}"
    return _listener(
        {
            "name": f"inbound|{key}",
            "address": socket_address("0.0.0.0", PORT_INBOUND, netns),
            "traffic_direction": "INBOUND",
            "listener_filters": [original_dst()],
            "filter_chains": chains,
            "default_filter_chain": {
                "name": label,
                "transport_socket": tls,
                "filters": [*state, *_inbound_connections(label, pod, features, policies)],
            },
        }
    )


def _inbound_connections(
    label: str, pod: tuple[str, str, str], features: Features, policies: Sequence[Policy]
) -> list[Config]:
    return [
        *l7.connection_policy(policies, tunnelled=False),
        l7.connections(label, INBOUND, features, source=l7.PEER, destination=f"{pod[1]}/{pod[2]}", counted=True),
    ]


@lru_cache(CACHE)
def hbone(
    key: str,
    pod: Workload,
    netns: str,
    peers: tuple[str, ...],
    features: Features,
    *,
    policies: tuple[Policy, ...] | None = None,
    defects: Defects,
) -> Resource:
    """Where tunnels to a pod end, of an L4 proxy: only the pod's waypoint may come, and only to the pod's own address.

    Without the limit on the authority a CONNECT terminator is an open proxy.

    Args:
        policies: of a pod without a waypoint, which decide who may come; None: `peers` alone may.
    """
    anywhere = Defect.OPEN_CONNECT in defects
    own_ports = "|".join(str(port) for port in PROXY_PORTS)
    refused: Config = {
        "match": {
            "connect_matcher": {},
            "headers": [{"name": ":authority", "string_match": {"safe_regex": {"regex": f".*:({own_ports})"}}}],
        },
        "direct_response": {"status": 403},
    }
    host = {
        "name": "pod",
        "domains": ["*"] if anywhere else [f"{pod.ip}:*"],
        "routes": [*([] if anywhere else [refused]), l7.connect_route(INBOUND)],
    }
    allowed = [{"authenticated": {"principal_name": {"exact": peer}}} for peer in peers]
    only = {"waypoint": {"permissions": [{"any": True}], "principals": allowed}} if allowed else {}
    if policies is not None:
        rules = l7.connection_policy(policies, tunnelled=False)
    else:
        rules = [] if Defect.ANY_PEER in defects else [l7.network_rbac({"action": "ALLOW", "policies": only})]
    return _listener(
        {
            "name": f"hbone|{key}",
            "address": socket_address("0.0.0.0", PORT_HBONE, netns),
            "traffic_direction": "INBOUND",
            "filter_chains": [
                {
                    "name": "hbone",
                    "transport_socket": downstream_tls(pod.identity, shared=True, alpn=("h2",), defects=defects),
                    "filters": [
                        *pod_state(pod.identity, netns, defects),
                        *rules,
                        l7.tunnels(f"hbone|{pod.name}.{pod.namespace}", [host], features),
                    ],
                }
            ],
        }
    )


# ---- waypoints, and tunnels past them


def inner_name(target: ServiceTarget) -> str:
    return target.cluster.replace("outbound|", "inner|", 1)


@lru_cache(CACHE)
def waypoint_entry(
    identity: str, targets: tuple[ServiceTarget, ...], features: Features, *, defects: Defects
) -> Resource:
    """A waypoint's 15008: a CONNECT names a Service's address; anything else is refused."""
    hosts = [
        {"name": t.cluster, "domains": [t.authority], "routes": [l7.connect_route(inner_name(t))]} for t in targets
    ]
    return _listener(
        {
            "name": "hbone",
            "address": socket_address("0.0.0.0", PORT_HBONE),
            "traffic_direction": "INBOUND",
            "filter_chains": [
                {
                    "name": "hbone",
                    "transport_socket": downstream_tls(identity, shared=False, alpn=("h2",), defects=defects),
                    "filters": [l7.tunnels("hbone", hosts, features, source_state=True)],
                }
            ],
        }
    )


@lru_cache(CACHE)
def waypoint_inner(
    target: ServiceTarget,
    features: Features,
    policies: tuple[Policy, ...],
    *,
    misanswers: tuple[Misanswering, ...] = (),
    defects: Defects,
) -> Resource:
    """What a tunnel to the Service port holds: requests or connections, with policy on the tunnel's source."""
    if target.protocol is AppProtocol.HTTP:
        filters = [
            l7.requests(
                target.cluster,
                target.cluster,
                features,
                acting=True,
                source=l7.TUNNELLED,
                destination=target.host,
                counted=True,
                policies=policies,
                tunnelled=True,
                misanswers=l7.misanswers_for(misanswers, target.namespace),
                defects=defects,
            )
        ]
    else:
        filters = [
            *l7.connection_policy(policies, tunnelled=True),
            l7.connections(
                target.cluster, target.cluster, features, source=l7.TUNNELLED, destination=target.host, counted=True
            ),
        ]
    return _listener(
        {"name": inner_name(target), "internal_listener": {}, "filter_chains": [{"name": "all", "filters": filters}]}
    )


@lru_cache(CACHE)
def tunnel_exit(features: Features, *, source: str) -> Resource:
    """Wraps each connection to an endpoint into a CONNECT to that pod's 15008; the pod's own identity must answer
    there.
    """
    expected = filter_state(
        "envoy.network.upstream_subject_alt_names", f"%DYNAMIC_METADATA({TUNNEL_METADATA}:identity)%"
    )
    state = extension(
        "envoy.filters.network.set_filter_state",
        "extensions.filters.network.set_filter_state.v3.Config",
        {"on_new_connection": [expected]},
    )
    tunnel = l7.connections(
        TUNNEL_LISTENER,
        TUNNEL_LISTENER,
        features,
        source=source,
        destination="pod",
        tunnel_to="%DOWNSTREAM_LOCAL_ADDRESS%",
    )
    return _listener(
        {
            "name": TUNNEL_LISTENER,
            "internal_listener": {},
            "listener_filters": [original_dst()],
            "filter_chains": [{"name": "all", "filters": [state, tunnel]}],
        }
    )
