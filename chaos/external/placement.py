"""Reads the live placement of a mesh, by its description: the same `Placement` that our own modes give."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chaos.errors import ExperimentFailure, Forbidden, Misuse
from chaos.external.description import MeshDescription, ProxyRule, labels_of
from chaos.external.detection import detect_mesh
from chaos.external.file import Call, TargetSystem
from chaos.external.parsing import descriptions
from chaos.external.protocols import why_unread
from chaos.external.reaching import Reached, resolve_reach, selects, service_addresses
from chaos.external.routes import RouteContext, carriers, place_key, plan_kinds, plan_route, running_beside
from chaos.fields import whole_number
from chaos.kube.access import list_readable
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status, controller, is_deleting, is_live, is_unready, sole_owner, workload_name
from chaos.kube.quantity import byte_count, millicores
from chaos.model.modes import Route, Scope
from chaos.model.placement import Placement, Pod, Proxy, Role

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """The live objects that a placement is made of.

    Attributes:
        pods: of the tenants, and those that may be proxies wherever they lie.
        services: of the tenants' namespaces, and of those that calls name.
    """

    namespaces: Sequence[Object]
    pods: Sequence[Object]
    services: Sequence[Object] = field(default=())


def read_target_placement(cluster: Cluster, target: TargetSystem) -> tuple[MeshDescription, Placement]:
    """Return the mesh (detected when the file does not say) and the current placement."""
    site = read_site(cluster, target)
    mesh = target.mesh or detect_mesh(descriptions().values(), site.namespaces, site.pods)
    return mesh, plan_placement(target, mesh, site)


def read_site(cluster: Cluster, target: TargetSystem) -> Site:
    """Read the objects of a target. Proxies that stand apart are looked for everywhere, by their labels."""
    namespaces = []
    for name in target.namespaces:
        if (found := cluster.find("Namespace", name)) is None:
            raise Misuse(f"tenants: namespace {name} does not exist in {cluster.name}")
        namespaces.append(found)
    pods = {pod["metadata"]["uid"]: pod for name in target.namespaces for pod in cluster.list("Pod", name)}
    pods |= {pod["metadata"]["uid"]: pod for pod in read_proxy_pods(cluster, target)}
    spaces = dict.fromkeys([*target.namespaces, *(name for call in target.calls for name in _named_spaces(call))])
    services = [service for name in spaces for service in list_readable(cluster, "Service", name)]
    return Site(namespaces, list(pods.values()), services)


def read_proxy_pods(cluster: Cluster, target: TargetSystem) -> list[dict[str, Any]]:
    """The pods anywhere that may be proxies which stand apart, by their labels; some twice."""
    known = [target.mesh] if target.mesh else list(descriptions().values())
    selectors = sorted({_selector(rule) for mesh in known for rule in mesh.rules if not rule.in_pod})
    return [pod for selector in selectors for pod in _everywhere(cluster, selector, target)]


def _selector(rule: ProxyRule) -> str:
    return ",".join(key if value == "*" else f"{key}={value}" for key, value in sorted(rule.labels.items()))


def _everywhere(cluster: Cluster, selector: str, target: TargetSystem) -> list[dict[str, Any]]:
    """The pods of all namespaces; of the tenants' alone to a user who may not list them all."""
    try:
        return cluster.list("Pod", labels=selector)
    except Forbidden:
        return [pod for name in target.namespaces for pod in cluster.list("Pod", name, labels=selector)]


def _named_spaces(call: Call) -> list[str]:
    """Namespaces that `reach` may name: of NAME.NAMESPACE, and of POD.NAME.NAMESPACE.svc."""
    parts = call.reach.rpartition(":")[0].strip("[]").split(".")
    return [part for part in parts[1:3] if part not in ("svc", "cluster") and not part.isdigit()]


def plan_target_placement(
    target: TargetSystem,
    mesh: MeshDescription,
    namespaces: Sequence[Object],
    pods: Iterable[Object],
    services: Sequence[Object] = (),
) -> Placement:
    """`plan_placement`, of objects one by one."""
    return plan_placement(target, mesh, Site(namespaces, list(pods), services))


