"""What `build` returns: xDS resources by type and name, each with a version that follows from its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage

_TYPE: Final = "type.googleapis.com/envoy.config"
LISTENER: Final = f"{_TYPE}.listener.v3.Listener"
CLUSTER: Final = f"{_TYPE}.cluster.v3.Cluster"
ENDPOINTS: Final = f"{_TYPE}.endpoint.v3.ClusterLoadAssignment"
ROUTES: Final = f"{_TYPE}.route.v3.RouteConfiguration"
SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True, slots=True)
class Resource:
    """One xDS resource, packed: equal versions mean equal bytes."""

    type_url: str
    name: str
    version: str
    packed: AnyMessage

    @classmethod
    def of(cls, message: Any) -> Resource:
        """Pack a Listener, Cluster, RouteConfiguration or ClusterLoadAssignment."""
        data = message.SerializeToString(deterministic=True)
        type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
        name = message.cluster_name if type_url == ENDPOINTS else message.name
        version = hashlib.blake2b(data, digest_size=8).hexdigest()
        return cls(type_url, name, version, AnyMessage(type_url=type_url, value=data))


@dataclass(frozen=True)
class Resources:
    """All that one proxy needs. `secrets` are the SDS names it may ask for: SPIFFE ids and snapshot.ROOT_SECRET."""

    items: tuple[Resource, ...]
    secrets: frozenset[str]

    @classmethod
    def collect(cls, items: Iterable[Resource], secrets: Iterable[str]) -> Resources:
        return cls(tuple(items), frozenset(secrets))

    @cached_property
    def by_type(self) -> Mapping[str, Mapping[str, Resource]]:
        """type URL -> name -> resource; a type with none is absent."""
        found: dict[str, dict[str, Resource]] = {}
        for item in self.items:
            found.setdefault(item.type_url, {})[item.name] = item
        return found
