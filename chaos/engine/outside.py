"""Detects what somebody else did during a trial: nodes drained, deleted or rebooted, pods evicted, workloads changed.

It is no fault of ours and no word about a mesh, so a trial that it falls into is inconclusive, and says who and when as
far as the cluster tells (managedFields, conditions of pods that were to go). State is compared before and after the
trial, when our own faults are undone; `detect_outside` and `detect_deleted` are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from chaos.kube.client import Cluster
from chaos.kube.objects import controller, has_condition, is_deleting, rfc3339, true_conditions
from chaos.mesh.inject import pod_template

Object = Mapping[str, Any]
FROM_OUTSIDE: Final = "somebody else changed what was tried"  # how such a trial's reason begins
_WORKLOADS: Final = ("Deployment", "DaemonSet", "StatefulSet", "Job")
_OWNERS: Final = (
    "ReplicaSet",
    "DaemonSet",
    "StatefulSet",
)  # that replace a pod; a Job's pods come and go with its work
# Field managers that are no hand from outside: ours, and Kubernetes' own controllers.
_OWN_MANAGERS: Final = ("sharedfate", "kube-controller-manager", "kube-scheduler", "kubelet", "k3s")
# Why a pod had to go, as its condition DisruptionTarget says.
_DISRUPTED: Final = {
    "EvictionByEvictionAPI": "was evicted (kubectl drain, an autoscaler)",
    "DeletionByTaintManager": "was deleted for a taint of its node",
    "PreemptionByScheduler": "made room for a pod of higher priority",
    "TerminationByKubelet": "was ended by its kubelet (the node is short of something, or shuts down)",
    "DeletionByPodGC": "was deleted with its node",
}


@dataclass(frozen=True, slots=True)
class Situation:
    """The state of a cluster that a trial takes for granted."""

    nodes: Mapping[str, Object] = field(default_factory=dict)  # those on which our pods lay
    workloads: Mapping[tuple[str, str, str], Object] = field(default_factory=dict)  # (kind, namespace, name)
    pods: Mapping[str, Object] = field(default_factory=dict)  # by UID
    owners: Mapping[str, int] = field(default_factory=dict)  # of these pods' controllers: UID -> generation


def read_situation(cluster: Cluster, namespaces: Sequence[str]) -> Situation:
    """Read the current nodes and workloads of those namespaces."""
    pods = [pod for name in namespaces for pod in cluster.list("Pod", name)]
    used = {pod["spec"].get("nodeName") for pod in pods}
    return Situation(
        {node["metadata"]["name"]: node for node in cluster.list("Node") if node["metadata"]["name"] in used},
        {
            (kind, namespace, obj["metadata"]["name"]): obj
            for namespace in namespaces
            for kind in _WORKLOADS
            for obj in cluster.list(kind, namespace)
        },
        {pod["metadata"]["uid"]: pod for pod in pods},
        _generations(cluster, pods),
    )


def read_nodes_of(cluster: Cluster, before: Situation) -> Situation:
    """Read the same nodes and workloads again; what is gone is missing."""
    nodes = {node["metadata"]["name"]: node for node in cluster.list("Node")}
    found = {key: cluster.find(key[0], key[2], key[1]) for key in before.workloads}
    return Situation(
        {name: nodes[name] for name in before.nodes if name in nodes},
        {key: obj for key, obj in found.items() if obj is not None},
        {
            pod["metadata"]["uid"]: pod
            for namespace in sorted({pod["metadata"]["namespace"] for pod in before.pods.values()})
            for pod in cluster.list("Pod", namespace)
        },
        _generations(cluster, before.pods.values()),
    )


def _generations(cluster: Cluster, pods: Iterable[Object]) -> dict[str, int]:
    """Of each of the pods' controllers that is there: what it is asked for, as a number that each change raises."""
    owners = {
        owner["uid"]: (owner["kind"], owner["name"], pod["metadata"]["namespace"])
        for pod in pods
        if (owner := controller(pod)) and owner["kind"] in _OWNERS
    }
    found = {uid: cluster.find(*key) for uid, key in owners.items()}
    return {
        uid: int(obj["metadata"].get("generation", 0))
        for uid, obj in found.items()
        if obj is not None and obj["metadata"]["uid"] == uid
    }


def detect_outside(
    before: Situation, after: Situation, *, since: float, proxies: Iterable[str] = (), nodes: bool = True
) -> list[str]:
    """Return a sentence for each thing that somebody else did.

    Args:
        since: seconds since the epoch; who did something is looked for among what was changed later.
        proxies: names of proxies' containers, whose resources and images are our own to change.
        nodes: False where a fault of ours acted on whole nodes.
    """
    found = _of_nodes(before, after, since) if nodes else []
    own = set(proxies)
    for (kind, namespace, name), old in before.workloads.items():
        new = after.workloads.get((kind, namespace, name))
        if new is None:
            if kind != "Job":  # a Job's own end, with its time to live
                found.append(f"{kind} {namespace}/{name} was deleted")
            continue
        who = _who(new, since)
        changes = _changes(old, new, own)
        if not changes and who and _template(old) != _template(new):  # where nobody else wrote, a fault may have
            changes = ["rolled out anew"]
        if changes:
            found.append(f"{kind} {namespace}/{name}: {', '.join(changes)}{who}")
    for uid in before.pods.keys() & after.pods.keys():
        old, new = before.pods[uid], after.pods[uid]
        if changes := _changes_of_containers(old, new, own):
            meta = new["metadata"]
            found.append(f"pod {meta['namespace']}/{meta['name']}: {', '.join(changes)}{_who(new, since)}")
    return found