def plan_placement(target: TargetSystem, mesh: MeshDescription, site: Site, *, everyone: bool = False) -> Placement:
    """Derive the placement from the objects. Raises Misuse for what the model cannot express, ExperimentFailure when a
    call has no pod.

    Args:
        everyone: with the tenants' pods that no call names.
    """
    live = [pod for pod in site.pods if is_live(pod)]
    named = {key for call in target.calls for key in (call.client, call.server)}
    apart = _standing_apart(mesh, set(target.namespaces), live, named)
    around = _around(mesh, site, apart)
    standing = {pod["metadata"]["uid"] for pod in apart}
    objects = {
        pod["metadata"]["uid"]: pod
        for pod in live
        if pod["metadata"]["uid"] not in standing
        and (_workload_key(pod) in named or (everyone and pod["metadata"]["namespace"] in target.namespaces))
    }
    for pod in unanswering(target, site.services, list(objects.values())):
        del objects[pod["metadata"]["uid"]]
    ends = {call.client for call in target.calls}, {call.server for call in target.calls}
    tenants = {space: tenant for tenant, spaces in target.tenants.items() for space in spaces}
    found = tuple(sorted(_pod(pod, tenants, mesh, around, *ends) for pod in objects.values()))
    if empty := sorted(named - {ref.workload_key for ref in found}):
        raise ExperimentFailure(
            f"no live pod of {', '.join(empty)}: is the name that of its Deployment, StatefulSet or DaemonSet?"
        )
    calls = tuple(dict.fromkeys((call.client, call.server) for call in target.calls))
    kinds = plan_kinds(mesh, objects, around)
    routes = plan_routes(target, mesh, site, objects, around, kinds)
    behind: dict[str, set[str]] = {}
    for (_, server), route in routes.items():
        behind.setdefault(server, set()).update(hop.key for hop in route.hops if hop.scope is Scope.WAYPOINT)
    bound = tuple(replace(pod, waypoints=tuple(sorted(behind.get(kinds[pod.uid], ())))) for pod in found)
    wanted = {key for keys in behind.values() for key in keys}
    proxies = [
        *(
            _instance(rule, objects[pod.uid], pod.uid)
            for pod in found
            for rule in mesh.rules
            if _holds(rule, objects[pod.uid])
        ),
        *(_instance(rule, pod, key) for rule in mesh.rules for key, pod in _serving(rule, apart, bound, wanted)),
    ]
    without = frozenset(rule.name for rule in mesh.rules if not _stands(rule, routes))
    if mesh.rules and len(without) == len(mesh.rules):
        why = dict.fromkeys(reason for route in routes.values() for reason in route.because)
        raise ExperimentFailure(f"no call passes any proxy of {mesh.name}: {'; '.join(why) or 'there is none'}")
    return Placement(mesh.mode(without), bound, tuple(sorted(proxies, key=str)), calls, routes, kinds)


def unanswering(target: TargetSystem, services: Sequence[Object], pods: Sequence[Object]) -> list[Object]:
    """Return the servers' pods that no call reaches: not ready, while others of their workload are. Pure.

    A Service sends nothing to a pod that is not ready, unless it publishes those too. Where none is ready, all are
    kept: they are the ones that calls will reach.
    """
    servers = {call.server for call in target.calls} - {call.client for call in target.calls}
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(_workload_key(pod), []).append(pod)
    left = []
    for workload in servers & found.keys():
        out = [
            pod
            for pod in found[workload]
            if is_unready(pod)
            and not any(one["spec"].get("publishNotReadyAddresses") and selects(one, pod) for one in services)
        ]
        left += out if len(out) < len(found[workload]) else []
    return left


def route_context(mesh: MeshDescription, site: Site, *, tenants: Collection[str] = ()) -> RouteContext:
    """What the objects say besides the pods of a call.

    Args:
        tenants: their namespaces.
    """
    return _around(mesh, site, _standing_apart(mesh, tenants, [pod for pod in site.pods if is_live(pod)], set()))


def _standing_apart(
    mesh: MeshDescription, tenants: Collection[str], live: Sequence[Object], named: Collection[str]
) -> list[Object]:
    """The pods that are proxies; not those that a call names: a gateway may be somebody's client. Nor a tenant's pod
    that carries the labels of a node's proxy: whoever may create a pod can write them.
    """
    return [
        pod
        for pod in live
        if _workload_key(pod) not in named
        and any(
            _matches(rule, pod) and not (_anywhere(rule) and pod["metadata"]["namespace"] in tenants)
            for rule in mesh.rules
        )
    ]


