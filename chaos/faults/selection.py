"""Chooses targets: never an empty selection, and the same one for the same seed.

Only what carries a run's label can be chosen, and what lies in a namespace whose owner agreed to it. A shared proxy
belongs to a tenant when it serves one of the tenant's pods; a namespace is a tenant where no label says otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from chaos.errors import Misuse, NoTargets
from chaos.faults.model import Target
from chaos.faults.workload import KINDS as WORKLOADS
from chaos.kube import objects
from chaos.kube.client import Cluster, Object
from chaos.kube.objects import container_status, controller, is_deleting, is_running, label_selector, workload_name
from chaos.kube.placement import plan_placement
from chaos.mesh.find import find_mesh
from chaos.model.modes import ProxyMode
from chaos.model.placement import Pod, Proxy
from chaos.names import LABEL_ROLE, LABEL_RUN, LABEL_TENANT, SYSTEM_NAMESPACE

T = TypeVar("T")
AGENT_CONTAINER: Final = "agent"
_SHOWN: Final = 8  # names of each sort, where nothing matched


class Pick(StrEnum):
    """How many of the candidates to take."""

    ONE = "one"  # the first in the order of their names
    ALL = "all"
    RANDOM = "random"  # one, by the seed


class Part(StrEnum):
    """The part of the system that a target belongs to: the values of `Selector.layer`."""

    L4 = "l4"  # proxies
    L7 = "l7"
    APP = "app"
    CONTROL_PLANE = "control-plane"
    NODE_AGENT = "node-agent"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which targets to choose. An empty field does not narrow the choice; at least one must be set.

    Args:
        layer: a Part.
        tenant: its application's pods; of proxies, those that serve one of them.
        namespace, labels, node, pod, container: as in Kubernetes; `labels` is a label selector of pods.
        workload: `Deployment/NAME`, `DaemonSet/NAME` or `StatefulSet/NAME`, with `namespace`.
        behind: `NAMESPACE/POD` of a proxy: the application's pods that it serves, its fate group.
        serving: `NAMESPACE/POD` or `NAMESPACE/WORKLOAD` of an application: the proxies that serve it.
        consented: namespaces of somebody else in which pods without a run's label may be chosen too.
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
    serving: str = ""
    consented: tuple[str, ...] = ()
    pick: Pick = Pick.ONE
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [f"layer is {self.layer!r}: one of {', '.join(Part)}"] if self.layer not in ("", *Part) else []
        if self.workload and self.workload.partition("/")[0] not in WORKLOADS:
            wrong.append(f"workload is {self.workload!r}: want one of {', '.join(WORKLOADS)}, then /NAME")
        if self.behind and "/" not in self.behind:
            wrong.append(f"behind is {self.behind!r}: want NAMESPACE/POD of a proxy")
        if self.serving and "/" not in self.serving:
            wrong.append(f"serving is {self.serving!r}: want NAMESPACE/POD or NAMESPACE/WORKLOAD of an application")
        if not str(self):
            wrong.append("nothing is said: give at least a layer, tenant, namespace, labels, node, pod or workload")
        if wrong:
            raise Misuse("selection: " + "; ".join(wrong))

    def __str__(self) -> str:
        said = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ("pick", "seed", "consented"))
        return ", ".join(f"{name} {value}" for name, value in said if value)


def pick(
    candidates: Iterable[T],
    how: Pick,
    *,
    what: str,
    name: Callable[[T], str] = str,
    chance: random.Random | None = None,
) -> list[T]:
    """Return the chosen candidates; raises NoTargets with `what` when there are none."""
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
    """Return the targets, of a kind that the fault takes (`Fault.targets`). Raises NoTargets for an empty selection."""
    if kinds == {"node"}:
        candidates = _nodes(cluster, selector)
    elif "workload" in kinds:
        candidates = _workloads(cluster, selector)
    else:
        candidates = _containers(cluster, selector)
    if not candidates:
        raise NoTargets(f"{selector}: nothing matches, so nothing would be tested: {_what_there_is(cluster, selector)}")
    return pick(candidates, selector.pick, what=str(selector), chance=random.Random(selector.seed))


def _what_there_is(cluster: Cluster, selector: Selector) -> str:
    """Describe what could have been chosen, and why the rest could not."""
    known = _candidates(cluster, selector)
    text = describe_candidates(known)
    left = [pod for pod in cluster.list("Pod", selector.namespace or None) if LABEL_RUN not in _labels(pod)]
    inside = {pod["metadata"]["uid"] for pod in known.everyone}
    if outside := sorted({str(pod["metadata"]["namespace"]) for pod in left if pod["metadata"]["uid"] not in inside}):
        text += (
            f"; pods of {_listed(outside)} are not a run's (no label {LABEL_RUN}): deploy them through `sharedfate "
            "render`, or name their namespaces with --namespaces if they may be harmed"
        )
    return text


def describe_candidates(known: Candidates) -> str:
    """Describe the tenants, layers, proxies and workloads in a line. Pure."""
    applications = [pod for pod in known.everyone if known.is_application(pod)]
    parts = {
        "tenants": sorted({_tenant_of(pod) for pod in applications}),
        "layers": sorted({str(layer) for proxy in known.proxies.values() for layer in proxy.layers}),
        "proxies": sorted(f"{proxy.namespace}/{proxy.pod} on {proxy.node}" for proxy in known.proxies.values()),
        "pods": sorted(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in applications),
    }
    return "; ".join(f"{name} here: {_listed(found)}" for name, found in parts.items())


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_SHOWN])
    return ", ".join([*shown, *([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])]) or "none"


def container_target(pod: Mapping[str, Any], container: str) -> Target:
    """Return the target for one container of a live pod."""
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
        labels=_spelt(meta.get("labels")),
    )


def workload_target(workload: Mapping[str, Any]) -> Target:
    """Return the target for a whole workload."""
    meta = workload["metadata"]
    return Target(
        "workload",
        meta["name"],
        meta["namespace"],
        meta["uid"],
        workload_kind=workload["kind"],
        tenant=(meta.get("labels") or {}).get(LABEL_TENANT, ""),
        selector=label_selector(workload["spec"]["selector"]),
    )


def _spelt(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items()))


def node_target(node: Mapping[str, Any]) -> Target:
    """Return the target for a node."""
    return Target("node", node["metadata"]["name"], uid=node["metadata"]["uid"], node=node["metadata"]["name"])


def containers(
    cluster: Cluster, namespace: str, container: str, *, labels: str | None = None, node: str | None = None
) -> Sequence[Target]:
    """Return running containers of that name, by namespace, labels and node; may be empty, which `pick` refuses."""
    return [
        container_target(pod, container)
        for pod in cluster.list("Pod", namespace, labels=labels)
        if (node is None or pod["spec"].get("nodeName") == node) and is_running(pod, container)
    ]


# ---- candidates


def _labels(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


@dataclass(frozen=True, slots=True)
class Candidates:
    """The pods of every run that are not being deleted, and the mesh's placement, by UID."""

    everyone: Sequence[Object]
    pods: Mapping[str, Pod]
    proxies: Mapping[str, Proxy]

    @classmethod
    def of(cls, everyone: Iterable[Object], mode: ProxyMode | None) -> Candidates:
        """Build from pods. `mode`: of the installed mesh; None without one, in which case no pod is a proxy. Pure."""
        there = [pod for pod in everyone if not is_deleting(pod)]
        if mode is None:
            return cls(there, {}, {})
        found = plan_placement(there, mode, calls=())
        return cls(there, {pod.uid: pod for pod in found.pods}, {proxy.uid: proxy for proxy in found.proxies})

    def proxy(self, pod: Object) -> Proxy | None:
        """Return the proxy that the pod holds; None when it holds none."""
        return self.proxies.get(pod["metadata"]["uid"])

    def serves(self, proxy: Proxy, pod: Object) -> bool:
        """Whether the proxy serves the pod, which must be an application's."""
        who = self.pods.get(pod["metadata"]["uid"])
        return who is not None and proxy.serves(who)

    def is_application(self, pod: Object) -> bool:
        """Whether the pod does not belong to the mesh."""
        uid = pod["metadata"]["uid"]
        return pod["metadata"]["namespace"] != SYSTEM_NAMESPACE and (uid in self.pods or uid not in self.proxies)


