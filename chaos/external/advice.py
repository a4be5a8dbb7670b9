"""Advice from a target's own objects, whatever the mesh, a sentence each, before anything is broken. Pure, except for
`read_evidence`.

Nothing here is measured. Each sentence names the object, and the flaw by which one death hurts more than it has to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from chaos.errors import ApiError
from chaos.external.file import TargetSystem
from chaos.kube.client import Cluster
from chaos.kube.objects import is_live, is_unready, label_selector, selects
from chaos.model.fate import flow_shares
from chaos.model.modes import Scope
from chaos.model.placement import Placement, Pod, Proxy

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AdviceBasis:
    """The inputs of advice beside the placement: the budgets of the namespaces; None: they may not be read."""

    budgets: Sequence[Object] | None
    labels: Mapping[str, Mapping[str, str]]  # UID -> labels of the pods
    unready: Sequence[str] = ()  # `namespace/pod` of those that are not ready


def read_evidence(cluster: Cluster, target: TargetSystem) -> AdviceBasis:
    """Look at the tenants' namespaces."""
    try:
        budgets: list[dict[str, Any]] | None = [
            one for name in target.namespaces for one in cluster.list("PodDisruptionBudget", name)
        ]
    except ApiError as error:
        if error.code not in (403, 404):
            raise
        budgets = None
    pods = [pod for name in target.namespaces for pod in cluster.list("Pod", name)]
    labels = {pod["metadata"]["uid"]: pod["metadata"].get("labels") or {} for pod in pods}
    unready = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods if is_live(pod) and is_unready(pod)
    ]
    return AdviceBasis(budgets, labels, unready)


def advice(evidence: AdviceBasis, placement: Placement) -> list[str]:
    """Return the advice, sorted; [] when there is none."""
    found: list[str] = []
    for server in dict.fromkeys(server for _, server in placement.calls):
        found += _of_server(server, [pod for pod in placement.pods if pod.workload_key == server], evidence)
    found += _of_shared(placement)
    found += _of_waypoints(placement)
    found += _of_mixed(placement)
    found += [f"pod {name} is not ready: no call reaches it, and it counts for none" for name in evidence.unready]
    return sorted(dict.fromkeys(found))


def _of_server(server: str, pods: Sequence[Pod], evidence: AdviceBasis) -> list[str]:
    """A server's replicas: how many, where, and whether a drain may take all of them."""
    if len(pods) == 1:
        return [f"{server} has one replica: its own restart, and that of its proxy, stops every call to it"]
    nodes = {pod.node for pod in pods}
    if len(nodes) == 1:
        return [f"all {len(pods)} replicas of {server} are on node {nodes.pop()}: they share its fate"]
    if evidence.budgets is None:
        return []
    guards = [one for one in evidence.budgets if any(_selects(one, pod, evidence) for pod in pods)]
    if not guards:
        return [f"{server} has no PodDisruptionBudget: a drain may take its {len(pods)} replicas at once"]
    if not any(keeps_one(one["spec"], len(pods)) for one in guards):
        names = ", ".join(one["metadata"]["name"] for one in guards)
        return [f"PodDisruptionBudget {names} lets a drain take all {len(pods)} replicas of {server} at once"]
    return []


def _selects(budget: Object, pod: Pod, evidence: AdviceBasis) -> bool:
    """Whether the budget counts the pod. Source: PodDisruptionBudgetSpec, "selector": none selects none, {} all."""
    selector = budget["spec"].get("selector")
    same = selector is not None and budget["metadata"]["namespace"] == pod.namespace
    return same and selects(label_selector(selector), evidence.labels.get(pod.uid, {}))


def keeps_one(spec: Object, replicas: int) -> bool:
    """Whether evictions leave at least one of so many replicas. Pure.

    Source: Kubernetes, "Specifying a Disruption Budget for your Application": percentages are rounded up.
    """
    if (most := spec.get("maxUnavailable")) is not None:
        return _amount(most, replicas) < replicas
    return _amount(spec.get("minAvailable", 1), replicas) > 0


def _amount(value: int | str, replicas: int) -> int:
    text = str(value)
    return ceil(replicas * int(text[:-1]) / 100) if text.endswith("%") else int(text)


def _of_shared(placement: Placement) -> list[str]:
    """Proxies that several tenants share, and that one of them may fill without bound: a sentence for each kind."""
    unbounded: dict[tuple[str, str, Scope], list[Proxy]] = {}
    sharing: dict[tuple[str, str, Scope], set[str]] = {}
    for proxy in placement.proxies:
        if proxy.scope is Scope.POD or proxy.cpu_millicores:
            continue
        behind = {end for call, share in flow_shares(placement, [proxy]).items() if share for end in call}
        tenants = {pod.tenant for pod in placement.pods if pod.workload_key in behind}
        if len(tenants) > 1:
            kind = (proxy.namespace, proxy.container, proxy.scope)
            unbounded.setdefault(kind, []).append(proxy)
            sharing.setdefault(kind, set()).update(tenants)
    return [
        f"{', '.join(map(str, proxies))} {'have' if len(proxies) > 1 else 'has'} no CPU limit and "
        f"{'are' if len(proxies) > 1 else 'is'} shared by {', '.join(sorted(sharing[kind]))}: one may slow the others"
        for kind, proxies in unbounded.items()
    ]


def _of_waypoints(placement: Placement) -> list[str]:
    """Waypoints of one instance."""
    places: dict[str, list[Proxy]] = {}
    for proxy in placement.proxies:
        if proxy.scope in (Scope.WAYPOINT, Scope.NAMESPACE):
            places.setdefault(proxy.key, []).append(proxy)
    return [
        f"waypoint {key} has one instance: its restart stops every call that is bound to it"
        for key, there in places.items()
        if len(there) == 1
    ]


def _of_mixed(placement: Placement) -> list[str]:
    """Workloads whose pods the mesh carries in different ways."""
    ways: dict[str, set[frozenset[Scope]]] = {}
    for pod in placement.pods:
        ways.setdefault(pod.workload_key, set()).add(pod.carried_by)
    return [
        f"pods of {workload} are carried in {len(found)} ways: some are outside the mesh, or in another part of it"
        for workload, found in ways.items()
        if len(found) > 1
    ]
