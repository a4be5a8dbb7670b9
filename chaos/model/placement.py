"""What is where at one moment: application pods, proxies, and who serves whom. Pure data, read from the live cluster by
`chaos.kube.placement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from chaos.model.modes import Layer, Located, ProxyMode, Route, Scope, Side

ANY_SCOPE: Final = frozenset(Scope)


class Role(StrEnum):
    """What a tenant's pod does in an experiment."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Place:
    """A location without a pod."""

    uid: str = ""
    node: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Pod:
    """An application pod, as far as sharing is concerned.

    Attributes:
        carried_by: the scopes of the proxies that take its traffic. A mesh of somebody else's may have pods that no
            proxy carries, or only those of one scope, beside others on the same node.
        waypoints: keys of those that calls to it are bound to.
    """

    namespace: str
    name: str
    uid: str
    node: str
    tenant: str
    role: str  # a Role; "" for a pod that is neither
    workload: str  # name of the Deployment
    service_account: str
    ip: str = ""
    carried_by: frozenset[Scope] = field(default=ANY_SCOPE, compare=False)
    waypoints: tuple[str, ...] = field(default=(), compare=False)

    @property
    def workload_key(self) -> str:
        """`namespace/workload`: an end of a flow."""
        return f"{self.namespace}/{self.workload}"

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types, for the history's `placement` event."""
        return {**asdict(self), "carried_by": sorted(self.carried_by), "waypoints": list(self.waypoints)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Pod:
        """The inverse of `as_dict`; `carried_by` (any) and `waypoints` may be missing. Raises TypeError for any other
        shape.
        """
        carried = frozenset(map(Scope, row.get("carried_by", ANY_SCOPE)))
        return cls(**{**row, "carried_by": carried, "waypoints": tuple(row.get("waypoints", ()))})


@dataclass(frozen=True, slots=True, order=True)
class Proxy:
    """One running proxy process, found from the live cluster."""

    namespace: str
    pod: str
    container: str
    uid: str  # of the pod that holds it
    node: str
    layers: frozenset[Layer]  # none: the placebo of mode `none`, on no path
    scope: Scope
    key: str  # what it serves, as Scope.key_of says; "" when that is gone
    service_account: str
    cpu_millicores: int = 0
    memory_bytes: int = 0
    container_id: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}[{self.container}]"

    def serves(self, pod: Located) -> bool:
        """Whether the proxy carries the pod's traffic on the pod's side. A placebo serves nobody."""
        if not (self.layers and self.key):
            return False
        if isinstance(pod, Pod):
            if self.scope is Scope.WAYPOINT:
                return self.key in pod.waypoints
            if self.scope not in pod.carried_by:
                return False
        return self.key == self.scope.key_of(pod)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types, for the history's `placement` event."""
        return {**asdict(self), "layers": sorted(self.layers), "scope": str(self.scope)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Proxy:
        """The inverse of `as_dict`; `uid` and `service_account` may be missing. Raises KeyError or TypeError."""
        layers, scope = frozenset(Layer(layer) for layer in row["layers"]), Scope(row["scope"])
        return cls(**{"uid": "", "service_account": "", **row, "layers": layers, "scope": scope})


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pods of a flow: a client and a server."""

    client: Pod
    server: Pod

    def at(self, side: Side) -> Pod:
        """The pod on that side."""
        return self.client if side is Side.CLIENT else self.server

    @property
    def call(self) -> tuple[str, str]:
        """(client workload key, server workload key): the flow that the pair belongs to."""
        return self.client.workload_key, self.server.workload_key


@dataclass(frozen=True, slots=True)
class Placement:
    """What is where, at one moment.

    Attributes:
        calls: (client workload key, server workload key): the flows that exist.
        routes: by what (client pod, server pod) are `alike` to, of pairs whose path is not the mode's: a path belongs
            to a call, and what a Service, a pod or a namespace asks of a mesh differs from call to call.
        kinds: UID -> a name that the pods of a workload share which a mesh treats alike; of those not in it, the UID.
    """

    mode: ProxyMode
    pods: tuple[Pod, ...]
    proxies: tuple[Proxy, ...]
    calls: tuple[tuple[str, str], ...]
    routes: Mapping[tuple[str, str], Route] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    def alike(self, pod: Pod) -> str:
        """What tells the pod's routes from those of other pods of its workload: one name where nothing does."""
        return self.kinds.get(pod.uid, pod.uid) if self.routes else ""

    def route(self, pair: Pair) -> Route:
        """The route of the pair's requests."""
        found = self.routes.get((self.alike(pair.client), self.alike(pair.server)))
        return found or Route(self.mode.hops, self.mode.balancing)

    def nodes_of(self, workload: str) -> list[str]:
        """The nodes on which the workload (`namespace/name`) has pods, sorted."""
        return sorted({pod.node for pod in self.pods if pod.workload_key == workload})

    def pairs(self) -> list[Pair]:
        """Every (client pod, server pod) pair of every flow."""
        by_workload: dict[str, list[Pod]] = {}
        for pod in self.pods:
            by_workload.setdefault(pod.workload_key, []).append(pod)
        return [
            Pair(client, server)
            for client_key, server_key in self.calls
            for client in by_workload.get(client_key, [])
            for server in by_workload.get(server_key, [])
        ]
