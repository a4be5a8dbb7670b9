"""The live placement of a mesh that is not ours: the same `Placement` that our modes give, so that the fate model
applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chaos.errors import ExperimentFailure, Misuse
from chaos.external.description import MeshDescription, ProxyRule, descriptions
from chaos.external.detection import detect_mesh
from chaos.external.file import TargetSystem
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status, is_live, workload_name
from chaos.kube.quantity import byte_count, millicores
from chaos.model.modes import Scope
from chaos.model.placement import Place, Placement, Pod, Proxy, Role

Object = Mapping[str, Any]


def read_target_placement(cluster: Cluster, target: TargetSystem) -> tuple[MeshDescription, Placement]:
    """The mesh (detected when the file does not say) and what is where now."""
    namespaces = [cluster.get("Namespace", name) for name in target.namespaces]
    pods = [pod for name in target.namespaces for pod in cluster.list("Pod", name)]
    known = [target.mesh] if target.mesh else list(descriptions().values())
    elsewhere = sorted(
        {rule.namespace for mesh in known for rule in mesh.rules if rule.namespace} - set(target.namespaces)
    )
    pods += [pod for name in elsewhere for pod in cluster.list("Pod", name)]
    mesh = target.mesh or detect_mesh(known, namespaces, pods)
    return mesh, plan_target_placement(target, mesh, namespaces, pods)


def plan_target_placement(
    target: TargetSystem, mesh: MeshDescription, namespaces: Sequence[Object], pods: Iterable[Object]
) -> Placement:
    """The placement that the objects make. Raises Misuse for what the model cannot say, ExperimentFailure when a call
    has no pod.
    """
    live = [pod for pod in pods if is_live(pod)]
    apart = {
        pod["metadata"]["uid"]
        for rule in mesh.rules
        if rule.scope is not Scope.POD
        for pod in live
        if _matches(rule, pod, target)
    }
    ends = {key for call in target.calls for key in (call.client, call.server)}
    clients = {call.client for call in target.calls}
    found = []
    for pod in live:
        meta = pod["metadata"]
        key = f"{meta['namespace']}/{workload_name(pod)}"
        if meta["uid"] not in apart and key in ends:
            found.append(
                Pod(
                    namespace=meta["namespace"],
                    name=meta["name"],
                    uid=meta["uid"],
                    node=pod["spec"]["nodeName"],
                    tenant=target.tenant_of(meta["namespace"]),
                    role=Role.CLIENT if key in clients else Role.SERVER,
                    workload=workload_name(pod),
                    service_account=pod["spec"].get("serviceAccountName", "default"),
                    ip=pod.get("status", {}).get("podIP", ""),
                )
            )
    if empty := sorted(ends - {ref.workload_key for ref in found}):
        raise ExperimentFailure(
            f"no live pod of {', '.join(empty)}: is the name that of its Deployment, StatefulSet or DaemonSet?"
        )
    by_uid = {pod["metadata"]["uid"]: pod for pod in live}
    proxies: list[Proxy] = []
    without = set()
    for rule in mesh.rules:
        instances = _instances(rule, target, namespaces, live, [by_uid[ref.uid] for ref in found])
        if not instances and rule.optional:
            without.add(rule.name)
        elif rule.optional:
            _refuse_half(rule, target, instances)
        proxies += instances
    calls = tuple(dict.fromkeys((call.client, call.server) for call in target.calls))
    return Placement(mesh.mode(frozenset(without)), tuple(sorted(found)), tuple(sorted(proxies, key=str)), calls)


def _instances(
    rule: ProxyRule, target: TargetSystem, namespaces: Sequence[Object], live: Sequence[Object], apps: Sequence[Object]
) -> list[Proxy]:
    match rule.scope:
        case Scope.POD:
            return [_instance(rule, pod) for pod in apps if _container(pod, rule.container) is not None]
        case Scope.NODE:
            return [_instance(rule, pod) for pod in live if _matches(rule, pod, target)]
        case Scope.NAMESPACE:
            found = []
            for space in namespaces:
                name, labels = space["metadata"]["name"], space["metadata"].get("labels") or {}
                wanted = labels.get(rule.serves_label, "") if rule.serves_label else "*"
                if wanted in ("", "none"):
                    continue
                found += [
                    _instance(rule, pod)
                    for pod in live
                    if _matches(rule, pod, target)
                    and pod["metadata"]["namespace"] == name
                    and (wanted == "*" or (pod["metadata"].get("labels") or {}).get(rule.named_by) == wanted)
                ]
            return found


def _refuse_half(rule: ProxyRule, target: TargetSystem, instances: Sequence[Proxy]) -> None:
    """An optional hop stands on every path or on none: a mode has one path."""
    served = {instance.key for instance in instances}
    servers = {call.namespaces[1] for call in target.calls}
    if rule.scope is Scope.NAMESPACE and (bare := sorted(servers - served)):
        raise Misuse(
            f"{', '.join(sorted(served))} has a {rule.name} and {', '.join(bare)} has none: a mode has one path. "
            "Write a target "
            "file for each kind"
        )


def _matches(rule: ProxyRule, pod: Object, target: TargetSystem) -> bool:
    meta = pod["metadata"]
    places = (rule.namespace,) if rule.namespace else target.namespaces
    labels = meta.get("labels") or {}
    return (
        rule.scope is not Scope.POD
        and meta["namespace"] in places
        and _container(pod, rule.container) is not None
        and all(key in labels and value in ("*", labels[key]) for key, value in rule.labels.items())
    )


def _container(pod: Object, name: str) -> Object | None:
    """A container that runs beside the others: an ordinary one, or an init container that stays."""
    spec = pod["spec"]
    stays = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    return next((one for one in [*spec["containers"], *stays] if one["name"] == name), None)


def _instance(rule: ProxyRule, pod: Object) -> Proxy:
    meta = pod["metadata"]
    container = _container(pod, rule.container) or {}
    limits = (container.get("resources") or {}).get("limits") or {}
    return Proxy(
        namespace=meta["namespace"],
        pod=meta["name"],
        container=rule.container,
        uid=meta["uid"],
        node=pod["spec"]["nodeName"],
        layers=rule.layers,
        scope=rule.scope,
        key=rule.scope.key_of(Place(meta["uid"], pod["spec"]["nodeName"], meta["namespace"])),
        service_account=pod["spec"].get("serviceAccountName", "default"),
        cpu_millicores=millicores(limits.get("cpu", "0")),
        memory_bytes=byte_count(limits.get("memory", "0")),
        container_id=container_status(pod, rule.container).get("containerID", ""),
    )