def _around(mesh: MeshDescription, site: Site, apart: Sequence[Object]) -> RouteContext:
    return RouteContext({space["metadata"]["name"]: space for space in site.namespaces}, _instances_by_key(mesh, apart))


def plan_routes(
    target: TargetSystem,
    mesh: MeshDescription,
    site: Site,
    objects: Mapping[str, Object],
    around: RouteContext,
    kinds: Mapping[str, str],
) -> dict[tuple[str, str], Route]:
    """Return what the pairs of every call pass, by the kinds of their pods. Raises Misuse for what is not modelled."""
    reached = resolve_calls(target, site, objects)
    shown: dict[str, dict[str, Object]] = {}  # workload -> kind -> one pod of it
    for uid, pod in objects.items():
        shown.setdefault(_workload_key(pod), {}).setdefault(kinds[uid], pod)
    return {
        (client_kind, server_kind): _route(call, mesh, client, server, reached[call.client, call.server], around)
        for call in target.calls
        for client_kind, client in shown.get(call.client, {}).items()
        for server_kind, server in shown.get(call.server, {}).items()
    }


def _route(
    call: Call, mesh: MeshDescription, client: Object, server: Object, reached: Reached, around: RouteContext
) -> Route:
    """What a call's requests pass. Kept connections stay with one server where the pod is dialled itself, or where the
    mesh reads no requests.
    """
    unread = why_unread(mesh.protocols, reached, server) if call.by_request else ""
    anew = call.spread and not (call.by_request and (unread or reached.by_pod))
    route = plan_route(mesh, client, server, reached, around, by_request=anew)
    return replace(route, because=(*route.because, *([unread] if unread and route.hops else [])))


def resolve_calls(target: TargetSystem, site: Site, objects: Mapping[str, Object]) -> dict[tuple[str, str], Reached]:
    """Return how the server of each call is addressed."""
    by_workload: dict[str, list[Object]] = {}
    for pod in objects.values():
        by_workload.setdefault(_workload_key(pod), []).append(pod)
    by_namespace: dict[str, list[Object]] = {}
    by_address: dict[str, list[Object]] = {}
    for service in site.services:
        by_namespace.setdefault(service["metadata"]["namespace"], []).append(service)
        for address in service_addresses(service):
            by_address.setdefault(address, []).append(service)

    def meant(call: Call) -> list[Object]:
        """The Services that a call may mean: by their address, or by a namespace that it names or lies in."""
        host = call.reach.rpartition(":")[0].strip("[]")
        spaces = dict.fromkeys([*call.namespaces, *host.split(".")])
        return [*by_address.get(host, ()), *(one for space in spaces for one in by_namespace.get(space, ()))]

    return {
        (call.client, call.server): resolve_reach(
            call.reach, call.namespaces[0], meant(call), by_workload.get(call.server, [])
        )
        for call in target.calls
    }


def resolve_target(target: TargetSystem, site: Site) -> dict[tuple[str, str], Reached]:
    """How the server of each call is addressed, by the live objects."""
    return resolve_calls(target, site, {pod["metadata"]["uid"]: pod for pod in site.pods if is_live(pod)})


def _workload_key(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{workload_name(pod)}"


def _pod(
    pod: Object,
    tenants: Mapping[str, str],
    mesh: MeshDescription,
    around: RouteContext,
    clients: Collection[str],
    servers: Collection[str],
) -> Pod:
    meta = pod["metadata"]
    key = _workload_key(pod)
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        node=pod["spec"]["nodeName"],
        tenant=tenants[meta["namespace"]],
        role=Role.CLIENT if key in clients else Role.SERVER if key in servers else "",
        workload=workload_name(pod),
        service_account=pod["spec"].get("serviceAccountName", "default"),
        ip=pod.get("status", {}).get("podIP", ""),
        carried_by=frozenset(rule.scope for rule in carriers(mesh, pod, around)),
    )


# ---- proxies that stand apart


def _matches(rule: ProxyRule, pod: Object) -> bool:
    labels = labels_of(pod)
    return (
        not rule.in_pod
        and rule.namespace in ("", pod["metadata"]["namespace"])
        and running_beside(pod, rule.container) is not None
        and all(key in labels and value in ("*", labels[key]) for key, value in rule.labels.items())
        and not (_anywhere(rule) and (controller(pod) or {}).get("kind") != "DaemonSet")
    )


