"""Applies, awaits and deletes many objects, in the order that Kubernetes needs.

What a mesh and a run write goes through here; a single object needs only `Cluster.apply` and `Cluster.delete`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from chaos.errors import ApiError, Misuse
from chaos.kube.client import KINDS, Cluster, kind_key
from chaos.kube.objects import is_ready_pod, is_rolled_out
from chaos.kube.readiness import AwaitedWorkload, await_ready
from chaos.names import LABEL_RUN

Object = dict[str, Any]
_T = TypeVar("_T")
_FIRST: Final = ("Namespace",)
_GRANTS: Final = ("RoleBinding", "ClusterRoleBinding")  # refused with 404 while the role that they name is not there
_RUNNING: Final = ("Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob")
# What a run, its tests and its controllers put into a namespace, and what a runner may list there: not secrets.
INSIDE: Final = (
    "Deployment",
    "DaemonSet",
    "StatefulSet",
    "CronJob",
    "Job",
    "Pod",
    "Service",
    "ConfigMap",
    "ServiceAccount",
)
_OF_EVERY_NAMESPACE: Final = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
_AWAITED: Final = ("Deployment", "DaemonSet", "StatefulSet", "Pod")
_PARALLEL: Final = 8


def apply_all(cluster: Cluster, objects: Iterable[Object]) -> None:
    """Apply in four waves: namespaces, what others refer to, who is granted it, pods.

    Raises Misuse for kinds that the client does not know, ApiError or an ExceptionGroup of them for refusals.
    """
    everything = [copy.deepcopy(obj) for obj in objects]
    unknown = sorted({kind_key(obj) for obj in everything} - KINDS.keys())
    if unknown:
        raise Misuse(f"kinds that sharedfate does not apply: {', '.join(unknown)}; apply them yourself first")
    named = {*_FIRST, *_GRANTS, *_RUNNING}
    for wave in (_FIRST, KINDS.keys() - named, _GRANTS, _RUNNING):
        in_parallel(cluster.apply, [obj for obj in everything if kind_key(obj) in wave])


def delete_all(cluster: Cluster, objects: Sequence[Object]) -> None:
    """Delete the objects; one that is gone already is no error. Does not wait."""

    def delete(obj: Object) -> None:
        key, meta = kind_key(obj), obj["metadata"]
        cluster.delete(key, meta["name"], meta.get("namespace", "default") if KINDS[key][2] else None)

    in_parallel(delete, objects)


def delete_running(cluster: Cluster, objects: Sequence[Object]) -> None:
    """Delete those of the objects that run as pods. Does not wait."""
    delete_all(cluster, [obj for obj in objects if obj["kind"] in _RUNNING])


def delete_helpers(cluster: Cluster, *, run: str, namespace: str) -> None:
    """Delete the run's pods there that nothing owns. Does not wait."""
    for pod in cluster.list("Pod", namespace, labels=f"{LABEL_RUN}={run}"):
        if not pod["metadata"].get("ownerReferences"):
            cluster.delete("Pod", pod["metadata"]["name"], namespace)


def empty_namespaces(cluster: Cluster, names: Iterable[str]) -> None:
    """Delete what lies in the namespaces, whoever put it there, but for what every namespace has. What has an owner
    goes with it. Does not wait.
    """

    def empty(place: Object) -> None:
        for obj in cluster.list(place["kind"], place["namespace"]):
            meta = obj["metadata"]
            if (place["kind"], meta["name"]) not in _OF_EVERY_NAMESPACE and not meta.get("ownerReferences"):
                cluster.delete(place["kind"], meta["name"], place["namespace"])

    in_parallel(empty, [{"kind": kind, "namespace": name} for name in names for kind in INSIDE])


def unmark_namespaces(cluster: Cluster, namespaces: Sequence[Object]) -> None:
    """Take the labels and annotations of these manifests away again, but for the one by which the run owns them."""

    def unmark(stated: Object) -> None:
        meta = stated["metadata"]
        gone = {
            field: dict.fromkeys(key for key in meta.get(field) or {} if key != LABEL_RUN)
            for field in ("labels", "annotations")
        }
        cluster.patch("Namespace", meta["name"], {"metadata": gone})

    in_parallel(unmark, namespaces)


def wait_emptied(cluster: Cluster, names: Iterable[str], *, seconds: float) -> None:
    """Wait until no pod is left in the namespaces."""
    left = list(names)

    def emptied() -> bool:
        while left and not cluster.list("Pod", left[-1]):
            left.pop()
        return not left

    cluster.wait("the namespaces hold no pod any longer", emptied, seconds=seconds)


def delete_system(cluster: Cluster, objects: Sequence[Object], *, run: str, seconds: float) -> None:
    """Delete a mesh's own parts: first what runs, then, once its pods are gone, what it was allowed.

    A program that is refused while it ends would say so.
    """
    delete_running(cluster, objects)
    apps = {obj["metadata"]["name"] for obj in objects if obj["kind"] in ("Deployment", "DaemonSet")}
    cluster.wait(
        "the mesh's pods are gone",
        lambda: not [pod for pod in pods_of_run(cluster, run) if pod["metadata"]["labels"].get("app") in apps],
        seconds=seconds,
    )
    delete_all(cluster, [obj for obj in reversed(objects) if obj["kind"] not in _RUNNING])


def wait_all_ready(cluster: Cluster, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
    """Wait until the workloads among the objects are rolled out and ready; raises NotReady with the cause of each."""
    waiting = [
        AwaitedWorkload(obj["kind"], obj["metadata"].get("namespace", "default"), obj["metadata"]["name"])
        for obj in objects
        if obj["kind"] in _AWAITED
    ]
    await_ready(cluster, waiting, is_ready, seconds=seconds)


def wait_namespaces_gone(cluster: Cluster, names: Iterable[str], *, run: str, seconds: float) -> None:
    """Wait until none of the run's namespaces of these names is left."""
    gone = set(names)
    cluster.wait(
        "the namespaces are gone",
        lambda: gone.isdisjoint(one["metadata"]["name"] for one in namespaces_of_run(cluster, run)),
        seconds=seconds,
    )


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Whether a workload is rolled out and all its pods are ready; of a Pod, whether it is ready."""
    return is_ready_pod(obj) if obj["kind"] == "Pod" else is_rolled_out(obj)


def pods_of_run(cluster: Cluster, run: str) -> list[Object]:
    """Return every pod with the run's label."""
    return cluster.list("Pod", labels=f"{LABEL_RUN}={run}")


def namespaces_of_run(cluster: Cluster, run: str) -> list[Object]:
    """Return every namespace with the run's label."""
    return cluster.list("Namespace", labels=f"{LABEL_RUN}={run}")


def in_parallel(function: Callable[[_T], Any], objects: Sequence[_T]) -> None:
    """Call with every one, several at a time. Raises what one call raised, several as an ExceptionGroup."""
    if not objects:
        return
    errors: list[ApiError] = []
    with ThreadPoolExecutor(min(_PARALLEL, len(objects))) as pool:
        for future in [pool.submit(function, obj) for obj in objects]:
            try:
                future.result()
            except ApiError as error:
                errors.append(error)
    if errors:
        raise ExceptionGroup("writing to the cluster", errors) if len(errors) > 1 else errors[0]
