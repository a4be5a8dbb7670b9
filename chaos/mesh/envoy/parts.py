"""The pieces of every role's configuration: names, TLS, per-pod state, sockets, logs. Identical in all modes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from chaos.mesh.envoy.protos import Config, extension, typed
from chaos.mesh.mutations import NO_DEFECTS, Defect, Defects
from chaos.mesh.snapshot import ROOT_SECRET, SANDBOX_DIR, AccessLog, Features, ProxyRole, Workload
from chaos.model.placement import Proxy
from chaos.names import MARK_PROXY, TRUST_DOMAIN

ADS: Final[Config] = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
TLS_1_3: Final[Config] = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
CONNECT_TIMEOUT: Final = "2s"
POOL_IDLE: Final = "2s"  # an idle pooled connection pins the namespace that it was made in
# Of a connection: what is more waits before it, and not in the memory of a proxy that others share.
BUFFER: Final[Config] = {"per_connection_buffer_limit_bytes": 64 << 10}
UNLIMITED: Final = 4_000_000_000  # circuit breakers must never be what differs
# The windows: what a connection takes of one stream, and of all, that nobody has read yet. Of a stream that its peer
# leaves, Envoy keeps as much.
HTTP2: Final[Config] = {
    "max_concurrent_streams": 2_147_483_647,
    "allow_connect": True,
    "initial_stream_window_size": 2 << 20,
    "initial_connection_window_size": 8 << 20,
}

NETNS_KEY: Final = "envoy.network.upstream_bind_override.network_namespace"
CERTIFICATE_KEY: Final = "envoy.tls.certificate_mappers.on_demand_secret"
SOURCE_KEY: Final = "sharedfate.source"  # at a waypoint: the SPIFFE id of whoever opened the tunnel

SOL_SOCKET, SO_MARK = 1, 36
STDOUT: Final = "extensions.access_loggers.stream.v3.StdoutAccessLog"


def sandbox_path(pod: Workload, proxy: Proxy) -> str:
    """Path of the pod's network namespace for a proxy outside the pod; empty for a sidecar."""
    return "" if ProxyRole.of(proxy) is ProxyRole.SIDECAR else f"{SANDBOX_DIR}/{pod.sandbox}"


def stat_name(name: str) -> str:
    """Return the name in metrics, without dots: Envoy splits labels at dots."""
    return name.replace(".", "_")


def original_dst() -> Config:
    return extension("envoy.filters.listener.original_dst", "extensions.filters.listener.original_dst.v3.OriginalDst")


def socket_address(address: str, port: int, netns: str = "") -> Config:
    found: Config = {"address": address, "port_value": port}
    if netns:
        found["network_namespace_filepath"] = netns
    return {"socket_address": found}


def filter_state(key: str, value: str, *, factory: str = "", shared: str = "TRANSITIVE") -> Config:
    found: Config = {
        "object_key": key,
        "shared_with_upstream": shared,
        "read_only": False,
        "format_string": {"text_format_source": {"inline_string": value}, "omit_empty_values": True},
    }
    if factory:
        found["factory_key"] = factory
    return found


def pod_state(identity: str, netns: str, defects: Defects) -> list[Config]:
    """The network filter that marks a shared proxy's upstream connections with their pod: namespace and
    certificate.

    The certificate's key must be a *hashable* string: only then does it take part in the pools' hash, and two pods
    never share an upstream connection. A proxy inside the pod needs neither.
    """
    if not netns:
        return []
    kind = "envoy.string" if Defect.UNHASHED_IDENTITY in defects else "envoy.hashable_string"
    states = [filter_state(NETNS_KEY, netns, factory=kind), filter_state(CERTIFICATE_KEY, identity, factory=kind)]
    return [
        extension(
            "envoy.filters.network.set_filter_state",
            "extensions.filters.network.set_filter_state.v3.Config",
            {"on_new_connection": states},
        )
    ]


def mark_option() -> Config:
    """SO_MARK, by which capture lets the proxy's own traffic pass. Needs CAP_NET_RAW or CAP_NET_ADMIN."""
    return {
        "description": "sharedfate",
        "level": SOL_SOCKET,
        "name": SO_MARK,
        "int_value": MARK_PROXY,
        "state": "STATE_PREBIND",
    }


