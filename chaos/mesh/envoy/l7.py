"""What an L7 proxy does with requests, and any proxy with connections: the same configuration in every mode.

`requests` is an HTTP connection manager (routes, retries, timeouts, policy, trace context, metrics); `connections` a
TCP proxy with the L4 part of policy. Who calls them differs by role, never what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaos.mesh.envoy.clusters import INBOUND_HTTP1, INBOUND_HTTP2
from chaos.mesh.envoy.parts import HTTP2, SOURCE_KEY, access_log, filter_state, stat_name
from chaos.mesh.envoy.protos import Config, extension
from chaos.mesh.mutations import Defect, Defects
from chaos.mesh.snapshot import Features, Misanswering, Policy, Rule

_HCM: Final = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
IDEMPOTENT: Final = "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"
GOLDEN: Final = "sharedfate"
SPOKEN_HEADER: Final = "x-sharedfate-protocol"  # between two proxies: in what the client spoke to its own

PEER: Final = "%DOWNSTREAM_PEER_URI_SAN%"
TUNNELLED: Final = f"%FILTER_STATE({SOURCE_KEY}:PLAIN)%"


# ---- policy


def _principal(source: str, *, tunnelled: bool) -> Config:
    exact: Config = {"exact": source}
    if tunnelled:
        return {"filter_state": {"key": SOURCE_KEY, "string_match": exact}}
    return {"authenticated": {"principal_name": exact}}


def _permission(rule: Rule) -> Config:
    every: list[Config] = []
    if rule.methods:
        every.append(
            {
                "or_rules": {
                    "rules": [
                        {"header": {"name": ":method", "string_match": {"exact": method}}} for method in rule.methods
                    ]
                }
            }
        )
    if rule.paths:
        every.append(
            {
                "or_rules": {
                    "rules": [
                        {"url_path": {"path": {"prefix": path[:-1]} if path.endswith("*") else {"exact": path}}}
                        if path != "*"
                        else {"any": True}  # Envoy refuses an empty prefix, and with it everybody's listener
                        for path in rule.paths
                    ]
                }
            }
        )
    return {"and_rules": {"rules": every}} if every else {"any": True}


def allow_list(policies: Sequence[Policy], *, requests: bool, tunnelled: bool) -> Config | None:
    """RBAC rules that allow what some rule allows; None when no policy applies. On connections, a rule that needs
    requests allows nothing."""
    if not policies:
        return None
    found: dict[str, Config] = {}
    for policy in policies:
        for number, rule in enumerate(policy.rules):
            if rule.needs_requests and not requests:
                continue
            found[f"{policy.namespace}/{policy.name}/{number}"] = {
                "permissions": [_permission(rule)],
                "principals": [_principal(source, tunnelled=tunnelled) for source in rule.sources] or [{"any": True}],
            }
    return {"action": "ALLOW", "policies": found}


def connection_policy(policies: Sequence[Policy], *, tunnelled: bool) -> list[Config]:
    rules = allow_list(policies, requests=False, tunnelled=tunnelled)
    return [] if rules is None else [network_rbac(rules)]


def network_rbac(rules: Config) -> Config:
    return extension(
        "envoy.filters.network.rbac",
        "extensions.filters.network.rbac.v3.RBAC",
        {"stat_prefix": "policy.", "rules": rules},
    )


# ---- faults


def misanswers_for(misanswers: Sequence[Misanswering], namespace: str) -> tuple[Misanswering, ...]:
    """Return those that concern requests to servers of that namespace."""
    return tuple(one for one in misanswers if one.namespace in ("", namespace))


def _misanswering(one: Misanswering) -> Config:
    config: Config = {}
    if one.delay_ms:
        config["delay"] = {"fixed_delay": f"{one.delay_ms / 1000:g}s", "percentage": {"numerator": 100}}
    if one.errors:
        share = {"numerator": round(one.errors * 1_000_000), "denominator": "MILLION"}
        config["abort"] = {"http_status": one.code, "percentage": share}
    return extension("envoy.filters.http.fault", "extensions.filters.http.fault.v3.HTTPFault", config)


# ---- requests and connections


def _arriving_routes() -> list[Config]:
    """To the application, in the protocol in which its client spoke: between proxies it is always HTTP/2."""
    return [
        {
            "match": {"prefix": "/", **match},
            "route": {"cluster": cluster, "timeout": "0s"},
            "request_headers_to_remove": [SPOKEN_HEADER],
        }
        for cluster, match in (
            (INBOUND_HTTP2, {"headers": [{"name": SPOKEN_HEADER, "string_match": {"exact": "HTTP/2"}}]}),
            (INBOUND_HTTP1, {}),
        )
    ]


def _routes(cluster: str, features: Features, *, acting: bool, defects: Defects) -> list[Config]:
    """One route, or two when idempotent requests may be retried. `acting`: this hop balances, retries and times out."""
    if not acting:
        return _arriving_routes()
    bounded = features.timeout_seconds is not None and Defect.NO_TIMEOUT not in defects
    timeout = f"{features.timeout_seconds:g}s" if bounded else "0s"
    action: Config = {"cluster": cluster, "timeout": timeout}
    plain: Config = {"match": {"prefix": "/"}, "route": action}
    if not features.retries or Defect.NO_RETRIES in defects:
        return [plain]
    retry: Config = {
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": 2,
        "host_selection_retry_max_attempts": 3,
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
    }
    retried: Config = {"match": {"prefix": "/"}, "route": {**action, "retry_policy": retry}}
    if Defect.RETRY_ALL in defects:
        return [retried]
    retried["match"]["headers"] = [{"name": ":method", "string_match": {"safe_regex": {"regex": IDEMPOTENT}}}]
    return [retried, plain]


def requests(
    name: str,
    cluster: str,
    features: Features,
    *,
    acting: bool,
    source: str,
    destination: str,
    counted: bool = False,
    policies: Sequence[Policy] = (),
    tunnelled: bool = False,
    misanswers: Sequence[Misanswering] = (),
    defects: Defects,
) -> Config:
    """Return the HTTP connection manager of one destination.

    Args:
        acting: this hop balances over endpoints, and so retries, times out and counts attempts.
        source, destination: what log lines and metrics are labelled with (may be format strings).
        counted: emit golden metrics here (the server's side of the path).
        tunnelled: the peer's identity stands in filter state (a waypoint), not in the connection's TLS.
    """
    filters: list[Config] = []
    rules = allow_list(policies, requests=True, tunnelled=tunnelled)
    if rules is not None:
        filters.append(extension("envoy.filters.http.rbac", "extensions.filters.http.rbac.v3.RBAC", {"rules": rules}))
    filters += map(_misanswering, misanswers)
    filters.append(extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"))
    host: Config = {
        "name": "all",
        "domains": ["*"],
        "routes": _routes(cluster, features, acting=acting, defects=defects),
    }
    if acting and not tunnelled:  # what a waypoint sends arrives in the client's own protocol
        host["request_headers_to_add"] = [
            {"header": {"key": SPOKEN_HEADER, "value": "%PROTOCOL%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    if acting:
        host["include_request_attempt_count"] = True
        host["include_attempt_count_in_response"] = True
    return extension(
        "envoy.filters.network.http_connection_manager",
        _HCM,
        {
            "stat_prefix": stat_name(name),
            "codec_type": "AUTO",
            "route_config": {"name": name, "virtual_hosts": [host]},
            "http_filters": filters,
            "use_remote_address": False,
            "skip_xff_append": True,
            "normalize_path": True,
            "server_header_transformation": "PASS_THROUGH",
            "stream_idle_timeout": "0s",
            "http_protocol_options": {"accept_http_10": True},
            # allow_connect: a WebSocket between two proxies is an extended CONNECT (RFC 8441); any other has no route
            "http2_protocol_options": HTTP2,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            # no exporter: the tracer takes part in W3C trace context, continuing or starting a trace, and reports
            # nowhere
            **(
                {}
                if Defect.UNTRACED in defects
                else {
                    "tracing": {
                        "random_sampling": {"value": 0},
                        "provider": extension(
                            "envoy.tracers.opentelemetry",
                            "envoy.config.trace.v3.OpenTelemetryConfig",
                            {
                                "service_name": "sharedfate",
                                "http_service": {
                                    "http_uri": {  # one is asked for; there is no such cluster
                                        "uri": "http://nowhere/v1/traces",
                                        "cluster": "nowhere",
                                        "timeout": "1s",
                                    }
                                },
                            },
                        ),
                    }
                }
            ),
            "access_log": access_log(
                features,
                source=source,
                destination=destination,
                requests=True,
                prefix=GOLDEN if counted else "",
                each=2 if Defect.COUNTED_TWICE in defects else 1,
            ),
        },
    )


def connections(
    name: str,
    cluster: str,
    features: Features,
    *,
    source: str,
    destination: str,
    counted: bool = False,
    tunnel_to: str = "",
) -> Config:
    """Return the TCP proxy of one destination; with `tunnel_to`, through a CONNECT for that authority."""
    config: Config = {
        "stat_prefix": stat_name(name),
        "cluster": cluster,
        "max_connect_attempts": 1,
        "idle_timeout": "0s",
        "access_log": access_log(
            features, source=source, destination=destination, requests=False, prefix=GOLDEN if counted else ""
        ),
    }
    if tunnel_to:
        config["tunneling_config"] = {"hostname": tunnel_to}
    return extension("envoy.filters.network.tcp_proxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy", config)


def tunnels(
    name: str, hosts: Sequence[Config], features: Features, *, source_state: bool = False, destination: str = ""
) -> Config:
    """The HTTP connection manager that ends CONNECT tunnels (HBONE): one virtual host per authority that it serves."""
    filters: list[Config] = []
    if source_state:
        filters.append(
            extension(
                "envoy.filters.http.set_filter_state",
                "extensions.filters.http.set_filter_state.v3.Config",
                {"on_request_headers": [filter_state(SOURCE_KEY, PEER, factory="envoy.hashable_string")]},
            )
        )
    filters.append(extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"))
    return extension(
        "envoy.filters.network.http_connection_manager",
        _HCM,
        {
            "stat_prefix": stat_name(name),
            "codec_type": "HTTP2",
            "route_config": {"name": name, "virtual_hosts": list(hosts)},
            "http_filters": filters,
            "stream_idle_timeout": "0s",
            "use_remote_address": False,
            "skip_xff_append": True,
            "generate_request_id": False,
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "http2_protocol_options": HTTP2,
            "access_log": access_log(features, source=PEER, destination=destination or name, requests=True),
        },
    )


def connect_route(cluster: str) -> Config:
    return {
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }
