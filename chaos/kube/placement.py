"""The live placement: which pods and proxies exist, read from the cluster at one moment, never assumed.

`recognise_proxy` is the one rule for "this pod is that proxy". Configuration, authentication, budgets, placement and
status all ask it, because whoever may create a pod in a tenant's namespace can write any label and any annotation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from chaos.fields import whole_number
from chaos.kube.client import Cluster
from chaos.kube.objects import (
    container,
    container_status,
    containers,
    controller,
    is_live,
    sole_owner,
    true_conditions,
    workload_name,
)
from chaos.kube.quantity import byte_count
from chaos.model.fate import identities_held
from chaos.model.modes import Layer, PlacedBy, ProxyKind, ProxyMode, Route, Scope, balancing_of, layer_name
from chaos.model.placement import Place, Placement, Pod, Proxy, Role
from chaos.names import (
    ANNOTATION_BUDGET,
    ANNOTATION_PROXY_CONTAINER,
    CONDITION_CAPTURED,
    LABEL_LAYER,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    LABEL_TENANT,
    LABEL_WAYPOINT,
    NO_WAYPOINT,
    NODE_PROXY,
    PLACEBO,
    REASON_RELEASED,
    SYSTEM_NAMESPACE,
    WAYPOINT,
)

Object = Mapping[str, Any]
Homes = Mapping[str, str]  # UID -> namespace of the pods that there are
_DAEMON_SETS: Final[Mapping[frozenset[Layer], tuple[str, str]]] = {  # layers -> DaemonSet, account
    frozenset(): (PLACEBO, "default"),
    frozenset({Layer.L4}): (NODE_PROXY, NODE_PROXY),
    frozenset({Layer.L7}): (WAYPOINT, WAYPOINT),
    frozenset(Layer): (NODE_PROXY, NODE_PROXY),
}


class NotAProxy(Exception):
    """The pod is no proxy of the mesh; the text says why."""


def read_placement(
    cluster: Cluster, mode: ProxyMode, *, run: str, calls: Sequence[tuple[str, str]] | None = None
) -> Placement:
    """Read the placement. `calls`: (client workload, server workload) as "namespace/name"; None: within each namespace,
    every client workload calls every server workload.
    """
    return plan_placement(cluster.list("Pod", labels=f"{LABEL_RUN}={run}"), mode, calls=calls)


def plan_placement(
    pods: Iterable[Object], mode: ProxyMode, *, calls: Sequence[tuple[str, str]] | None = None
) -> Placement:
    """Derive the placement from the pods; only live pods with a node count."""
    live = [pod for pod in pods if is_live(pod)]
    found = tuple(sorted(ref for pod in live if (ref := application(pod, mode)) is not None))
    homes = homes_of(live)
    proxies = tuple(sorted((p for pod in live if (p := proxy_of(pod, mode, homes)) is not None), key=str))
    if calls is None:
        clients, servers = (
            {(p.namespace, p.workload_key) for p in found if p.role == role} for role in (Role.CLIENT, Role.SERVER)
        )
        calls = sorted((client, server) for space, client in clients for other, server in servers if space == other)
    routes, kinds = _past_waypoints(mode, found, calls, {pod["metadata"]["uid"] for pod in live if _has_none(pod)})
    return Placement(mode, found, proxies, tuple(calls), routes, kinds)


def _has_none(pod: Object) -> bool:
    """Whether no waypoint stands before the pod, by its own label."""
    return (pod["metadata"].get("labels") or {}).get(LABEL_WAYPOINT) == NO_WAYPOINT


def _past_waypoints(
    mode: ProxyMode, pods: Sequence[Pod], calls: Iterable[tuple[str, str]], without: Collection[str]
) -> tuple[dict[tuple[str, str], Route], dict[str, str]]:
    """Return the routes of calls to pods without a waypoint, and the kinds by which they are found; none where the mode
    has no waypoints.

    Args:
        without: UIDs of those pods.
    """
    if not without or not mode.separate_layers:
        return {}, {}
    kinds = {pod.uid: pod.workload_key + (" past waypoints" if pod.uid in without else "") for pod in pods}
    hops = tuple(hop for hop in mode.hops if Layer.L4 in hop.layers)
    route = Route(hops, balancing_of(hops), ("its Service and its pods are labelled to have no waypoint",))
    of_workload: dict[str, set[str]] = {}
    for pod in pods:
        of_workload.setdefault(pod.workload_key, set()).add(pod.uid)
    routes = {
        (kinds[client], kinds[server]): route
        for caller, called in calls
        for client in of_workload.get(caller, ())
        for server in of_workload.get(called, set()) & set(without)
    }
    return routes, kinds


def homes_of(pods: Iterable[Object]) -> Homes:
    """Map pods' UIDs to their namespaces, in which `recognise_proxy` looks up a waypoint's pod."""
    return {pod["metadata"]["uid"]: pod["metadata"]["namespace"] for pod in pods}


def application(pod: Object, mode: ProxyMode) -> Pod | None:
    """Return the application pod; None for the mesh's own. A pod that only claims to be a proxy is an application."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    if stands_apart(pod, mode):
        return None
    role = labels.get(LABEL_ROLE, "")
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        node=pod["spec"]["nodeName"],
        tenant=labels.get(LABEL_TENANT, meta["namespace"]),
        role=role if role in tuple(Role) else "",
        workload=workload_name(pod),
        service_account=pod["spec"].get("serviceAccountName", "default"),
        ip=pod.get("status", {}).get("podIP", ""),
    )


