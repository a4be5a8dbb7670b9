"""Reads Kubernetes objects: conditions, containers, owners, roll-outs, and a workload's pods. Pure, except for
`pods_of`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from chaos.kube.client import Cluster

Object = Mapping[str, Any]
# The securityContext of a container with which Pod Security's strictest level takes its pod.
RESTRICTED: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


# ---- any object


def is_deleting(obj: Object) -> bool:
    """Whether the object's deletion has begun."""
    return "deletionTimestamp" in obj["metadata"]


def true_conditions(obj: Object) -> dict[str, Object]:
    """Return the object's conditions that are True, by type."""
    found = (obj.get("status") or {}).get("conditions") or []
    return {one.get("type", ""): one for one in found if one.get("status") == "True"}


def has_condition(obj: Object, kind: str) -> bool:
    """Whether that condition of the object is True."""
    return kind in true_conditions(obj)


def controller(obj: Object) -> Object | None:
    """Return the owner reference of the object's controller; None without one."""
    return next((one for one in obj["metadata"].get("ownerReferences") or [] if one.get("controller")), None)


def sole_owner(obj: Object, kind: str) -> Object | None:
    """Return the owner reference of that kind; None when the object has none of it, or several."""
    found = [one for one in obj["metadata"].get("ownerReferences") or [] if one.get("kind") == kind]
    return found[0] if len(found) == 1 else None


def is_owned_by(obj: Object, uids: Collection[str]) -> bool:
    """Whether any of the object's owners has one of the UIDs."""
    return any(one["uid"] in uids for one in obj["metadata"].get("ownerReferences") or [])


def rfc3339(moment: datetime | None = None) -> str:
    """Format a moment (default: now) as Kubernetes does, in whole seconds: 2026-11-28T04:05:06Z."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- pods


def is_live(pod: Object) -> bool:
    """Whether the pod is bound to a node, has not ended, and is not being deleted."""
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return bool(pod["spec"].get("nodeName")) and not is_deleting(pod) and not ended


def is_ready_pod(pod: Object) -> bool:
    """Whether the pod is ready and not being deleted."""
    return has_condition(pod, "Ready") and not is_deleting(pod)


def is_unready(pod: Object) -> bool:
    """Whether the pod says that it is not ready; one without that condition says nothing."""
    found = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] != "True" for one in found)


def containers(pod: Object) -> list[Object]:
    """The pod's containers, then its init containers."""
    spec = pod["spec"]
    return [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]


def probed_ports(spec: Object) -> frozenset[int]:
    """Return the ports of a pod that its kubelet connects to: those of its containers' probes and hooks. A name that no
    port of the container has is left out, as the kubelet can probe nothing there.
    """
    return frozenset(
        port
        for field in ("containers", "initContainers")
        for one in spec.get(field) or []
        for port in _probed(one)
        if port is not None
    )


def _probed(container: Object) -> Iterator[int | None]:
    named = {port.get("name"): port["containerPort"] for port in container.get("ports") or []}
    hooks = (container.get("lifecycle") or {}).values()
    for how in (*(container.get(f"{kind}Probe") for kind in ("startup", "readiness", "liveness")), *hooks):
        for means in ("httpGet", "tcpSocket", "grpc"):
            port = ((how or {}).get(means) or {}).get("port")
            yield port if port is None or isinstance(port, int) else named.get(port)


def container(pod: Object, name: str) -> Object:
    """The container or init container of that name; empty when there is none."""
    return next((one for one in containers(pod) if one["name"] == name), {})


def container_statuses(pod: Object) -> list[Object]:
    """The statuses of the pod's containers, then of its init containers."""
    status = pod.get("status") or {}
    return [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]


def container_status(pod: Object, name: str) -> dict[str, Any]:
    """The status of a container or init container; empty when there is none yet."""
    return dict(next((one for one in container_statuses(pod) if one["name"] == name), {}))


def is_running(pod: Object, name: str) -> bool:
    """Whether the container of that name is running."""
    return "running" in (container_status(pod, name).get("state") or {})


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """A container's state, from its pod's status."""

    namespace: str
    pod: str
    uid: str
    node: str
    container: str
    init: bool  # an init container, native sidecars included
    state: str  # waiting | running | terminated
    reason: str
    exit_code: int | None
    signal: int | None
    restarts: int
    container_id: str
    ready: bool
    last_reason: str  # of the instance before: OOMKilled, Error, ...
    last_exit_code: int | None


