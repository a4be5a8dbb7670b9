"""Clusters and their endpoints: the Service ports, the way to an application, tunnels. Cached by their inputs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from chaos.mesh.envoy.parts import (
    ADS,
    ANY_MEMBER,
    BUFFER,
    CONNECT_TIMEOUT,
    bind_config,
    circuit_breakers,
    http_options,
    internal_upstream,
    stat_name,
    upstream_tls,
)
from chaos.mesh.envoy.protos import Config, message
from chaos.mesh.envoy.resources import Resource
from chaos.mesh.mutations import NO_DEFECTS, Defect, Defects
from chaos.mesh.snapshot import Endpoint, Features
from chaos.names import PORT_HBONE

CACHE: Final = 16_384
INBOUND: Final = "inbound"  # to the application, at the address that the connection was meant for
INBOUND_HTTP1: Final = "inbound-http1"  # the same, for requests: in the protocol in which the client spoke
INBOUND_HTTP2: Final = "inbound-http2"
PASSTHROUGH: Final = "passthrough"  # captured connections to what is no Service of the mesh
TUNNEL_LISTENER: Final = "connect-originate"  # internal: wraps a connection to a pod into a CONNECT to its 15008
ORIGINAL_DST_METADATA: Final = "envoy.filters.listener.original_dst"
TUNNEL_METADATA: Final = "sharedfate.tunnel"

Peers = tuple[tuple[str, str], ...]  # ((match kind, value), ...): the identities that may answer


def _cluster(config: Config) -> Resource:
    return Resource.of(
        message(
            "envoy.config.cluster.v3.Cluster",
            {"connect_timeout": CONNECT_TIMEOUT, "alt_stat_name": stat_name(config["name"]), **BUFFER, **config},
        )
    )


def _outlier(features: Features, defects: Defects) -> Config:
    if not features.outlier_detection or Defect.NO_EJECTION in defects:
        return {}
    return {
        "outlier_detection": {
            "consecutive_5xx": 5,
            "consecutive_gateway_failure": 3,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
            "enforcing_success_rate": 0,
            "enforcing_consecutive_gateway_failure": 100,
        }
    }


@lru_cache(CACHE)
def service(
    name: str,
    peers: Peers,
    features: Features,
    *,
    own: str,
    shared: bool,
    http2: bool,
    tunnel: bool = False,
    defects: Defects,
) -> Resource:
    """A Service port's endpoints, over mutual TLS.

    Args:
        own: the one identity that the proxy speaks as; empty: whom each connection's state names.
        shared: the proxy stands outside of the pods that it serves, and connects from inside theirs.
        http2: requests share HTTP/2 connections, whatever the client speaks. A request that times out then ends its
            stream alone; with HTTP/1.1 each would cost a handshake, and an overloaded proxy would not recover.
        tunnel: the endpoints are waypoints, reached by CONNECT over HTTP/2.
    """
    return _cluster(
        {
            "name": name,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": ADS},
            "lb_policy": "ROUND_ROBIN",
            "circuit_breakers": circuit_breakers(features),
            "typed_extension_protocol_options": http_options("http2" if http2 or tunnel else "downstream", defects),
            "transport_socket": upstream_tls(
                own, [{k: v} for k, v in peers], alpn=("h2",) if http2 or tunnel else (), defects=defects
            ),
            "upstream_bind_config": bind_config(shared=shared),
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            **({} if tunnel else _outlier(features, defects)),
        }
    )


@lru_cache(CACHE)
def tunnelled_service(name: str, features: Features, defects: Defects) -> Resource:
    """A Service port's endpoints as a waypoint reaches them, or where there is none an L4 proxy: each through the
    internal listener that opens tunnels.
    """
    return _cluster(
        {
            "name": name,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": ADS},
            "lb_policy": "ROUND_ROBIN",
            "circuit_breakers": circuit_breakers(features),
            "typed_extension_protocol_options": http_options(defects=defects),
            "transport_socket": internal_upstream([ORIGINAL_DST_METADATA, TUNNEL_METADATA]),
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            **_outlier(features, defects),
        }
    )


@lru_cache(CACHE)
def plain(name: str, features: Features, *, shared: bool, protocol: str = "downstream", defects: Defects) -> Resource:
    """A plain-text cluster to the address that the client meant: the application itself, or an address outside the
    snapshot.
    """
    return _cluster(
        {
            "name": name,
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "circuit_breakers": circuit_breakers(features),
            "typed_extension_protocol_options": http_options(protocol, defects),
            "upstream_bind_config": bind_config(shared=shared),
        }
    )


@lru_cache(CACHE)
def connect_target(features: Features, defects: Defects) -> Resource:
    """A pod's application as its L4 proxy reaches it: at the address that the CONNECT names."""
    return _cluster(
        {
            "name": INBOUND,
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": ":authority"},
            "circuit_breakers": circuit_breakers(features),
            "typed_extension_protocol_options": http_options(defects=defects),
            "upstream_bind_config": bind_config(shared=True),
        }
    )


