"""The mesh's view of a cluster: what `chaos.mesh.envoy.build` turns into one proxy's configuration.

The control plane makes a `MeshSnapshot` of what it watches, and replaces it as a whole on each change. Its parts are
frozen and hashable, so that an unchanged pod or service gives the very same (cached) configuration. Pure data: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from chaos.mesh.mutations import NO_DEFECTS, Defect, Defects
from chaos.model.modes import Layer, ProxyMode, Scope
from chaos.model.placement import Proxy
from chaos.names import LABEL_WAYPOINT, NO_WAYPOINT, spiffe_id

SANDBOX_DIR: Final = "/run/sharedfate/sandboxes"  # emptyDir that agent and Envoy share: <sandbox> -> /proc/<pid>/ns/net
ROOT_SECRET: Final = "ROOTCA"  # SDS name of the trust bundle (a validation_context secret)


class AppProtocol(StrEnum):
    """What a Service port carries, from its appProtocol or the prefix of its name; TCP when neither says."""

    HTTP = "http"  # HTTP/1.1, HTTP/2 with prior knowledge, gRPC
    TCP = "tcp"


class ProxyRole(StrEnum):
    SIDECAR = "sidecar"  # both layers of one pod, in that pod
    NODE = "node"  # both layers of a node's pods
    L4 = "l4"  # connections of a node's pods
    WAYPOINT = "waypoint"  # requests, for whatever its scope says

    @classmethod
    def of(cls, proxy: Proxy) -> ProxyRole:
        """The role that follows from the proxy's layers and scope. Raises KeyError for a placebo."""
        if proxy.scope is Scope.POD and len(proxy.layers) == 2:
            return cls.SIDECAR
        return {frozenset(Layer): cls.NODE, frozenset({Layer.L4}): cls.L4, frozenset({Layer.L7}): cls.WAYPOINT}[
            proxy.layers
        ]


class AccessLog(StrEnum):
    ALL = "all"
    ERRORS = "errors"  # answers of 500 and above, and response flags
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Features:
    """What L7 proxies do beside balancing: the same in every mode. The default is that of isolation runs, where retries
    and outlier detection would hide the effect under test.
    """

    retries: bool = False
    outlier_detection: bool = False
    timeout_seconds: float | None = None  # of a whole request
    policy: bool = True
    access_log: AccessLog = AccessLog.ERRORS


@dataclass(frozen=True, slots=True, order=True)
class Misanswering:
    """What one L7 proxy does to requests in their servers' place, on request of a fault."""

    pod_uid: str  # of the proxy
    errors: float = 0.0  # share of the requests that it answers with `code`
    code: int = 503
    delay_ms: int = 0  # that every request waits
    namespace: str = ""  # of the servers whose requests it concerns; "": of all


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod as configuration sees it: an application's, or any other that is an endpoint.

    `chaos.model.placement.Pod` is the same pod as the experiment sees it.
    """

    uid: str
    namespace: str
    name: str
    node: str
    ip: str
    service_account: str
    labels: tuple[tuple[str, str], ...] = ()
    ready: bool = False
    meshed: bool = True
    sandbox: str = ""  # names.ANNOTATION_SANDBOX, empty until the node agent has found its network namespace

    @property
    def identity(self) -> str:
        return spiffe_id(self.namespace, self.service_account)

    @property
    def waypoint(self) -> bool:
        """Whether a waypoint, where the mode has them, stands before it; else any member may come."""
        return (LABEL_WAYPOINT, NO_WAYPOINT) not in self.labels


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One ready endpoint of a Service port."""

    pod_uid: str
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class ServicePort:
    port: int
    protocol: AppProtocol
    endpoints: tuple[Endpoint, ...] = ()  # sorted
    target_port: int = 0  # the pods' port when it is a number: known before any endpoint is ready


@dataclass(frozen=True, slots=True)
class Service:
    """A Service of a meshed namespace, with a cluster IP (headless Services pass as plain TCP to an address)."""

    namespace: str
    name: str
    cluster_ip: str
    ports: tuple[ServicePort, ...] = ()
    accounts: tuple[str, ...] = ()  # sorted SPIFFE ids of all pods behind it, ready or not; (): any of its namespace
    waypoint: bool = True  # whether a waypoint, where the mode has them, stands before it


@dataclass(frozen=True, slots=True, order=True)
class Waypoint:
    """An L7 proxy of an ambient mode. One that is not ready gets no traffic, but its account stays accepted."""

    proxy: Proxy
    ip: str
    ready: bool = True

    @property
    def identity(self) -> str:
        return identity_of(self.proxy)


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to be allowed: all of its non-empty parts must match."""

    sources: tuple[str, ...] = ()  # SPIFFE ids; empty: any authenticated one
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()  # exact, or a prefix that ends in "*"

    @property
    def needs_requests(self) -> bool:
        """Whether only an L7 proxy can decide it."""
        return bool(self.methods or self.paths)


@dataclass(frozen=True, slots=True)
class Policy:
    """Allow-list of a namespace's pods: with at least one policy, what no rule allows is refused. A rule that needs
    requests allows nothing on a TCP port."""

    namespace: str
    name: str
    rules: tuple[Rule, ...] = ()


def identity_of(proxy: Proxy) -> str:
    """The SPIFFE id of the proxy's own service account."""
    return spiffe_id(proxy.namespace, proxy.service_account)


@dataclass(frozen=True, slots=True)
class MeshSnapshot:
    mode: ProxyMode
    features: Features = Features()
    nodes: Mapping[str, str] = field(default_factory=dict)  # name -> InternalIP
    pods: Mapping[str, Workload] = field(default_factory=dict)  # by UID; of meshed namespaces
    services: tuple[Service, ...] = ()  # sorted by namespace and name
    waypoints: tuple[Waypoint, ...] = ()  # sorted
    policies: tuple[Policy, ...] = ()  # sorted by namespace and name
    defects: Defects = NO_DEFECTS  # what is broken on purpose: only tests of the checks say so
    misanswers: tuple[Misanswering, ...] = ()  # sorted; only faults say so

    def served_by(self, proxy: Proxy) -> tuple[Workload, ...]:
        """The meshed pods that the proxy serves, in the order of their UIDs."""
        return tuple(sorted((p for p in self.pods.values() if p.meshed and proxy.serves(p)), key=lambda pod: pod.uid))

    def misanswers_of(self, proxy: Proxy) -> tuple[Misanswering, ...]:
        """What that proxy shall do to requests."""
        return tuple(one for one in self.misanswers if one.pod_uid == proxy.uid)

    def identities(self, proxy: Proxy) -> frozenset[str]:
        """The SPIFFE ids whose keys the proxy may hold: a waypoint and a sidecar their own, any other those of the pods
        that it serves.

        `chaos.model.fate.identities_held` answers the same for the checks; neither may be built on the other, for each
        is the check on the other.
        """
        if Defect.OVER_GENEROUS in self.defects:
            return self.everybody()
        # A sidecar's own, because it runs before its pod has an address.
        if ProxyRole.of(proxy) in (ProxyRole.WAYPOINT, ProxyRole.SIDECAR):
            return frozenset({identity_of(proxy)})
        return frozenset(pod.identity for pod in self.served_by(proxy))

    def everybody(self) -> frozenset[str]:
        """Every SPIFFE id that some proxy may hold."""
        return frozenset(
            {pod.identity for pod in self.pods.values() if pod.meshed} | {w.identity for w in self.waypoints}
        )
