"""Facts about a target workload (Deployment, DaemonSet, StatefulSet), shared by the faults that change one."""

from __future__ import annotations

import time
from typing import Any, Final

from chaos.errors import NotReady, RecoveryFailed, TargetVanished
from chaos.faults.model import Evidence, Target
from chaos.kube import objects
from chaos.kube.client import Cluster, Object
from chaos.kube.objects import is_rolled_out

KINDS: Final = ("Deployment", "DaemonSet", "StatefulSet")
_STATUS: Final = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def living(cluster: Cluster, target: Target) -> Object:
    """Return the workload; raises TargetVanished when it is gone, or a namesake has taken its place."""
    found = cluster.find(target.workload_kind, target.name, target.namespace)
    if found is None or (target.uid and found["metadata"]["uid"] != target.uid):
        raise TargetVanished(f"{target}: no such {target.workload_kind} any longer")
    return found


def pods_of(cluster: Cluster, target: Target) -> list[Object]:
    """Return the pods of a workload, by its selector; none when it is gone."""
    found = cluster.find(target.workload_kind, target.name, target.namespace)
    return objects.pods_of(cluster, found) if found is not None else []


def bare(workload: Object) -> Object:
    """Return the object as it can be created again: without what the server wrote. Pure."""
    meta = {key: value for key, value in workload["metadata"].items() if key not in _STATUS}
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith("deployment.kubernetes.io/")
    }
    meta = {key: value for key, value in meta.items() if key != "annotations"} | (
        {"annotations": annotations} if annotations else {}
    )
    return {"apiVersion": "apps/v1", "kind": workload["kind"], "metadata": meta, "spec": workload["spec"]}


def updated(found: dict[str, Any]) -> int:
    """Return how many pods are of the newest template, by the workload's status. Pure."""
    name = "updatedNumberScheduled" if found["kind"] == "DaemonSet" else "updatedReplicas"
    return int((found.get("status") or {}).get(name, 0))


def rolled_out(workload: Object) -> dict[str, Any]:
    """Return the status once every pod is of the newest template and ready; empty before. Pure."""
    if not is_rolled_out(workload):
        return {}
    wanted = (
        workload["status"]["desiredNumberScheduled"]
        if workload["kind"] == "DaemonSet"
        else workload["spec"].get("replicas", 1)
    )
    return {"ready": wanted, "generation": workload["metadata"].get("generation", 1)}


def recovered(cluster: Cluster, target: Target, *, seconds: float, uid: bool = True) -> Evidence:
    """Wait until the workload is rolled out. Raises RecoveryFailed. `uid`: it must be the same object as before."""

    def done() -> dict[str, Any]:
        found = living(cluster, target) if uid else cluster.get(target.workload_kind, target.name, target.namespace)
        return rolled_out(found)

    try:
        seen = cluster.wait(f"{target.workload_kind} {target}: rolled out and ready", done, seconds=seconds, every=0.1)
    except NotReady as error:
        raise RecoveryFailed(str(error)) from error
    return Evidence(time.time_ns(), seen)