def detect_deleted(
    before: Situation, after: Situation, *, told: Mapping[str, str], excused: Iterable[str] = ()
) -> list[str]:
    """A sentence for each pod that was deleted by a hand: neither by its controller, which was asked for the same all
    the while, nor by what the trial did.

    Args:
        told: UID -> when its deletion was asked for ("" if it was only seen to be gone).
        excused: UIDs of pods that the trial itself took away, or whose going has another sentence.
    """
    found, own = [], set(excused)
    for uid, pod in before.pods.items():
        now, owner = after.pods.get(uid), controller(pod)
        if uid in own or is_deleting(pod) or (now is not None and not is_deleting(now)) or owner is None:
            continue
        if before.owners.get(owner["uid"], -1) != after.owners.get(owner["uid"], -2):
            continue
        meta, at = pod["metadata"], told.get(uid, "")
        found.append(
            f"pod {meta['namespace']}/{meta['name']} was deleted{f' at {at}' if at else ''}, and not by its "
            f"{owner['kind']}, which was asked for as many pods as before (kubectl delete? Kubernetes keeps no name)"
        )
    return found


def deletion_of(pod: Object) -> str:
    """When a pod's deletion was asked for; "" while it was not. Kubernetes writes when its grace ends."""
    if not is_deleting(pod):
        return ""
    ends = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
    return rfc3339(ends - timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0))


def disruption_of(pod: Object) -> str:
    """Return why a pod is to be removed, by its condition DisruptionTarget; "" when it has none."""
    if (one := true_conditions(pod).get("DisruptionTarget")) is None:
        return ""
    why = _DISRUPTED.get(one.get("reason", ""), f"is to go ({one.get('reason', 'no reason')})")
    meta, node = pod["metadata"], (pod.get("spec") or {}).get("nodeName", "")
    return f"pod {meta['namespace']}/{meta['name']} on {node} {why} at {one.get('lastTransitionTime', '?')}"


def _of_nodes(before: Situation, after: Situation, since: float) -> list[str]:
    found = []
    for name, old in before.nodes.items():
        new = after.nodes.get(name)
        if new is None:
            found.append(f"node {name} was deleted")
            continue
        if _boot(old) and _boot(new) and _boot(old) != _boot(new):
            found.append(f"node {name} was rebooted")
        if new["spec"].get("unschedulable") and not old["spec"].get("unschedulable"):
            found.append(f"node {name} was cordoned (drained?){_who(new, since)}")
        if _ready(old) and not _ready(new):
            found.append(f"node {name} is not Ready any longer")
        taints = [taint["key"] for taint in _keeping(new) if taint["key"] not in {one["key"] for one in _keeping(old)}]
        if taints and not new["spec"].get("unschedulable") and _ready(new):
            found.append(f"node {name} was tainted ({', '.join(taints)}){_who(new, since)}")
    return found


def _changes(old: Object, new: Object, proxies: set[str]) -> list[str]:
    """Return what changed in a workload's spec that decides how its pods run."""
    found = []
    for name in ("replicas", "suspend", "paused"):
        if old["spec"].get(name) != new["spec"].get(name):
            found.append(f"{name} {_text(old['spec'].get(name))} -> {_text(new['spec'].get(name))}")
    return found + _changes_of_containers(old, new, proxies)


def _changes_of_containers(old: Object, new: Object, proxies: set[str]) -> list[str]:
    found = []
    before, after = _containers(old), _containers(new)
    for name in before.keys() - proxies:
        if name not in after:
            found.append(f"container {name} was taken out")
            continue
        for part in ("image", "resources"):
            if before[name].get(part) != after[name].get(part):
                found.append(f"{part} of {name} {_text(before[name].get(part))} -> {_text(after[name].get(part))}")
    found += [f"container {name} was put in" for name in sorted(after.keys() - before.keys() - proxies)]
    return found


def _who(obj: Object, since: float) -> str:
    """Return who changed it last and when, where the cluster records that; else ""."""
    begin = rfc3339(datetime.fromtimestamp(since, UTC))
    entries = [
        entry
        for entry in obj["metadata"].get("managedFields") or []
        if entry.get("time", "") >= begin
        and entry.get("subresource", "") in ("", "scale", "resize")
        and (not entry.get("manager", "").startswith(_OWN_MANAGERS) or _is_autoscaler(entry))
    ]
    if not entries:
        return ""
    last = max(entries, key=lambda entry: str(entry["time"]))
    of = " (a HorizontalPodAutoscaler)" if _is_autoscaler(last) else ""
    return f", by {last['manager']}{of} at {last['time']}"


def _is_autoscaler(entry: Object) -> bool:
    """Of Kubernetes' own controllers only the autoscaler writes `scale`, and it does so for somebody."""
    return entry.get("subresource") == "scale" and entry.get("manager", "").startswith("kube-controller-manager")


def _template(obj: Object) -> Object:
    return pod_template(dict(obj)) or {}


def _containers(obj: Object) -> dict[str, Object]:
    spec = _template(obj).get("spec") or {}
    return {one["name"]: one for one in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]}


def _boot(node: Object) -> str:
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("bootID", ""))


def _ready(node: Object) -> bool:
    return has_condition(node, "Ready")


def _keeping(node: Object) -> list[Object]:
    return [one for one in node["spec"].get("taints") or [] if one["effect"] in ("NoSchedule", "NoExecute")]


def _text(value: Any) -> str:
    return "unset" if value is None else str(value)
