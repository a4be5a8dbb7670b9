"""Finds containers that restarted and should not have, by comparison before and after every trial of every scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos.kube.client import Cluster
from chaos.kube.objects import ContainerSeen, containers_seen, is_deleting

Snapshot = Mapping[tuple[str, str], ContainerSeen]  # (pod UID, container) -> state


def container_snapshot(cluster: Cluster, namespaces: Iterable[str]) -> Snapshot:
    """Read every container of every pod of the namespaces. A pod that is being deleted counts as gone; its successor
    counts.
    """
    found: dict[tuple[str, str], ContainerSeen] = {}
    for namespace in namespaces:
        for pod in cluster.list("Pod", namespace):
            if not is_deleting(pod):
                found |= {(one.uid, one.container): one for one in containers_seen(pod).values()}
    return found


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
