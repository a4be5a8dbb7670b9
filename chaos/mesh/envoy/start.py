"""`bootstrap`: what Envoy reads at its start: who it is, how it reaches the control plane, admin and status. Pure.

The service-account token is injected into every xDS call from its file, so that a rotated token is picked up. The
status port answers `/ready` (200 once the first configuration is in place) and `/stats/prometheus`; the rest of admin
stays on
127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.names import CONTROL_PLANE, MARK_PROXY, PORT_ADMIN, PORT_STATUS, PORT_XDS, SYSTEM_NAMESPACE, TOKEN_PATH

XDS_HOST: Final = f"{CONTROL_PLANE}.{SYSTEM_NAMESPACE}.svc.cluster.local"
CA_PATH: Final = "/etc/sharedfate/ca.pem"

Config = dict[str, Any]


def _any(type_name: str, config: Mapping[str, Any] | None = None) -> Config:
    return {"@type": f"type.googleapis.com/envoy.{type_name}", **(config or {})}


def status_listener(address: str, port: int) -> Config:
    """Return the listener that shows of admin what everybody may see: these two paths, and none that begin so."""
    routes = [{"match": {"path": path}, "route": {"cluster": "admin"}} for path in ("/ready", "/stats/prometheus")]
    return {
        "name": "status",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _any(
                            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                            {
                                "stat_prefix": "status",
                                "route_config": {
                                    "virtual_hosts": [{"name": "admin", "domains": ["*"], "routes": routes}]
                                },
                                "http_filters": [
                                    {
                                        "name": "envoy.filters.http.router",
                                        "typed_config": _any("extensions.filters.http.router.v3.Router"),
                                    }
                                ],
                            },
                        ),
                    }
                ]
            }
        ],
    }


def _xds_cluster(address: str, port: int, server_name: str, ca_path: str, token_path: str) -> Config:
    inject = {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": _any(
            "extensions.filters.http.credential_injector.v3.CredentialInjector",
            {
                "overwrite": True,
                "credential": {
                    "name": "envoy.http.injected_credentials.generic",
                    "typed_config": _any(
                        "extensions.http.injected_credentials.generic.v3.Generic",
                        {"credential": {"name": "token"}, "header": "authorization"},
                    ),
                },
            },
        ),
    }
    codec = {
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": _any("extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
    }
    options = _any(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        {
            "explicit_http_config": {
                "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "5s"}}
            },
            "http_filters": [inject, codec] if token_path else [],
        },
    )
    if not token_path:
        del options["http_filters"]
    tls = _any(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        {
            "sni": server_name,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "validation_context": {
                    "trusted_ca": {"filename": ca_path},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": server_name}}],
                },
            },
        },
    )
    return {
        "name": "xds",
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "connect_timeout": "2s",
        "respect_dns_ttl": True,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "upstream_bind_config": {
            "socket_options": [{"level": 1, "name": 36, "int_value": MARK_PROXY, "state": "STATE_PREBIND"}]
        },
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
                    ]
                }
            ],
        },
    }


def bootstrap(
    *,
    xds_host: str = XDS_HOST,
    xds_port: int = PORT_XDS,
    server_name: str = "",
    ca_path: str = CA_PATH,
    token_path: str = TOKEN_PATH,
    node_id: str = "proxy",
    status_address: str = "0.0.0.0",
    status_port: int = PORT_STATUS,
    admin_port: int = PORT_ADMIN,
) -> Config:
    """Envoy's bootstrap, as JSON that `envoy -c` reads. One text serves all proxies: who one is follows from its token.

    Args:
        server_name: in the control plane's certificate; `xds_host` unless given.
        token_path: sent as the header `authorization` (the bare token); empty: none.
        node_id: a name for people, usually replaced by `--service-node`.
    """
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": "xds",
                    "retry_policy": {  # default: up to 30 s apart
                        "retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}
                    },
                }
            }
        ],
    }
    by_ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    found: Config = {
        "node": {"id": node_id, "cluster": "sharedfate"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": _any("extensions.bootstrap.internal_listener.v3.InternalListener"),
            }
        ],
        "dynamic_resources": {"ads_config": ads, "lds_config": by_ads, "cds_config": by_ads},
        "static_resources": {
            "listeners": [status_listener(status_address, status_port)],
            "clusters": [
                _xds_cluster(xds_host, xds_port, server_name or xds_host, ca_path, token_path),
                {
                    "name": "admin",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "load_assignment": {
                        "cluster_name": "admin",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {
                                                "socket_address": {"address": "127.0.0.1", "port_value": admin_port}
                                            }
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                },
            ],
        },
    }
    if token_path:
        folder = token_path.rsplit("/", 1)[0]
        found["static_resources"]["secrets"] = [
            {
                "name": "token",
                "generic_secret": {"secret": {"filename": token_path, "watched_directory": {"path": folder}}},
            }
        ]
    return found
