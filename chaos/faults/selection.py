"""Chooses targets: never an empty selection, and the same one for the same seed.

Only what carries a run's label can be chosen; a shared proxy belongs to a tenant when it serves one of the tenant's
pods.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from chaos.errors import Misuse, NoTargets
from chaos.faults.container import container_status
from chaos.faults.model import Target
from chaos.faults.workload import KINDS as WORKLOADS
from chaos.kube.client import Cluster, Object
from chaos.names import (
    ANNOTATION_PROXY_CONTAINER,
    LABEL_LAYER,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    LABEL_TENANT,
    PROXY_CONTAINER,
)

T = TypeVar("T")
AGENT_CONTAINER: Final = "agent"


class Pick(StrEnum):
    """How many of the candidates are meant."""

    ONE = "one"  # the first in the order of their names
    ALL = "all"
    RANDOM = "random"  # one, by the seed


class Layer(StrEnum):
    """Which part of the system a target belongs to."""

    L4 = "l4"  # proxies
    L7 = "l7"
    APP = "app"
    CONTROL_PLANE = "control-plane"
    NODE_AGENT = "node-agent"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which targets are meant; what is left empty does not narrow the choice, and something must be said.

    Args:
        layer: see Layer.
        tenant: its application's pods; of proxies, those that serve one of them.
        namespace, labels, node, pod, container: as in Kubernetes; `labels` is a label selector of pods.
        workload: `Deployment/NAME`, `DaemonSet/NAME` or `StatefulSet/NAME`, with `namespace`.
        behind: `NAMESPACE/POD` of a proxy: the application's pods that it serves, its fate group.
        pick: one, all or random, with `seed`.
    """

    layer: str = ""
    tenant: str = ""
    namespace: str = ""
    labels: str = ""
    node: str = ""
    pod: str = ""
    container: str = ""
    workload: str = ""
    behind: str = ""
    pick: Pick = Pick.ONE
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [f"layer is {self.layer!r}: one of {', '.join(Layer)}"] if self.layer not in ("", *Layer) else []
        if self.workload and self.workload.partition("/")[0] not in WORKLOADS:
            wrong.append(f"workload is {self.workload!r}: want one of {', '.join(WORKLOADS)}, then /NAME")
        if self.behind and "/" not in self.behind:
            wrong.append(f"behind is {self.behind!r}: want NAMESPACE/POD of a proxy")
        if not str(self):
            wrong.append("nothing is said: give at least a layer, tenant, namespace, labels, node, pod or workload")
        if wrong:
            raise Misuse("selection: " + "; ".join(wrong))

    def __str__(self) -> str:
        said = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ("pick", "seed"))
        return ", ".join(f"{name} {value}" for name, value in said if value)


def pick(
    candidates: Iterable[T],
    how: Pick,
    *,
    what: str,
    name: Callable[[T], str] = str,
    chance: random.Random | None = None,
) -> list[T]:
    """The chosen candidates; raises NoTargets naming `what` when there are none."""
    ordered = sorted(candidates, key=name)
    if not ordered:
        raise NoTargets(f"{what}: nothing matches, so nothing would be tested")
    match how:
        case Pick.ONE:
            return ordered[:1]
        case Pick.ALL:
            return ordered
        case Pick.RANDOM:
            return [(chance or random.Random(0)).choice(ordered)]


def select(cluster: Cluster, kinds: frozenset[str], selector: Selector) -> list[Target]:
    """The targets, of a kind that the fault takes (`Fault.targets`). Raises NoTargets for an empty selection."""
    if kinds == {"node"}:
        candidates = _nodes(cluster, selector)
    elif "workload" in kinds:
        candidates = _workloads(cluster, selector)
    else:
        candidates = _containers(cluster, selector)
    return pick(candidates, selector.pick, what=str(selector), chance=random.Random(selector.seed))


def container_target(pod: Mapping[str, Any], container: str) -> Target:
    """The target that is one container of a live pod."""
    meta = pod["metadata"]
    return Target(
        kind="container",
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        container=container,
        container_id=container_status(dict(pod), container).get("containerID", ""),
        node=pod["spec"].get("nodeName", ""),
        tenant=meta.get("labels", {}).get(LABEL_TENANT, ""),
    )


def workload_target(workload: Mapping[str, Any]) -> Target:
    """The target that is a whole workload."""
    meta = workload["metadata"]
    return Target(
        "workload",
        meta["name"],
        meta["namespace"],
        meta["uid"],
        workload_kind=workload["kind"],
        tenant=(meta.get("labels") or {}).get(LABEL_TENANT, ""),
    )


def node_target(node: Mapping[str, Any]) -> Target:
    """The target that is a node."""
    return Target("node", node["metadata"]["name"], uid=node["metadata"]["uid"], node=node["metadata"]["name"])


def containers(
    cluster: Cluster, namespace: str, container: str, *, labels: str | None = None, node: str | None = None
) -> Sequence[Target]:
    """Running containers of that name, by namespace, labels and node; may be empty: `pick` refuses that."""
    return [
        container_target(pod, container)
        for pod in cluster.list("Pod", namespace, labels=labels)
        if (node is None or pod["spec"].get("nodeName") == node)
        and "running" in container_status(pod, container).get("state", {})
    ]


# ---- candidates


