"""Envoy's messages from plain dictionaries that read like its documentation, through the published protobufs.

Every extension that the configurations name is imported here, so that its type can be packed by name. Three messages of
Envoy 1.37 and later are not published in xds-protos 1.85 (the on-demand certificate selector and its mappers): they are
declared here, field for field as Envoy's own descriptor has them, unless a later xds-protos brings them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

Config = dict[str, Any]

_EXTENSIONS: Final = (
    "access_loggers.stats.v3.stats",
    "access_loggers.stream.v3.stream",
    "bootstrap.internal_listener.v3.internal_listener",
    "filters.http.credential_injector.v3.credential_injector",
    "filters.http.fault.v3.fault",
    "filters.http.rbac.v3.rbac",
    "filters.http.router.v3.router",
    "filters.http.set_filter_state.v3.set_filter_state",
    "filters.http.upstream_codec.v3.upstream_codec",
    "filters.listener.original_dst.v3.original_dst",
    "filters.network.http_connection_manager.v3.http_connection_manager",
    "filters.network.rbac.v3.rbac",
    "filters.network.set_filter_state.v3.set_filter_state",
    "filters.network.tcp_proxy.v3.tcp_proxy",
    "http.injected_credentials.generic.v3.generic",
    "local_address_selectors.filter_state_override.v3.config",
    "retry.host.previous_hosts.v3.previous_hosts",
    "transport_sockets.internal_upstream.v3.internal_upstream",
    "transport_sockets.raw_buffer.v3.raw_buffer",
    "transport_sockets.tls.v3.tls",
    "upstreams.http.v3.http_protocol_options",
)
for _module in (
    *(f"envoy.extensions.{name}" for name in _EXTENSIONS),
    "envoy.config.trace.v3.opentelemetry",
    "envoy.config.cluster.v3.cluster",
    "envoy.config.listener.v3.listener",
    "envoy.config.endpoint.v3.endpoint",
):
    importlib.import_module(f"{_module}_pb2")

_TLS: Final = "envoy.extensions.transport_sockets.tls"
_MISSING: Final = {  # package -> fields (name, number, message type or None for a string, repeated)
    f"{_TLS}.cert_selectors.on_demand_secret.v3": (
        ("config_source", 1, "envoy.config.core.v3.ConfigSource", False),
        ("certificate_mapper", 2, "envoy.config.core.v3.TypedExtensionConfig", False),
        ("prefetch_secret_names", 3, None, True),
    ),
    f"{_TLS}.cert_mappers.filter_state_override.v3": (("default_value", 1, None, False),),
    f"{_TLS}.cert_mappers.static_name.v3": (("name", 1, None, False),),
}
_POOL: Final = descriptor_pool.Default()


def _named(package: str) -> str:
    return "StaticName" if "static_name" in package else "Config"


def _declare_missing() -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    for package, fields in _MISSING.items():
        try:
            _POOL.FindMessageTypeByName(f"{package}.{_named(package)}")
            continue
        except KeyError:
            pass
        file = descriptor_pb2.FileDescriptorProto(
            name=package.replace(".", "/") + "/config.proto",
            package=package,
            syntax="proto3",
            dependency=["envoy/config/core/v3/config_source.proto", "envoy/config/core/v3/extension.proto"],
        )
        message = file.message_type.add(name=_named(package))
        for name, number, type_name, repeated in fields:
            field = message.field.add(
                name=name, number=number, label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            )
            if type_name is None:
                field.type = kinds.TYPE_STRING
            else:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{type_name}"
        _POOL.AddSerializedFile(file.SerializeToString())
        message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{_named(package)}"))


_declare_missing()


def message(type_name: str, config: Mapping[str, Any]) -> Any:
    """A message of that full name (`envoy.config.listener.v3.Listener`); raises ParseError for a field that is not
    one.
    """
    cls = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(type_name))
    return json_format.ParseDict(config, cls(), descriptor_pool=_POOL)


def typed(type_name: str, config: Mapping[str, Any] | None = None) -> Config:
    """The same as an Any: `envoy.` may be left out."""
    full = type_name if type_name.startswith(("google.", "envoy.")) else f"envoy.{type_name}"
    return {"@type": f"type.googleapis.com/{full}", **(config or {})}


def extension(name: str, type_name: str, config: Mapping[str, Any] | None = None) -> Config:
    """A named extension: a filter, a transport socket, a logger."""
    return {"name": name, "typed_config": typed(type_name, config)}