def is_captured(pod: Object) -> bool:
    """Whether a node agent has captured the pod's traffic, and not released it since."""
    found = true_conditions(pod).get(CONDITION_CAPTURED)
    return found is not None and found.get("reason") != REASON_RELEASED


def stands_apart(pod: Object, mode: ProxyMode) -> bool:
    """Whether the pod is one of the mesh's own and no application: in the system namespace, or a waypoint."""
    if pod["metadata"]["namespace"] == SYSTEM_NAMESPACE:
        return True
    try:
        return not _recognise_kind(pod, mode).in_pod
    except (NotAProxy, KeyError, TypeError, AttributeError):  # nor is what cannot be read
        return False


def recognise_proxy(pod: Object, mode: ProxyMode, homes: Homes) -> Proxy:
    """Return the proxy that the pod holds in this mode, with what it serves. Raises NotAProxy with the reason. Pure.

    What a pod says of itself counts only where its namespace, its service account and its owner bear it out: a node's
    proxies are those of the mesh's DaemonSets in the system namespace; a waypoint in a tenant's namespace is of the
    Deployment (or, one per pod, of the pod) that it belongs to there, and serves nothing in another namespace. Within a
    namespace its tenant rules, as over the servers behind the waypoint.
    """
    try:
        return _recognise(pod, mode, homes)
    except (KeyError, TypeError, AttributeError) as error:
        raise NotAProxy(f"it cannot be read: {error!r}") from error


def _recognise(pod: Object, mode: ProxyMode, homes: Homes) -> Proxy:
    kind = _recognise_kind(pod, mode)
    meta, spec = pod["metadata"], pod["spec"]
    if not spec.get("nodeName"):
        raise NotAProxy(f"{_name(pod)} is not bound to a node yet")
    uid = meta["uid"]
    if not kind.in_pod and kind.scope is Scope.POD:
        served = _served_pod(pod)["uid"]
        uid = served if homes.get(served) == meta["namespace"] else ""
    return Proxy(
        namespace=meta["namespace"],
        pod=meta["name"],
        container=(meta.get("annotations") or {})[ANNOTATION_PROXY_CONTAINER],
        uid=meta["uid"],
        node=spec["nodeName"],
        layers=kind.layers,
        scope=kind.scope,
        key=kind.scope.key_of(Place(uid, spec["nodeName"], meta["namespace"])),
        service_account=spec.get("serviceAccountName", "default"),
    )


