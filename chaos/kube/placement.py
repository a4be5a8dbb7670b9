"""The live placement: which pods and proxies there are, read from the cluster at one moment, never assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chaos.kube.client import Cluster
from chaos.model.fate import Placement, PodRef, ProxyInstance, Role, identities_held, serves
from chaos.model.modes import Layer, ProxyMode, Scope, layer_name
from chaos.names import (
    ANNOTATION_BUDGET,
    ANNOTATION_PROXY_CONTAINER,
    LABEL_LAYER,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    LABEL_TENANT,
    SYSTEM_NAMESPACE,
)

Object = Mapping[str, Any]
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 10**3, "M": 10**6, "G": 10**9}


def read_placement(
    cluster: Cluster, mode: ProxyMode, *, run: str, calls: Sequence[tuple[str, str]] | None = None
) -> Placement:
    """What is where now. `calls`: (client workload, server workload) as "namespace/name"; None: within each namespace,
    every client workload calls every server workload."""
    return plan_placement(cluster.list("Pod", labels=f"{LABEL_RUN}={run}"), mode, calls=calls)


def plan_placement(
    pods: Iterable[Object], mode: ProxyMode, *, calls: Sequence[tuple[str, str]] | None = None
) -> Placement:
    """The placement that the pods make: live pods with a node only."""
    live = [pod for pod in pods if is_live(pod)]
    found = tuple(sorted(ref for pod in live if (ref := application(pod)) is not None))
    uids = {(ref.namespace, ref.name): ref.uid for ref in found}
    proxies = tuple(sorted((p for pod in live if (p := proxy(pod, uids)) is not None), key=str))
    if calls is None:
        clients, servers = (
            {(p.namespace, p.workload_key) for p in found if p.role == role} for role in (Role.CLIENT, Role.SERVER)
        )
        calls = sorted((client, server) for space, client in clients for other, server in servers if space == other)
    return Placement(mode, found, proxies, tuple(calls))


def is_live(pod: Object) -> bool:
    """Whether the pod is bound to a node and has not ended, nor is about to."""
    status = pod.get("status", {})
    return (
        bool(pod["spec"].get("nodeName"))
        and "deletionTimestamp" not in pod["metadata"]
        and status.get("phase") not in ("Succeeded", "Failed")
    )


def application(pod: Object) -> PodRef | None:
    """The application pod; None for the mesh's own."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    role = labels.get(LABEL_ROLE, "")
    if meta["namespace"] == SYSTEM_NAMESPACE or role == "proxy":
        return None
    return PodRef(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        node=pod["spec"]["nodeName"],
        tenant=labels.get(LABEL_TENANT, meta["namespace"]),
        role=role,
        workload=workload(pod),
        service_account=pod["spec"].get("serviceAccountName", "default"),
        ip=pod.get("status", {}).get("podIP", ""),
    )


def workload(pod: Object) -> str:
    """The name of the Deployment (or other controller) that the pod belongs to; its own when there is none."""
    meta = pod["metadata"]
    owner = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), None)
    if owner is None:
        return str(meta["name"])
    template_hash = (meta.get("labels") or {}).get("pod-template-hash")
    return str(owner["name"]).removesuffix(f"-{template_hash}") if owner["kind"] == "ReplicaSet" else str(owner["name"])


def proxy(pod: Object, uids: Mapping[tuple[str, str], str]) -> ProxyInstance | None:
    """The proxy that the pod holds: a pod of its own, or a container beside an application. None when it holds none."""
    meta, spec = pod["metadata"], pod["spec"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    name = annotations.get(ANNOTATION_PROXY_CONTAINER)
    if name is None:
        return None
    alone = labels.get(LABEL_ROLE) == "proxy"
    says = labels if alone else annotations
    scope = Scope(says[LABEL_SCOPE])
    key = {
        Scope.NODE: spec["nodeName"],
        Scope.NAMESPACE: labels.get(LABEL_SCOPE_KEY, meta["namespace"]),
        Scope.POD: uids.get((meta["namespace"], labels.get(LABEL_SCOPE_KEY, "")), "") if alone else meta["uid"],
    }[scope]
    layers = says.get(LABEL_LAYER, "none")
    containers = [c for f in ("containers", "initContainers") for c in spec.get(f) or []]
    container: Object = next((c for c in containers if c["name"] == name), {})
    statuses = [s for f in ("containerStatuses", "initContainerStatuses") for s in pod.get("status", {}).get(f) or []]
    status: Object = next((s for s in statuses if s["name"] == name), {})
    limits = (container.get("resources") or {}).get("limits") or {}
    return ProxyInstance(
        namespace=meta["namespace"],
        pod=meta["name"],
        container=name,
        uid=meta["uid"],
        node=spec["nodeName"],
        layers=frozenset(Layer(part) for part in layers.split("-")) if layers != "none" else frozenset(),
        scope=scope,
        key=key,
        service_account=spec.get("serviceAccountName", "default"),
        cpu_millicores=int(annotations.get(ANNOTATION_BUDGET, 0)),
        memory_bytes=quantity_bytes(limits.get("memory", "0")),
        container_id=status.get("containerID", ""),
    )


def quantity_bytes(text: str | int) -> int:
    """Kubernetes' memory quantity in bytes."""
    value = str(text)
    for unit, factor in _UNITS.items():
        if value.endswith(unit):
            return int(float(value.removesuffix(unit)) * factor)
    return int(float(value))


def quantity_millicores(text: str | int) -> int:
    """Kubernetes' CPU quantity in millicores."""
    value = str(text)
    return int(value.removesuffix("m")) if value.endswith("m") else int(float(value) * 1000)


def picture(placement: Placement) -> str:
    """For people: each proxy with its scope, budget, identities, and the pods that share it."""
    lines = [f"mode {placement.mode.name}: {len(placement.proxies)} proxies, {len(placement.pods)} application pods"]
    for instance in placement.proxies:
        who = [f"{pod.namespace}/{pod.name}" for pod in placement.pods if instance.layers and serves(instance, pod)]
        held = sorted(f"{space}/{account}" for space, account in identities_held(placement, instance))
        lines += [
            f"{instance}  node {instance.node}  {layer_name(instance.layers)} per {instance.scope}  "
            f"{instance.cpu_millicores}m {instance.memory_bytes >> 20}Mi",
            f"    identities: {', '.join(held) or 'none'}",
            f"    shared by:  {', '.join(who) or 'nobody'}",
        ]
    return "\n".join(lines)
