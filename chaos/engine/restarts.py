"""Finds containers that restarted and should not have, by comparison before and after every trial of every scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from chaos.kube.client import Cluster, Object
from chaos.kube.objects import ContainerSeen, containers_seen, is_deleting
from chaos.names import LABEL_ROLE, SYSTEM_NAMESPACE

Snapshot = Mapping[tuple[str, str], ContainerSeen]  # (pod UID, container) -> state

_WATCHDOG: Final = (SYSTEM_NAMESPACE, "watchdog")


def container_snapshot(cluster: Cluster, namespaces: Iterable[str]) -> Snapshot:
    """Read every container of every pod of the namespaces, but for helper pods of ours. A pod that is being deleted
    counts as gone; its successor counts.
    """
    found: dict[tuple[str, str], ContainerSeen] = {}
    for namespace in namespaces:
        for pod in cluster.list("Pod", namespace):
            if not is_deleting(pod) and not _is_helper(pod):
                found |= {(one.uid, one.container): one for one in containers_seen(pod).values()}
    return found


def _is_helper(pod: Object) -> bool:
    """A pod of ours that may begin or end within a trial. The label counts in our own namespace alone."""
    meta = pod["metadata"]
    return bool(meta["namespace"] == SYSTEM_NAMESPACE and (meta.get("labels") or {}).get(LABEL_ROLE) == "helper")


def apart(snapshot: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Return the containers of what is tried, and those of our watchdogs, which no request passes: one that restarts
    says that the machine, or the cluster, could not run it, and nothing of a mesh.
    """
    ours = {key: seen for key, seen in snapshot.items() if (seen.namespace, seen.container) == _WATCHDOG}
    return {key: seen for key, seen in snapshot.items() if key not in ours}, ours


def compare_restarts(before: Snapshot, after: Snapshot, *, excused: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Return a sentence for each container that was replaced or is gone.

    Args:
        excused: (pod UID, container) that the model expects to restart; an empty name excuses the whole pod.
    """
    allowed = set(excused)
    problems = []
    for (uid, container), old in sorted(
        before.items(), key=lambda item: (item[1].namespace, item[1].pod, item[1].container)
    ):
        if {(uid, container), (uid, "")} & allowed:
            continue
        new = after.get((uid, container))
        name = f"{old.namespace}/{old.pod}[{container}]"
        if new is None:
            problems.append(f"{name} is gone")
        elif new.container_id != old.container_id or new.restarts != old.restarts:
            problems.append(f"{name} restarted ({old.restarts} -> {new.restarts})")
    return problems