def bind_config(*, shared: bool) -> Config:
    """Upstream sockets: marked; for a shared proxy, opened inside the namespace in the connection's state."""
    found: Config = {"socket_options": [mark_option()]}
    if shared:
        found["source_address"] = {"address": "0.0.0.0", "port_value": 0}
        found["local_address_selector"] = extension(
            "envoy.upstream.local_address_selector.filter_state_override",
            "extensions.local_address_selectors.filter_state_override.v3.Config",
        )
    return found


def _trust(matchers: Sequence[Config]) -> Config:
    return {
        "default_validation_context": {
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": matcher} for matcher in matchers]
        },
        "validation_context_sds_secret_config": {"name": ROOT_SECRET, "sds_config": ADS},
    }


ANY_MEMBER: Final[Config] = {"prefix": f"spiffe://{TRUST_DOMAIN}/"}


def _on_demand(mapper: str, config: Config, *, prefetch: Sequence[str] = ()) -> Config:
    """The certificate is asked for by name, `prefetch` at once, others when a handshake needs them; then kept up to
    date.
    """
    return extension(
        "envoy.tls.certificate_selectors.on_demand_secret",
        "extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config",
        {
            "config_source": ADS,
            "prefetch_secret_names": list(prefetch),
            "certificate_mapper": extension(
                f"envoy.tls.certificate_mappers.{mapper.split('.')[0]}",
                f"extensions.transport_sockets.tls.cert_mappers.{mapper}",
                config,
            ),
        },
    )


def downstream_tls(
    identity: str, *, shared: bool, alpn: Sequence[str] = ("h2", "http/1.1"), defects: Defects
) -> Config:
    """Mutual TLS as the server `identity`; any member of the trust domain may connect, and policy decides the
    rest.

    A shared proxy asks for certificates on demand on both sides: a name that is subscribed to in both ways is delivered
    to the first alone (Envoy 1.40), and the other's handshakes hang.
    """
    if Defect.PLAIN_TEXT_HOP in defects:
        return raw_buffer()
    own: Config = (
        {
            "custom_tls_certificate_selector": _on_demand(
                "static_name.v3.StaticName", {"name": identity}, prefetch=[identity]
            )
        }
        if shared
        else {"tls_certificate_sds_secret_configs": [{"name": identity, "sds_config": ADS}]}
    )
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        {
            "require_client_certificate": True,
            "disable_stateless_session_resumption": True,
            "disable_stateful_session_resumption": True,
            "common_tls_context": {
                "tls_params": TLS_1_3,
                "alpn_protocols": list(alpn),
                "combined_validation_context": _trust([ANY_MEMBER]),
                **own,
            },
        },
    )


def upstream_tls(own: str, peers: Iterable[Config], *, alpn: Sequence[str] = (), defects: Defects) -> Config:
    """Mutual TLS to `peers` only, as identity `own`; if empty, as the identity in the connection's filter state."""
    if Defect.PLAIN_TEXT_HOP in defects:
        return raw_buffer()
    common: Config = {"tls_params": TLS_1_3, "combined_validation_context": _trust(list(peers))}
    if alpn:
        common["alpn_protocols"] = list(alpn)
    if own:
        common["tls_certificate_sds_secret_configs"] = [{"name": own, "sds_config": ADS}]
    else:
        common["custom_tls_certificate_selector"] = _on_demand(
            "filter_state_override.v3.Config", {"default_value": "nobody"}
        )
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        {"common_tls_context": common, "max_session_keys": 0},
    )


def raw_buffer() -> Config:
    return extension("envoy.transport_sockets.raw_buffer", "extensions.transport_sockets.raw_buffer.v3.RawBuffer")


def internal_upstream(metadata: Sequence[str] = ()) -> Config:
    """Transport of a connection to a listener inside this Envoy; filter state travels with it, and the named metadata
    of the endpoint."""
    return extension(
        "envoy.transport_sockets.internal_upstream",
        "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
        {
            "passthrough_metadata": [{"kind": {"host": {}}, "name": name} for name in metadata],
            "transport_socket": raw_buffer(),
        },
    )


