"""Removes what runs left in a cluster: everything with a run's label, in an order that harms nothing.

Faults are undone from their receipts; pods that stay are un-captured on every node; then tenants, cluster-wide objects,
and last the system namespace. A normal run leaves nothing to do. Called by `sharedfate clean`, and before a run in a
cluster of ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from chaos.errors import ExperimentFailure, Misuse, NotReady
from chaos.faults.helper_pod import manifest
from chaos.faults.injection import held_receipts, undo_overdue
from chaos.faults.model import Receipt
from chaos.kube.applying import INSIDE
from chaos.kube.client import Cluster
from chaos.kube.placement import is_captured
from chaos.names import LABEL_MESH, LABEL_MODE, LABEL_ROLE, LABEL_RUN, SYSTEM_NAMESPACE

Object = dict[str, Any]
_CLUSTER_WIDE: Final = ("ClusterRoleBinding", "ClusterRole")
_AGENT_SECONDS: Final = 5.0


def remove_runs(cluster: Cluster, *, run: str = "", seconds: float = 90.0) -> list[str]:
    """Remove everything of one run or of all; return a line for each thing that was removed.

    Raises ExceptionGroup at the end with what could not be undone, after everything else was tried.
    """
    label = f"{LABEL_RUN}={run}" if run else LABEL_RUN
    ours = {n["metadata"]["name"]: n for n in cluster.list("Namespace", labels=label)}
    removed: list[str] = []
    failures: list[Exception] = []
    if SYSTEM_NAMESPACE in ours:
        try:
            undo_overdue(
                cluster,
                now=time.time_ns(),
                run=run or None,
                everything=True,
                done=lambda one: removed.append(f"fault {one.fault} on {one.target}, undone"),
            )
        except ExceptionGroup as group:
            failures += group.exceptions
    staying = [
        n["metadata"]["name"]
        for n in cluster.list("Namespace", labels=f"{LABEL_MESH}=enabled")
        if n["metadata"]["name"] not in ours
    ]
    removed += _release(cluster, staying)
    for namespace in staying:
        for kind in INSIDE:
            for obj in cluster.list(kind, namespace, labels=label):
                if cluster.delete(kind, obj["metadata"]["name"], namespace):
                    removed.append(f"{kind} {namespace}/{obj['metadata']['name']}")
    try:
        removed += _remove_loaders(cluster, label, left_to_others={*ours, *staying})
    except Misuse as error:  # their namespace has to be listed again; the rest goes all the same
        failures.append(error)
    tenants = [name for name in ours if name != SYSTEM_NAMESPACE]
    removed += _delete_namespaces(cluster, tenants, seconds)
    for kind in _CLUSTER_WIDE:
        for obj in cluster.list(kind, labels=label):
            if cluster.delete(kind, obj["metadata"]["name"]):
                removed.append(f"{kind} {obj['metadata']['name']}")
    removed += _delete_namespaces(cluster, [name for name in ours if name == SYSTEM_NAMESPACE], seconds)
    if failures:
        raise ExceptionGroup(f"removed {len(removed)} things, but {len(failures)} things were not undone", failures)
    return removed


def plan_removal(cluster: Cluster, *, run: str = "") -> list[str]:
    """Return what `remove_runs` would remove, in the same words, as far as it can be known before; changes nothing."""
    label = f"{LABEL_RUN}={run}" if run else LABEL_RUN
    ours = [n["metadata"]["name"] for n in cluster.list("Namespace", labels=label)]
    planned: list[str] = []
    if SYSTEM_NAMESPACE in ours:
        planned += [
            f"fault {one.fault} on {one.target}, undone" if isinstance(one, Receipt) else str(one)
            for one in held_receipts(cluster, run=run or None)
        ]
    meshed = [n["metadata"]["name"] for n in cluster.list("Namespace", labels=f"{LABEL_MESH}=enabled")]
    staying = [name for name in meshed if name not in ours]
    planned += [f"mesh labels of namespace {name}" for name in staying]
    if any(captured_by_node(cluster.list("Pod", name)) for name in staying):
        planned.append("capture of its pods, by the node agents")
    planned += [
        f"{kind} {namespace}/{obj['metadata']['name']}"
        for namespace in staying
        for kind in INSIDE
        for obj in cluster.list(kind, namespace, labels=label)
    ]
    planned += [f"loader {namespace}/{name}" for namespace, name in _loaders(cluster, label, {*ours, *staying})]
    planned += [_whole(name) for name in ours if name != SYSTEM_NAMESPACE]
    planned += [
        f"{kind} {obj['metadata']['name']}" for kind in _CLUSTER_WIDE for obj in cluster.list(kind, labels=label)
    ]
    planned += [_whole(name) for name in ours if name == SYSTEM_NAMESPACE]
    return planned


def _whole(namespace: str) -> str:
    return f"Namespace {namespace}, with all that was in it"


def _loaders(cluster: Cluster, label: str, left_to_others: set[str]) -> list[tuple[str, str]]:
    """Return namespace and name of our pods in namespaces that are not ours: the loaders of a target."""
    found = cluster.list("Pod", labels=f"{label},{LABEL_ROLE}=client")
    places = [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in found]
    return [(namespace, name) for namespace, name in places if namespace not in left_to_others]


def _remove_loaders(cluster: Cluster, label: str, *, left_to_others: set[str]) -> list[str]:
    return [
        f"loader {namespace}/{name}"
        for namespace, name in _loaders(cluster, label, left_to_others)
        if cluster.delete("Pod", name, namespace)
    ]


def _delete_namespaces(cluster: Cluster, names: Iterable[str], seconds: float) -> list[str]:
    wanted = [name for name in names if cluster.delete("Namespace", name)]
    for name in wanted:
        try:
            cluster.wait(
                f"namespace {name} is gone",
                lambda name=name: cluster.find("Namespace", name) is None,  # type: ignore[misc]
                seconds=seconds,
                every=0.1,
            )
        except NotReady as error:
            raise ExperimentFailure(
                f"{error}: a finalizer, or a node that does not answer, may hold it: kubectl get all -n {name}"
            ) from error
    return [_whole(name) for name in wanted]


def captured_by_node(pods: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Map each node to the UIDs of its pods whose condition says that they are captured."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        if is_captured(pod):
            found.setdefault(pod["spec"]["nodeName"], []).append(pod["metadata"]["uid"])
    return found


def _release(cluster: Cluster, staying: list[str]) -> list[str]:
    """Take the remaining namespaces out of the mesh: agents release their pods; where there is no agent, a pod of ours
    does.
    """
    for name in staying:
        cluster.patch("Namespace", name, {"metadata": {"labels": {LABEL_MESH: None, LABEL_MODE: None}}})

    def left() -> dict[str, list[str]]:
        return captured_by_node(pod for name in staying for pod in cluster.list("Pod", name))

    released = [f"mesh labels of namespace {name}" for name in staying]
    if not staying or not left():
        return released
    try:
        cluster.wait("the agents release their pods", lambda: not left(), seconds=_AGENT_SECONDS, every=0.1)
        return [*released, "capture of its pods, by the node agents"]
    except NotReady:
        pass
    for node, uids in left().items():
        pod = plan_release_pod(node, uids)
        if cluster.find("Namespace", SYSTEM_NAMESPACE) is None:
            raise ExperimentFailure(
                f"{len(uids)} pods on node {node} are captured, and {SYSTEM_NAMESPACE} is gone: restart them"
            )
        cluster.delete("Pod", pod["metadata"]["name"], SYSTEM_NAMESPACE, grace=0)
        cluster.create(pod)
        name = pod["metadata"]["name"]

        def ended(name: str = name) -> str:
            return {"Succeeded": "ok", "Failed": "failed"}.get(
                cluster.get("Pod", name, SYSTEM_NAMESPACE)["status"].get("phase", ""), ""
            )

        if cluster.wait(f"pods on node {node} released", ended, seconds=60, every=0.1) != "ok":
            raise ExperimentFailure(
                f"node {node}: {cluster.logs(SYSTEM_NAMESPACE, name).strip() or 'no log'}: restart its pods"
            )
        released.append(f"capture of {len(uids)} pods on node {node}, by a pod of ours")
    return released


def plan_release_pod(node: str, uids: Iterable[str]) -> Object:
    """Plan the pod that un-captures the pods of a node whose agent is gone."""
    name, command = f"release-{node}"[:63].rstrip("-."), ["python", "-m", "chaos.mesh.agent.release", *uids]
    return manifest(name, command, node=node, run="clean", seconds=60)


def clean_cluster(text: str, *, run: str = "", namespaces: tuple[str, ...] = (), dry_run: bool = False) -> list[str]:
    """Clean the cluster that an option names: an embedded or kind cluster is ours and is deleted whole, a context loses
    its runs. Returns a line for each thing removed, or (`dry_run`) that would be. Raises Misuse for an argument that
    such a cluster would ignore.
    """
    from chaos.cluster.consent import Consent
    from chaos.cluster.providers import THEIRS, Kind, connect_to, delete_own, parse_spec

    spec = parse_spec(text)
    for option, given, by in (("--namespaces", namespaces, THEIRS), ("--run", run, {*THEIRS, Kind.EMBEDDED})):
        if given and (why := spec.why_ignored(option, by)):
            raise Misuse(why)
    if not spec.kind.theirs:
        return delete_own(spec, run=run, dry_run=dry_run)
    # Cleaning needs no second consent, even in production: it removes what is ours and nothing else.
    cluster = connect_to(spec, consent=Consent(production=True, namespaces=namespaces))
    try:
        return plan_removal(cluster, run=run) if dry_run else remove_runs(cluster, run=run)
    finally:
        cluster.close()
