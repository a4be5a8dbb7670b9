"""The proxy modes as data: who shares a proxy with whom, per layer, and how the proxy gets there.

Adding a mode is adding a row here (and its folder in manifests/modes): nothing branches on a mode's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol


class Layer(StrEnum):
    L4 = "l4"  # connections: identity, encryption, connection metrics
    L7 = "l7"  # requests: balancing, retries, timeouts, policy, golden metrics


class Located(Protocol):
    """Anything with a place in the cluster: an application pod in any of its representations."""

    @property
    def uid(self) -> str: ...

    @property
    def node(self) -> str: ...

    @property
    def namespace(self) -> str: ...


class Scope(StrEnum):
    """Who shares one proxy instance."""

    POD = "pod"
    NODE = "node"
    NAMESPACE = "namespace"
    WAYPOINT = "waypoint"  # what was bound to it: Services or pods, of whichever namespaces

    def key_of(self, pod: Located) -> str:
        """Return the key that a proxy of this scope must have to serve the pod; "" where the pod's place does not
        decide it.

        The one rule of sharing: paths, configuration, authentication, placement and reports all ask it. A waypoint's
        key is its own `namespace/name`, and the call that is bound to it names it (`Hop.key`).
        """
        match self:
            case Scope.POD:
                return pod.uid
            case Scope.NODE:
                return pod.node
            case Scope.NAMESPACE:
                return pod.namespace
            case Scope.WAYPOINT:
                return ""


class PlacedBy(StrEnum):
    """How a proxy gets to where it is."""

    CONTAINER = "container"  # an ordinary container of the application's pod
    INIT_CONTAINER = "init-container"  # an init container with restartPolicy: Always
    DAEMON_SET = "daemonset"
    DEPLOYMENT = "deployment"


class Balancing(StrEnum):
    REQUEST = "request"
    CONNECTION = "connection"


class Side(StrEnum):
    """Whose node and namespace choose the instance of a layer's proxy: the client pod's or the server pod's."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a path: the layers of a proxy, and the side whose pod chooses the instance.

    A proxy that holds both layers (a sidecar, a node proxy) is one hop with both.

    Attributes:
        key: of scope `waypoint`: `namespace/name` of the one that the call is bound to. "" in a mode's row, which says
            that there is one and not which.
    """

    scope: Scope
    side: Side
    layers: frozenset[Layer]
    key: str = ""

    def key_at(self, end: Located) -> str:
        """Return the key of the proxies of this hop for a pair whose pod on this side is `end`."""
        return self.key or self.scope.key_of(end)


def balancing_of(hops: Iterable[Hop]) -> Balancing:
    """Return how requests on this path are spread over servers: one by one where a proxy that reads requests comes
    before the choice of server (on the client's side, or apart, for a whole namespace or Service); else by connection.
    """
    picks = (Scope.NAMESPACE, Scope.WAYPOINT)
    by_request = any(Layer.L7 in hop.layers and (hop.side is Side.CLIENT or hop.scope in picks) for hop in hops)
    return Balancing.REQUEST if by_request else Balancing.CONNECTION


@dataclass(frozen=True, slots=True)
class Route:
    """What one pair's requests pass, in order, and how they are spread over servers.

    Attributes:
        because: for people: why a hop of the mesh stands here or does not, a sentence each.
    """

    hops: tuple[Hop, ...]
    balancing: Balancing
    because: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyKind:
    """One kind of proxy that a mode has."""

    layers: frozenset[Layer]  # none: the placebo
    scope: Scope
    placed_by: PlacedBy

    @property
    def in_pod(self) -> bool:
        """Whether the proxy is a container of the application's own pod."""
        return self.placed_by in (PlacedBy.CONTAINER, PlacedBy.INIT_CONTAINER)


@dataclass(frozen=True, slots=True)
class ProxyMode:
    """A row of the table of modes (docs/mesh.md): a shape, and how the proxies get there, whoever brings them.

    Attributes:
        placed_by: of the L4 proxy, then of the L7 proxy when it is another.
        hops: what a request passes, in order.
        starts_first: the application starts after its proxy, though its place does not say so (a hook of the proxy's
            that the kubelet waits for; a network plugin that lets the pod begin when it is carried).
        brought_by: the mesh that brings the proxies; "": our own, which is deployed with the mode.
        drains: seconds for which a proxy that is told to end still takes new calls.
    """

    name: str
    l4: Scope | None
    l7: Scope | None
    placed_by: tuple[PlacedBy, ...]
    hops: tuple[Hop, ...]
    balancing: Balancing
    stands_for: str
    starts_first: bool = False
    brought_by: str = ""
    drains: float = 0.0

    @property
    def kinds(self) -> tuple[ProxyKind, ...]:
        """Its kinds of proxy, in the order of `placed_by`; of mode `none` the placebo."""
        if not self.hops:
            return (ProxyKind(frozenset(), Scope.NODE, PlacedBy.DAEMON_SET),)
        apart = dict.fromkeys((hop.layers, hop.scope) for hop in self.hops)
        return tuple(ProxyKind(*which, placed) for which, placed in zip(apart, self.placed_by, strict=True))

    @property
    def separate_layers(self) -> bool:
        """Whether L4 and L7 are different proxies (ambient)."""
        return len(self.placed_by) == 2

    @property
    def holds_jobs(self) -> bool:
        """Whether the proxy keeps a Job's pod from ending, as an ordinary container beside the application does."""
        return PlacedBy.CONTAINER in self.placed_by

    @property
    def ends_with_app(self) -> bool:
        """Whether the proxy is told to end at the same moment as its application, as every ordinary container of a pod
        is; a native sidecar is told when the application has ended, and a proxy outside the pod is not told at all.
        """
        return bool(self.placed_by) and self.placed_by[0] is PlacedBy.CONTAINER

    @property
    def ready_before_app(self) -> bool:
        """Whether an application's first request finds its whole path ready: there is no proxy, or it starts before the
        application.
        """
        return self.starts_first or not self.placed_by or self.placed_by[0] is PlacedBy.INIT_CONTAINER

    @property
    def in_pod(self) -> bool:
        """Whether the proxy is a container of the application's own pod."""
        return bool(self.placed_by) and self.placed_by[0] in (PlacedBy.CONTAINER, PlacedBy.INIT_CONTAINER)


_BOTH: Final = frozenset(Layer)
_L4: Final = frozenset({Layer.L4})
_L7: Final = frozenset({Layer.L7})


def _both_ends(scope: Scope) -> tuple[Hop, ...]:
    return (Hop(scope, Side.CLIENT, _BOTH), Hop(scope, Side.SERVER, _BOTH))


def _ambient(waypoint: Hop) -> tuple[Hop, ...]:
    return (Hop(Scope.NODE, Side.CLIENT, _L4), waypoint, Hop(Scope.NODE, Side.SERVER, _L4))


MODES: Final[dict[str, ProxyMode]] = {
    mode.name: mode
    for mode in (
        ProxyMode("none", None, None, (), (), Balancing.CONNECTION, "baseline"),
        ProxyMode(
            "sidecar",
            Scope.POD,
            Scope.POD,
            (PlacedBy.CONTAINER,),
            _both_ends(Scope.POD),
            Balancing.REQUEST,
            "Istio's classic sidecars, Linkerd before native sidecars",
        ),
        ProxyMode(
            "native-sidecar",
            Scope.POD,
            Scope.POD,
            (PlacedBy.INIT_CONTAINER,),
            _both_ends(Scope.POD),
            Balancing.REQUEST,
            "Linkerd (default since 2.20), Istio (since 1.27)",
        ),
        ProxyMode(
            "node",
            Scope.NODE,
            Scope.NODE,
            (PlacedBy.DAEMON_SET,),
            _both_ends(Scope.NODE),
            Balancing.REQUEST,
            "Linkerd 1.x, per-node Envoy",
        ),
        ProxyMode(
            "ambient-namespace",
            Scope.NODE,
            Scope.NAMESPACE,
            (PlacedBy.DAEMON_SET, PlacedBy.DEPLOYMENT),
            _ambient(Hop(Scope.NAMESPACE, Side.SERVER, _L7)),
            Balancing.REQUEST,
            "Istio ambient's default waypoint",
        ),
        # The waypoint of the client's node: one beside the server could not spread requests over other nodes' servers.
        ProxyMode(
            "ambient-node",
            Scope.NODE,
            Scope.NODE,
            (PlacedBy.DAEMON_SET, PlacedBy.DAEMON_SET),
            _ambient(Hop(Scope.NODE, Side.CLIENT, _L7)),
            Balancing.REQUEST,
            "ambient, waypoint per node",
        ),
        ProxyMode(
            "ambient-pod",
            Scope.NODE,
            Scope.POD,
            (PlacedBy.DAEMON_SET, PlacedBy.DEPLOYMENT),
            _ambient(Hop(Scope.POD, Side.SERVER, _L7)),
            Balancing.CONNECTION,
            "ambient run as a sidecar",
        ),
    )
}


def layer_name(layers: frozenset[Layer]) -> str:
    """Return the value of the label `layer`: l4, l7, l4-l7, or none for the placebo."""
    return "-".join(sorted(layers)) or "none"