def _recognise_kind(pod: Object, mode: ProxyMode) -> ProxyKind:
    """Return which of the mode's kinds of proxy the pod holds. Raises NotAProxy."""
    meta = pod["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    alone = labels.get(LABEL_ROLE) == "proxy"
    container = annotations.get(ANNOTATION_PROXY_CONTAINER)
    if container is None or not any(one.get("name") == container for one in containers(pod)):
        raise NotAProxy(f"{_name(pod)} holds no proxy")
    says = labels if alone else annotations
    layer, scope = says.get(LABEL_LAYER, ""), says.get(LABEL_SCOPE, "")
    kind = next((k for k in mode.kinds if (layer_name(k.layers), k.scope, k.in_pod) == (layer, scope, not alone)), None)
    if kind is None:
        raise NotAProxy(f"{_name(pod)}: mode {mode.name} has no proxy of layer {layer!r} and scope {scope!r}")
    if problem := _problem(pod, kind):
        raise NotAProxy(f"{_name(pod)} says that it is a {scope}'s {layer} proxy, and {problem}")
    return kind


def _problem(pod: Object, kind: ProxyKind) -> str:
    """Return why the pod cannot be of the kind that it claims; "" when nothing contradicts it."""
    meta, labels = pod["metadata"], pod["metadata"].get("labels") or {}
    account = pod["spec"].get("serviceAccountName", "default")
    owner = controller(pod) or {}
    belongs = owner.get("kind"), owner.get("name")
    if kind.placed_by is PlacedBy.DAEMON_SET:
        name, wanted = _DAEMON_SETS[kind.layers]
        if meta["namespace"] != SYSTEM_NAMESPACE:
            return f"belongs in {SYSTEM_NAMESPACE}"
        if account != wanted:
            return f"runs as {account}, not as {wanted}"
        return "" if belongs == ("DaemonSet", name) else f"is no pod of the DaemonSet {name}"
    if meta["namespace"] == SYSTEM_NAMESPACE:
        return f"does not belong in {SYSTEM_NAMESPACE}"
    if kind.in_pod:
        return ""  # it is the proxy of itself alone
    if account != WAYPOINT:
        return f"runs as {account}, not as {WAYPOINT}"
    if kind.scope is Scope.POD:
        served = _served_pod(pod)
        told = labels.get(LABEL_SCOPE_KEY), meta["name"]
        return "" if told == (served["name"], f"{WAYPOINT}-{served['name']}") else "belongs to no pod that it names"
    if labels.get(LABEL_SCOPE_KEY) != meta["namespace"]:
        return f"may not serve {labels.get(LABEL_SCOPE_KEY)!r}"
    replica_set = f"{WAYPOINT}-{labels.get('pod-template-hash', '')}"
    return "" if belongs == ("ReplicaSet", replica_set) else f"is no pod of the Deployment {WAYPOINT}"


def _served_pod(pod: Object) -> Mapping[str, str]:
    """Name and UID of the pod that a pod's own waypoint belongs to; empty ones when it belongs to none."""
    return sole_owner(pod, "Pod") or {"name": "", "uid": ""}


def _name(pod: Object) -> str:
    return f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"


def proxy_of(pod: Object, mode: ProxyMode, homes: Homes) -> Proxy | None:
    """Return the proxy that the pod holds, with its budget and its process; None when it holds none."""
    try:
        found = recognise_proxy(pod, mode, homes)
    except NotAProxy:
        return None
    limits = (container(pod, found.container).get("resources") or {}).get("limits") or {}
    budget = (pod["metadata"].get("annotations") or {}).get(ANNOTATION_BUDGET, "")
    return replace(
        found,
        cpu_millicores=max(0, whole_number(budget) or 0),
        memory_bytes=byte_count(limits.get("memory", "0")),
        container_id=container_status(pod, found.container).get("containerID", ""),
    )


def describe(placement: Placement) -> str:
    """Describe for people: each proxy with its scope, budget, identities, and the pods that share it."""
    lines = [f"mode {placement.mode.name}: {len(placement.proxies)} proxies, {len(placement.pods)} application pods"]
    for instance in placement.proxies:
        who = [f"{pod.namespace}/{pod.name}" for pod in placement.pods if instance.serves(pod)]
        held = sorted(f"{space}/{account}" for space, account in identities_held(placement, instance))
        lines += [
            f"{instance}  node {instance.node}  {layer_name(instance.layers)} per {instance.scope}  "
            f"{limits_text(instance)}",
            f"    identities: {', '.join(held) or 'none'}",
            f"    shared by:  {', '.join(who) or 'nobody'}",
        ]
    return "\n".join(lines)


def limits_text(instance: Proxy) -> str:
    """Format a proxy's CPU and memory limits."""
    cpu = f"{instance.cpu_millicores}m" if instance.cpu_millicores else "no CPU limit"
    return f"{cpu}, {f'{instance.memory_bytes >> 20}Mi' if instance.memory_bytes else 'no memory limit'}"