def _installed_mode(cluster: Cluster) -> ProxyMode | None:
    """Return the mode of the installed mesh; None without a mesh of ours."""
    found = find_mesh(cluster)
    return found.mode if found is not None else None


def _candidates(cluster: Cluster, selector: Selector) -> Candidates:
    """Return the runs' pods, and those of consented namespaces."""
    theirs = [pod for name in selector.consented for pod in cluster.list("Pod", name) if LABEL_RUN not in _labels(pod)]
    return Candidates.of([*cluster.list("Pod", labels=LABEL_RUN), *theirs], _installed_mode(cluster))


def _pods(cluster: Cluster, selector: Selector) -> list[tuple[Object, str]]:
    """Yield (pod, container) of every candidate."""
    known = _candidates(cluster, selector)
    named = None
    if selector.labels:
        found = cluster.list("Pod", selector.namespace or None, labels=selector.labels)
        named = frozenset(pod["metadata"]["uid"] for pod in found)
    return matching(known, selector, named)


def matching(known: Candidates, selector: Selector, named: frozenset[str] | None) -> list[tuple[Object, str]]:
    """Return (pod, container) of each candidate that the selector matches. Pure; raises NoTargets for a proxy that does
    not exist.

    Args:
        named: UIDs of the pods that its label selector matches; None without one.
    """
    proxy = _find_proxy(known, selector)
    chosen = []
    for pod in known.everyone:
        meta = pod["metadata"]
        right = (
            selector.namespace in ("", meta["namespace"])
            and selector.node in ("", pod["spec"].get("nodeName"))
            and selector.pod in ("", meta["name"])
            and (named is None or meta["uid"] in named)
            and (proxy is None or known.serves(proxy, pod))
            and _of_tenant(pod, selector, known)
            and _serves_named(pod, selector, known)
        )
        container = _container(pod, selector, known) if right else ""
        if container:
            chosen.append((pod, container))
    return chosen