@lru_cache(CACHE)
def tunnel_origin(own: str, features: Features, *, shared: bool = False, defects: Defects) -> Resource:
    """To the 15008 of whichever pod the internal connection is meant for; which identity must answer there comes with
    the connection (`listeners.tunnel_exit`), on top of the trust domain.

    Args:
        own: the identity of the waypoint that speaks; empty, of an L4 proxy (`shared`): whom the connection's state
            names, from inside that pod.
    """
    return _cluster(
        {
            "name": TUNNEL_LISTENER,
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "original_dst_lb_config": {"upstream_port_override": PORT_HBONE},
            "circuit_breakers": circuit_breakers(features),
            "typed_extension_protocol_options": http_options("http2", defects),
            "transport_socket": upstream_tls(own, [ANY_MEMBER], alpn=("h2",), defects=defects),
            "upstream_bind_config": bind_config(shared=shared),
        }
    )


@lru_cache(CACHE)
def hoard(identity: str) -> Resource:
    """A cluster that leads nowhere and asks for a certificate: the defect of an over-generous control plane."""
    return _cluster(
        {
            "name": f"hoard|{identity}",
            "type": "STATIC",
            "transport_socket": upstream_tls(identity, [ANY_MEMBER], defects=NO_DEFECTS),
        }
    )


@lru_cache(CACHE)
def internal(name: str, listener: str, features: Features) -> Resource:
    """A cluster to a listener inside the same Envoy."""
    return _cluster(
        {
            "name": name,
            "type": "STATIC",
            "circuit_breakers": circuit_breakers(features),
            "transport_socket": internal_upstream(),
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {
                                    "address": {
                                        "envoy_internal_address": {
                                            "server_listener_name": listener,
                                            "endpoint_id": name,
                                        }
                                    }
                                }
                            }
                        ]
                    }
                ],
            },
        }
    )


@lru_cache(CACHE)
def endpoints(name: str, addresses: tuple[Endpoint, ...], defects: Defects) -> Resource:
    """Plain EDS: one endpoint an address."""
    if Defect.UNBALANCED in defects:
        addresses = addresses[:1]
    return Resource.of(
        message(
            "envoy.config.endpoint.v3.ClusterLoadAssignment",
            {
                "cluster_name": name,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {"endpoint": {"address": {"socket_address": {"address": e.ip, "port_value": e.port}}}}
                            for e in addresses
                        ]
                    }
                ],
            },
        )
    )


@lru_cache(CACHE)
def tunnelled_endpoints(name: str, addresses: tuple[tuple[Endpoint, str], ...], defects: Defects) -> Resource:
    """EDS of tunnels: each endpoint is one, whose metadata says where to and whose identity must answer."""
    if Defect.UNBALANCED in defects:
        addresses = addresses[:1]
    return Resource.of(
        message(
            "envoy.config.endpoint.v3.ClusterLoadAssignment",
            {
                "cluster_name": name,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {
                                    "address": {
                                        "envoy_internal_address": {
                                            "server_listener_name": TUNNEL_LISTENER,
                                            "endpoint_id": f"{e.ip}:{e.port}",
                                        }
                                    }
                                },
                                "metadata": {
                                    "filter_metadata": {
                                        ORIGINAL_DST_METADATA: {"local": f"{e.ip}:{e.port}"},
                                        TUNNEL_METADATA: {"identity": identity},
                                    }
                                },
                            }
                            for e, identity in addresses
                        ]
                    }
                ],
            },
        )
    )