def _labels(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _annotations(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}


def layers(pod: Object) -> frozenset[str]:
    """Of the proxy in a pod: a proxy's own pod says it by label, an injected one by annotation; none without a proxy.
    Pure.
    """
    text = _labels(pod).get(LABEL_LAYER) or _annotations(pod).get(LABEL_LAYER) or ""
    return frozenset(text.split("-")) - {""}


def serves(proxy: Object, pod: Object) -> bool:
    """Whether a proxy's pod serves an application's pod: they share the pod, the node, or the namespace. Pure."""
    scope = _labels(proxy).get(LABEL_SCOPE) or _annotations(proxy).get(LABEL_SCOPE) or ""
    key = _labels(proxy).get(LABEL_SCOPE_KEY, "")
    match scope:
        case "pod":
            same = proxy["metadata"]["uid"] == pod["metadata"]["uid"]
            return bool(
                same
                or (key == pod["metadata"]["name"] and proxy["metadata"]["namespace"] == pod["metadata"]["namespace"])
            )
        case "node":
            return bool(proxy["spec"].get("nodeName") == pod["spec"].get("nodeName"))
        case "namespace":
            return bool((key or proxy["metadata"]["namespace"]) == pod["metadata"]["namespace"])
    return False


def _is_application(pod: Object) -> bool:
    return _labels(pod).get(LABEL_ROLE) not in ("proxy", "control-plane", "helper", "watchdog")


def _pods(cluster: Cluster, selector: Selector) -> list[tuple[Object, str]]:
    """(pod, container) of every candidate."""
    everyone = [pod for pod in cluster.list("Pod", labels=LABEL_RUN) if "deletionTimestamp" not in pod["metadata"]]
    named = None
    if selector.labels:
        found = cluster.list("Pod", selector.namespace or None, labels=f"{LABEL_RUN},{selector.labels}")
        named = {pod["metadata"]["uid"] for pod in found}
    proxy = _find_proxy(everyone, selector)
    chosen = []
    for pod in everyone:
        meta = pod["metadata"]
        right = (
            selector.namespace in ("", meta["namespace"])
            and selector.node in ("", pod["spec"].get("nodeName"))
            and selector.pod in ("", meta["name"])
            and (named is None or meta["uid"] in named)
            and (proxy is None or (_is_application(pod) and serves(proxy, pod)))
            and _of_tenant(pod, selector, everyone)
        )
        container = _container(pod, selector) if right else ""
        if container:
            chosen.append((pod, container))
    return chosen


def _find_proxy(everyone: Sequence[Object], selector: Selector) -> Object | None:
    if not selector.behind:
        return None
    namespace, _, name = selector.behind.partition("/")
    for pod in everyone:
        if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, name):
            return pod
    raise NoTargets(f"{selector}: there is no proxy {selector.behind}")


def _of_tenant(pod: Object, selector: Selector, everyone: Sequence[Object]) -> bool:
    if not selector.tenant or _labels(pod).get(LABEL_TENANT) == selector.tenant:
        return True
    return _labels(pod).get(LABEL_ROLE) == "proxy" and any(
        serves(pod, other)
        for other in everyone
        if _labels(other).get(LABEL_TENANT) == selector.tenant and _is_application(other)
    )


def _container(pod: Object, selector: Selector) -> str:
    """Which container of the pod is meant; "" when the pod is not of the layer."""
    names = [one["name"] for part in ("containers", "initContainers") for one in pod["spec"].get(part) or []]
    proxy = _annotations(pod).get(ANNOTATION_PROXY_CONTAINER, PROXY_CONTAINER)
    role = _labels(pod).get(LABEL_ROLE)
    if role == "helper":
        return ""
    match selector.layer:
        case "l4" | "l7":
            name = proxy if selector.layer in layers(pod) else ""
        case "app":
            name = next((one for one in names if one != proxy), "") if _is_application(pod) else ""
        case "control-plane":
            name = names[0] if role == "control-plane" else ""
        case "node-agent":
            name = AGENT_CONTAINER if role == "proxy" else ""
        case _:
            name = names[0]
    if name and selector.container:
        name = selector.container
    return name if name in names else ""


def _containers(cluster: Cluster, selector: Selector) -> list[Target]:
    return [
        container_target(pod, name)
        for pod, name in _pods(cluster, selector)
        if "running" in container_status(pod, name).get("state", {})
    ]


def _workloads(cluster: Cluster, selector: Selector) -> list[Target]:
    if selector.workload:
        kind, _, name = selector.workload.partition("/")
        found = cluster.list(kind, selector.namespace or None, labels=LABEL_RUN)
        return [workload_target(one) for one in found if one["metadata"]["name"] == name]
    targets: dict[str, Target] = {}
    for pod, _ in _pods(cluster, selector):
        owner = _workload_of(cluster, pod)
        if owner is not None:
            targets[owner["metadata"]["uid"]] = workload_target(owner)
    return list(targets.values())


def _workload_of(cluster: Cluster, pod: Object) -> Object | None:
    namespace = pod["metadata"]["namespace"]
    found: Object | None = pod
    while found is not None and found["kind"] not in WORKLOADS:
        owner = next((one for one in found["metadata"].get("ownerReferences", []) if one.get("controller")), None)
        if owner is None or owner["kind"] not in (*WORKLOADS, "ReplicaSet"):
            return None
        found = cluster.find(owner["kind"], owner["name"], namespace)
    return found


def _nodes(cluster: Cluster, selector: Selector) -> list[Target]:
    nodes = {node["metadata"]["name"]: node for node in cluster.list("Node")}
    alone = str(selector) == f"node {selector.node}"
    names = {selector.node} if alone else {pod["spec"].get("nodeName", "") for pod, _ in _pods(cluster, selector)}
    return [node_target(nodes[name]) for name in names if name in nodes]
