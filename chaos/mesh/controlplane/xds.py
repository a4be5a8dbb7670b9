"""The server's side of one delta xDS stream, without I/O: requests in, responses out, and what the proxy
acknowledged.

A refused resource (NACK) concerns that resource alone: the others of the same response have been applied, and the
refused one is offered again later (a namespace that did not exist yet may exist by then). Nothing waits for an ACK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse

CLUSTER: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTES: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

# Make before break: clusters come before what uses them, and go after it.
_ADD_ORDER: Final = (CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTES)
_REMOVE_ORDER: Final = (LISTENER, ROUTES, ENDPOINTS, SECRET, CLUSTER)
_ABSENT: Final = ""  # the version of a name that the proxy was told does not exist
_FIRST_RETRY: Final = 0.25
_LONGEST_RETRY: Final = 5.0


class Offered(Protocol):
    """A packed resource: chaos.mesh.envoy.resources.Resource is one."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def packed(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that the proxy refused (NACK)."""

    version: str
    message: str
    count: int
    retry_at: float


@dataclass(slots=True)
class _Type:
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)  # name -> version that the proxy has, or was sent
    acked: dict[str, str] = field(default_factory=dict)
    pending: dict[str, dict[str, str]] = field(default_factory=dict)  # nonce -> what it carried
    refused: dict[str, Refusal] = field(default_factory=dict)
    answered: bool = False  # Envoy waits for the first answer to a wildcard, even when there is nothing


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A request's answer to an earlier response."""

    type_url: str
    acked: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    message: str = ""


class XdsSession:
    """One stream. Not thread-safe."""

    def __init__(self) -> None:
        self._types: dict[str, _Type] = {}
        self._nonce = 0

    def request(self, request: Any, now: float) -> Acknowledgement:
        """Take a DeltaDiscoveryRequest: subscriptions, what a reconnected proxy still has, an ACK or a NACK."""
        kind = self._types.get(request.type_url)
        if kind is None:
            kind = self._types[request.type_url] = _Type()
            kind.wildcard = not request.resource_names_subscribe and request.type_url in (LISTENER, CLUSTER)
            kind.sent = dict(request.initial_resource_versions)
            kind.acked = dict(kind.sent)
            kind.answered = bool(kind.sent)
        for name in request.resource_names_subscribe:
            if name == "*":
                kind.wildcard = True
            else:
                kind.names.add(name)
                if name not in request.initial_resource_versions:
                    kind.sent.pop(name, None)  # asked for again: the proxy wants to be told again
        for name in request.resource_names_unsubscribe:
            if name == "*":
                kind.wildcard = False
            kind.names.discard(name)
            kind.sent.pop(name, None)
            kind.refused.pop(name, None)
        carried = kind.pending.pop(request.response_nonce, None) if request.response_nonce else None
        if carried is None:
            return Acknowledgement(request.type_url)
        if not request.error_detail.code and not request.error_detail.message:
            for name, version in carried.items():
                if version == _ABSENT:
                    kind.acked.pop(name, None)
                else:
                    kind.acked[name] = version
                if name in kind.refused and kind.refused[name].version == version:
                    del kind.refused[name]
            return Acknowledgement(request.type_url, acked=tuple(carried))
        message = request.error_detail.message
        named = [name for name in carried if name in message] or list(carried)
        for name, version in carried.items():
            if name not in named:
                kind.acked[name] = version
                continue
            count = kind.refused[name].count + 1 if name in kind.refused else 1
            wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** (count - 1))
            kind.refused[name] = Refusal(version, message, count, now + wait)
        return Acknowledgement(request.type_url, refused=tuple(named), message=message)

    def subscribed(self, type_url: str) -> frozenset[str]:
        """The names asked for one by one."""
        return frozenset(self._types[type_url].names) if type_url in self._types else frozenset()

    def plan(self, wanted: Mapping[str, Mapping[str, Offered]], now: float) -> list[DeltaDiscoveryResponse]:
        """The responses that bring the proxy to what is wanted (type URL -> name -> resource), in a safe order."""
        responses: list[DeltaDiscoveryResponse] = []
        for type_url in _ADD_ORDER:
            if (kind := self._types.get(type_url)) is not None:
                if type_url == ENDPOINTS:
                    self._tell_again(kind, responses)
                responses += self._additions(type_url, kind, wanted.get(type_url, {}), now)
        for type_url in _REMOVE_ORDER:
            if (kind := self._types.get(type_url)) is not None:
                responses += self._removals(type_url, kind, wanted.get(type_url, {}))
        return responses

    @staticmethod
    def _tell_again(endpoints: _Type, clusters: list[DeltaDiscoveryResponse]) -> None:
        """Send the endpoints of a changed cluster again: it is a new one to Envoy, which waits for its endpoints
        without asking for them (it knows the name), and acknowledges no cluster until they arrive.
        """
        for response in clusters:
            for resource in response.resources:
                endpoints.sent.pop(resource.name, None)

    def _additions(
        self, type_url: str, kind: _Type, wanted: Mapping[str, Offered], now: float
    ) -> list[DeltaDiscoveryResponse]:
        names = wanted if kind.wildcard else [name for name in kind.names if name in wanted]
        changed = []
        for name in names:
            version = wanted[name].version
            refusal = kind.refused.get(name)
            again = refusal is not None and refusal.version == version and refusal.retry_at <= now
            if kind.sent.get(name) != version or (again and not any(name in sent for sent in kind.pending.values())):
                changed.append(wanted[name])
        if not changed and (kind.answered or not kind.wildcard):
            return []
        kind.answered = True
        response = DeltaDiscoveryResponse(type_url=type_url, nonce=self._next_nonce())
        carried = {}
        for resource in changed:
            response.resources.add(name=resource.name, version=resource.version, resource=resource.packed)
            carried[resource.name] = kind.sent[resource.name] = resource.version
        kind.pending[response.nonce] = carried
        return [response]

    def _removals(self, type_url: str, kind: _Type, wanted: Mapping[str, Offered]) -> list[DeltaDiscoveryResponse]:
        gone = [
            name
            for name, version in kind.sent.items()
            if version != _ABSENT and name not in wanted and (kind.wildcard or name in kind.names)
        ]
        gone += [name for name in kind.names if name not in wanted and name not in kind.sent]  # no such thing
        if not gone:
            return []
        response = DeltaDiscoveryResponse(type_url=type_url, nonce=self._next_nonce())
        response.removed_resources.extend(gone)
        for name in gone:
            kind.refused.pop(name, None)
            if name in kind.names:
                kind.sent[name] = _ABSENT
            else:
                kind.sent.pop(name, None)
        kind.pending[response.nonce] = dict.fromkeys(gone, _ABSENT)
        return [response]

    def next_retry(self) -> float | None:
        """When a refused resource is due to be offered again."""
        return min(
            (
                refusal.retry_at
                for kind in self._types.values()
                for name, refusal in kind.refused.items()
                if not any(name in sent for sent in kind.pending.values())
            ),
            default=None,
        )

    def status(self) -> dict[str, Any]:
        """Per type: versions acknowledged, names refused with the proxy's message, responses not yet answered."""
        return {
            type_url.rsplit(".", 1)[-1]: {
                "acked": dict(sorted(kind.acked.items())),
                "refused": {name: {"message": r.message, "count": r.count} for name, r in sorted(kind.refused.items())},
                "pending": len(kind.pending),
            }
            for type_url, kind in self._types.items()
        }

    def _next_nonce(self) -> str:
        self._nonce += 1
        return str(self._nonce)