def circuit_breakers(features: Features) -> Config:
    """No limit below the proxy's own budget; retries within a fifth of the requests."""
    limits: Config = {f"max_{what}": UNLIMITED for what in ("connections", "pending_requests", "requests")}
    if features.retries:
        limits["retry_budget"] = {"budget_percent": {"value": 20}, "min_retry_concurrency": 3}
    else:
        limits["max_retries"] = UNLIMITED
    return {"thresholds": [limits]}


def http_options(protocol: str = "downstream", defects: Defects = NO_DEFECTS) -> Config:
    """Upstream protocol options: the downstream's own protocol, or `http1`, or `http2`. Idle connections close after 2
    s.
    """
    kinds: dict[str, Config] = {
        "downstream": {
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": HTTP2}
        },
        "http1": {"explicit_http_config": {"http_protocol_options": {}}},
        "http2": {"explicit_http_config": {"http2_protocol_options": HTTP2}},
    }
    common: Config = {"idle_timeout": "3600s" if Defect.PINNED in defects else POOL_IDLE}
    if Defect.UNSHARED_TUNNELS in defects and protocol == "http2":
        common["max_requests_per_connection"] = 1
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
            "extensions.upstreams.http.v3.HttpProtocolOptions",
            {"common_http_protocol_options": common, **kinds[protocol]},
        )
    }


_REQUEST_LINE: Final = (
    "%START_TIME% %REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%DURATION%ms in=%BYTES_RECEIVED% out=%BYTES_SENT% {source} -> {destination} %UPSTREAM_HOST% "
    "attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% %REQ(TRACEPARENT)%\n"
)
_CONNECTION_LINE: Final = (
    "%START_TIME% TCP %RESPONSE_FLAGS% %DURATION%ms in=%BYTES_RECEIVED% out=%BYTES_SENT% "
    "{source} -> {destination} %UPSTREAM_HOST% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n"
)


def access_log(
    features: Features, *, source: str, destination: str, requests: bool, prefix: str = "", each: int = 1
) -> list[Config]:
    """Compact lines on standard output; and with a `prefix`, golden metrics labelled by source and destination.

    Counted once, on the server's side of the path: `<prefix>.requests`, `.request_ms`; `.connections`, `.bytes_*` for
    TCP.
    `each`: how much a request counts.
    """
    found: list[Config] = []
    if features.access_log is not AccessLog.OFF:
        line = _REQUEST_LINE if requests else _CONNECTION_LINE
        log: Config = {
            **extension(
                "envoy.access_loggers.stdout",
                STDOUT,
                {
                    "log_format": {
                        "text_format_source": {"inline_string": line.format(source=source, destination=destination)}
                    }
                },
            )
        }
        if features.access_log is AccessLog.ERRORS:
            failed: list[Config] = [{"response_flag_filter": {}}]
            if requests:
                failed.append(
                    {
                        "status_code_filter": {
                            "comparison": {
                                "op": "GE",
                                "value": {"default_value": 500, "runtime_key": "sharedfate.logged_status"},
                            }
                        }
                    }
                )
            log["filter"] = failed[0] if len(failed) == 1 else {"or_filter": {"filters": failed}}
        found.append(log)
    if prefix:
        tags = [{"name": "source", "value_format": source}, {"name": "destination", "value_format": destination}]
        if requests:
            stats: Config = {
                "counters": [
                    {
                        "stat": {
                            "name": "requests",
                            "tags": [*tags, {"name": "code", "value_format": "%RESPONSE_CODE%"}],
                        },
                        "value_fixed": str(each),
                    }
                ],
                "histograms": [
                    {"stat": {"name": "request_ms", "tags": tags}, "unit": "Milliseconds", "value_format": "%DURATION%"}
                ],
            }
        else:
            stats = {
                "counters": [
                    {"stat": {"name": "connections", "tags": tags}, "value_fixed": "1"},
                    {"stat": {"name": "bytes_received", "tags": tags}, "value_format": "%BYTES_RECEIVED%"},
                    {"stat": {"name": "bytes_sent", "tags": tags}, "value_format": "%BYTES_SENT%"},
                ]
            }
        found.append(
            extension(
                "envoy.access_loggers.stats",
                "extensions.access_loggers.stats.v3.Config",
                {"stat_prefix": prefix, **stats},
            )
        )
    return found