def _anywhere(rule: ProxyRule) -> bool:
    """Whether the rule finds a node's proxies by their labels alone, in whichever namespace they lie."""
    return rule.scope is Scope.NODE and not rule.namespace


def _refuse_rivals(rule: ProxyRule, node: str, pods: Sequence[Object]) -> None:
    """Raise Misuse when pods of several DaemonSets claim to be the node's proxy: no label says which one is the
    mesh's.
    """
    owners = {(pod["metadata"]["namespace"], (controller(pod) or {}).get("name")) for pod in pods}
    if _anywhere(rule) and len(owners) > 1:
        names = ", ".join(sorted(f"{namespace}/{name}" for namespace, name in owners))
        raise Misuse(
            f"{rule.name} of node {node}: pods of several DaemonSets carry its labels: {names}. Remove the one that is "
            "not the mesh's, or describe the mesh with the namespace of its proxies"
        )


def _key(rule: ProxyRule, pod: Object) -> str:
    """What a proxy that stands apart serves, by its own pod."""
    if rule.binding is not None:
        return f"{pod['metadata']['namespace']}/{labels_of(pod).get(rule.binding.named_by, '')}"
    if rule.owner:
        owner = sole_owner(pod, "Pod")
        return str(owner["uid"]) if owner is not None else ""
    return place_key(rule, pod)


def _instances_by_key(mesh: MeshDescription, apart: Iterable[Object]) -> dict[tuple[str, str], list[Object]]:
    found: dict[tuple[str, str], list[Object]] = {}
    for pod in apart:
        for rule in mesh.rules:
            if _matches(rule, pod):
                found.setdefault((rule.name, _key(rule, pod)), []).append(pod)
    return found


def _serving(
    rule: ProxyRule, apart: Iterable[Object], pods: Sequence[Pod], wanted: set[str]
) -> list[tuple[str, Object]]:
    """Return (key, pod) of the rule's proxies that take traffic of the pods: ready ones; where only one per place takes
    new connections, the newest of them.
    """
    carried = {rule.scope.key_of(pod) for pod in pods if rule.scope in pod.carried_by}
    served = wanted if rule.binding is not None else carried
    places: dict[str, list[Object]] = {}
    for pod in apart:
        if _matches(rule, pod) and (key := _key(rule, pod)) in served and _is_ready(pod, rule.container):
            places.setdefault(key, []).append(pod)
    for key, there in places.items():
        _refuse_rivals(rule, key, there)
    if rule.newest:
        places = {key: [max(there, key=_made)] for key, there in places.items()}
    return [(key, pod) for key, there in places.items() for pod in there]


def _is_ready(pod: Object, container: str) -> bool:
    """Whether the proxy's container reports ready; one without a status counts as ready."""
    status = container_status(pod, container)
    return not is_deleting(pod) and bool(status.get("ready", "state" not in status))


def _made(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _stands(rule: ProxyRule, routes: Mapping[tuple[str, str], Route]) -> bool:
    """Whether any call passes a proxy of the rule."""
    return any(hop.scope is rule.scope and hop.layers == rule.layers for route in routes.values() for hop in route.hops)


def _holds(rule: ProxyRule, pod: Object) -> bool:
    return rule.in_pod and running_beside(pod, rule.container) is not None


def _instance(rule: ProxyRule, pod: Object, key: str) -> Proxy:
    meta = pod["metadata"]
    container = running_beside(pod, rule.container) or {}
    limits = (container.get("resources") or {}).get("limits") or {}
    return Proxy(
        namespace=meta["namespace"],
        pod=meta["name"],
        container=rule.container,
        uid=meta["uid"],
        node=pod["spec"]["nodeName"],
        layers=rule.layers,
        scope=rule.scope,
        key=key,
        service_account=pod["spec"].get("serviceAccountName", "default"),
        cpu_millicores=millicores(limits["cpu"]) if "cpu" in limits else _cores_of(container, rule.limit_by),
        memory_bytes=byte_count(limits.get("memory", "0")),
        container_id=container_status(pod, rule.container).get("containerID", ""),
    )


def _cores_of(container: Object, variable: str) -> int:
    """Millicores that a proxy without a CPU limit can use, by its environment; 0: as many as there are."""
    text = next((one.get("value", "") for one in container.get("env") or [] if one["name"] == variable), "")
    return 1000 * max(0, whole_number(text) or 0) if variable else 0