def containers_seen(pod: Object) -> dict[str, ContainerSeen]:
    """Every container of a pod that has a status, by name."""
    return {one.container: one for one in _seen(pod)}


def _seen(pod: Object) -> Iterator[ContainerSeen]:
    meta, status = pod["metadata"], pod.get("status") or {}
    for part in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(part) or []:
            state, inside = next(iter((one.get("state") or {"waiting": {}}).items()))
            last = (one.get("lastState") or {}).get("terminated") or {}
            yield ContainerSeen(
                namespace=meta["namespace"],
                pod=meta["name"],
                uid=meta["uid"],
                node=pod["spec"].get("nodeName", ""),
                container=one["name"],
                init=part == "initContainerStatuses",
                state=state,
                reason=(inside or {}).get("reason", ""),
                exit_code=(inside or {}).get("exitCode"),
                signal=(inside or {}).get("signal"),
                restarts=one.get("restartCount", 0),
                container_id=one.get("containerID", ""),
                ready=bool(one.get("ready")),
                last_reason=last.get("reason", ""),
                last_exit_code=last.get("exitCode"),
            )


# ---- workloads


def workload_name(pod: Object) -> str:
    """Return the name of the Deployment (or other controller) of the pod; the pod's own when there is none."""
    owner = controller(pod)
    if owner is None:
        return str(pod["metadata"]["name"])
    template_hash = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
    return str(owner["name"]).removesuffix(f"-{template_hash}") if owner["kind"] == "ReplicaSet" else str(owner["name"])


def is_observed(workload: Object) -> bool:
    """Whether the workload's status reflects its newest spec."""
    observed = (workload.get("status") or {}).get("observedGeneration", 0)
    return bool(observed >= workload["metadata"].get("generation", 1))


def is_rolled_out(workload: Object) -> bool:
    """Whether every pod of a Deployment, DaemonSet or StatefulSet is of the newest template and ready.

    A DaemonSet that is wanted on no node is not: it has nothing to show.
    """
    status = workload.get("status") or {}
    if not is_observed(workload):
        return False
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(wanted > 0 and status.get("updatedNumberScheduled", 0) == status.get("numberReady", 0) == wanted)
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")}
    return counts == {workload["spec"].get("replicas", 1)}


def label_selector(selector: Object) -> str:
    """Return a workload's selector in the form that a list request takes. Raises KeyError for an unknown operator."""
    parts = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or []:
        values = ",".join(one.get("values") or [])
        parts.append(
            {
                "In": f"{one['key']} in ({values})",
                "NotIn": f"{one['key']} notin ({values})",
                "Exists": one["key"],
                "DoesNotExist": f"!{one['key']}",
            }[one["operator"]]
        )
    return ",".join(parts)


_TERM: Final = re.compile(
    r"\s*(?:(?P<absent>!\s*)?(?P<key>[^\s=!,()]+)\s*(?:(?P<equal>==|=|!=)\s*(?P<value>[^\s,]*)"
    r"|(?P<among>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a label selector, as `label_selector` spells it, matches the labels. An empty one matches everything.
    Pure.

    Source: Kubernetes, "Labels and Selectors": `!=` and `notin` hold for objects without the key too.
    """
    for term in _TERM.finditer(selector):
        key, among = term["key"], term["among"]
        has, value = key in labels, labels.get(key, "")
        if among:
            holds = has and value in [one.strip() for one in term["values"].split(",")]
            holds = holds if among == "in" else not holds
        elif term["equal"]:
            holds = (has and value == term["value"]) != (term["equal"] == "!=")
        else:
            holds = has != bool(term["absent"])
        if not holds:
            return False
    return True


def pods_of(cluster: Cluster, workload: Object) -> list[dict[str, Any]]:
    """Return the workload's pods: those that its selector matches, and none of a namesake (`server-canary` beside
    `server`).

    A pod that another controller owns does not count, whatever its labels say.
    """
    meta = workload["metadata"]
    found = cluster.list("Pod", meta["namespace"], labels=label_selector(workload["spec"]["selector"]))
    return [pod for pod in found if _may_belong(pod, workload)]


def _may_belong(pod: Object, workload: Object) -> bool:
    owner = controller(pod)
    if owner is None:
        return False
    if workload["kind"] == "Deployment":
        return bool(owner["kind"] == "ReplicaSet" and workload_name(pod) == workload["metadata"]["name"])
    return bool(owner["uid"] == workload["metadata"]["uid"])