def _find_proxy(known: Candidates, selector: Selector) -> Proxy | None:
    if not selector.behind:
        return None
    for proxy in known.proxies.values():
        if f"{proxy.namespace}/{proxy.pod}" == selector.behind:
            return proxy
    raise NoTargets(f"{selector}: there is no proxy {selector.behind}")


def _of_tenant(pod: Object, selector: Selector, known: Candidates) -> bool:
    if not selector.tenant or _tenant_of(pod) == selector.tenant:
        return True
    proxy = known.proxy(pod)
    return proxy is not None and any(
        known.serves(proxy, other) for other in known.everyone if _tenant_of(other) == selector.tenant
    )


def _tenant_of(pod: Object) -> str:
    """Return the pod's tenant as the placement does: by label, else by namespace."""
    return str(_labels(pod).get(LABEL_TENANT, pod["metadata"]["namespace"]))


def _serves_named(pod: Object, selector: Selector, known: Candidates) -> bool:
    """Whether the pod holds a proxy that serves the named application; any pod when none is named."""
    if not selector.serving:
        return True
    namespace, _, name = selector.serving.partition("/")
    proxy = known.proxy(pod)
    return proxy is not None and any(
        known.serves(proxy, other)
        for other in known.everyone
        if other["metadata"]["namespace"] == namespace and name in (other["metadata"]["name"], workload_name(other))
    )


def _container(pod: Object, selector: Selector, known: Candidates) -> str:
    """Return the container of the pod to act on; "" when the pod is not of the layer."""
    proxy = known.proxy(pod)
    names = [one["name"] for one in objects.containers(pod)]
    if selector.serving and not selector.layer:
        return proxy.container if proxy is not None else ""
    role, system = _labels(pod).get(LABEL_ROLE), pod["metadata"]["namespace"] == SYSTEM_NAMESPACE
    if role == "helper" and system:
        return ""
    match selector.layer:
        case Part.L4 | Part.L7:
            name = proxy.container if proxy is not None and selector.layer in proxy.layers else ""
        case Part.APP:
            own = proxy.container if proxy is not None else ""
            name = next((one for one in names if one != own), "") if known.is_application(pod) else ""
        case Part.CONTROL_PLANE:
            name = names[0] if system and role == "control-plane" else ""
        case Part.NODE_AGENT:
            name = AGENT_CONTAINER if system and proxy is not None else ""
        case _:
            name = names[0]
    if name and selector.container:
        name = selector.container
    return name if name in names else ""


def _containers(cluster: Cluster, selector: Selector) -> list[Target]:
    return [container_target(pod, name) for pod, name in _pods(cluster, selector) if is_running(pod, name)]


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
        owner = controller(found)
        if owner is None or owner["kind"] not in (*WORKLOADS, "ReplicaSet"):
            return None
        found = cluster.find(owner["kind"], owner["name"], namespace)
    return found


def _nodes(cluster: Cluster, selector: Selector) -> list[Target]:
    nodes = {node["metadata"]["name"]: node for node in cluster.list("Node")}
    alone = str(selector) == f"node {selector.node}"
    names = {selector.node} if alone else {pod["spec"].get("nodeName", "") for pod, _ in _pods(cluster, selector)}
    return [node_target(nodes[name]) for name in names if name in nodes]
