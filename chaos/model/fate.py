"""Who shares fate with whom: `path`, `fate_group` and `identities_held`, pure functions of a mode and a live placement.

Every expectation of every scenario comes from here. A placement is read from the live cluster (`chaos.kube.placement`),
never assumed; these functions neither read nor wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chaos.errors import ExperimentFailure
from chaos.model.modes import Balancing, Hop, Layer, ProxyMode, Scope, Side


class Role(StrEnum):
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True, order=True)
class PodRef:
    """An application pod, as far as sharing is concerned."""

    namespace: str
    name: str
    uid: str
    node: str
    tenant: str
    role: str  # Role
    workload: str  # name of the Deployment
    service_account: str
    ip: str = ""

    @property
    def workload_key(self) -> str:
        return f"{self.namespace}/{self.workload}"


@dataclass(frozen=True, slots=True, order=True)
class ProxyInstance:
    """One running proxy process, found from the live cluster."""

    namespace: str
    pod: str
    container: str
    uid: str  # of the pod that holds it
    node: str
    layers: frozenset[Layer]  # none: the placebo of mode `none`, on no path
    scope: Scope
    key: str  # what it serves: a pod's UID, a node's name, or a namespace
    service_account: str
    cpu_millicores: int = 0
    memory_bytes: int = 0
    container_id: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}[{self.container}]"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pods of a flow: a client and a server."""

    client: PodRef
    server: PodRef


@dataclass(frozen=True, slots=True)
class Placement:
    """What is where, at one moment."""

    mode: ProxyMode
    pods: tuple[PodRef, ...]
    proxies: tuple[ProxyInstance, ...]
    calls: tuple[tuple[str, str], ...]  # (client workload key, server workload key): the flows that exist

    def pairs(self) -> list[Pair]:
        """Every (client pod, server pod) pair of every flow."""
        by_workload: dict[str, list[PodRef]] = {}
        for pod in self.pods:
            by_workload.setdefault(pod.workload_key, []).append(pod)
        return [
            Pair(client, server)
            for client_key, server_key in self.calls
            for client in by_workload.get(client_key, [])
            for server in by_workload.get(server_key, [])
        ]


def scope_key(hop: Hop, pair: Pair) -> str:
    """What an instance must serve to stand at this hop of this pair's path."""
    pod = pair.client if hop.side is Side.CLIENT else pair.server
    return {Scope.POD: pod.uid, Scope.NODE: pod.node, Scope.NAMESPACE: pod.namespace}[hop.scope]


def path(placement: Placement, pair: Pair) -> tuple[tuple[ProxyInstance, ...], ...]:
    """The proxy instances that the pair's traffic passes, hop by hop, in order.

    Each hop is a tuple: all the instances that can serve it (a waypoint with two replicas is a hop of two).
    Raises ExperimentFailure when a hop has no instance: the placement is not whole.
    """
    found: list[tuple[ProxyInstance, ...]] = []
    for hop in placement.mode.hops:
        key = scope_key(hop, pair)
        instances = tuple(
            p for p in placement.proxies if p.scope is hop.scope and p.key == key and hop.layers <= p.layers
        )
        if not instances:
            raise ExperimentFailure(
                f"no {'/'.join(sorted(hop.layers))} proxy of scope {hop.scope} for {key!r} on the path "
                f"{pair.client.name} -> {pair.server.name} in mode {placement.mode.name}: is the mesh ready?"
            )
        found.append(instances)
    return tuple(found)


def share_behind(placement: Placement, pair: Pair, instance: ProxyInstance) -> float:
    """The share of the pair's traffic that passes the instance, in [0, 1]: 1 when it is the only one of its hop."""
    missed = 1.0
    for hop in path(placement, pair):
        if instance in hop:
            missed *= 1.0 - 1.0 / len(hop)
    return 1.0 - missed


def fate_group(placement: Placement, instance: ProxyInstance) -> list[Pair]:
    """The pairs whose path contains the instance."""
    return [pair for pair in placement.pairs() if any(instance in hop for hop in path(placement, pair))]


def flow_shares(placement: Placement, instances: Iterable[ProxyInstance]) -> Mapping[tuple[str, str], float]:
    """For each flow (client key, server key): the share of its traffic that passes at least one of the instances.

    Pairs of a flow weigh the same: clients of a workload carry the same load, and servers are balanced over.
    """
    targets = list(instances)
    shares: dict[tuple[str, str], list[float]] = {call: [] for call in placement.calls}
    for pair in placement.pairs():
        shares[pair.client.workload_key, pair.server.workload_key].append(_share_behind_any(placement, pair, targets))
    return {call: sum(values) / len(values) if values else 0.0 for call, values in shares.items()}


def may_move(placement: Placement, instances: Iterable[ProxyInstance]) -> frozenset[tuple[str, str]]:
    """The flows of which nothing can be predicted when the instances break: each connection is balanced once, and a
    client with connections behind them has others that are not. It drops those that fail and goes on with the rest, by
    its own patience."""
    if placement.mode.balancing is not Balancing.CONNECTION:
        return frozenset()
    targets = list(instances)
    by_client: dict[tuple[str, str, str], list[float]] = {}
    for pair in placement.pairs():
        by_client.setdefault((pair.client.workload_key, pair.server.workload_key, pair.client.uid), []).append(
            _share_behind_any(placement, pair, targets)
        )
    return frozenset(
        (client, server) for (client, server, _), shares in by_client.items() if 0 < sum(shares) < len(shares)
    )


def _share_behind_any(placement: Placement, pair: Pair, instances: Sequence[ProxyInstance]) -> float:
    missed = 1.0
    for instance in instances:
        missed *= 1.0 - share_behind(placement, pair, instance)
    return 1.0 - missed


def identities_held(placement: Placement, instance: ProxyInstance) -> frozenset[tuple[str, str]]:
    """The (namespace, service account) identities whose private keys the instance holds.

    L4, sidecar and node proxies hold the accounts of the pods that they serve; a waypoint (L7 alone) holds its own; a
    placebo (no layer) holds none.
    """
    if not instance.layers:
        return frozenset()
    if instance.layers == frozenset({Layer.L7}):
        return frozenset({(instance.namespace, instance.service_account)})
    return frozenset((pod.namespace, pod.service_account) for pod in placement.pods if serves(instance, pod))


def serves(instance: ProxyInstance, pod: PodRef) -> bool:
    """Whether the pod lies in the instance's scope."""
    return instance.key == {Scope.POD: pod.uid, Scope.NODE: pod.node, Scope.NAMESPACE: pod.namespace}[instance.scope]
