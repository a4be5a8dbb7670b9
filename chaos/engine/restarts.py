"""Which containers restarted that should not have: compared before and after every trial of every scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chaos.kube.client import Cluster


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container of one pod at one moment."""

    namespace: str
    pod: str
    container: str
    container_id: str
    restarts: int
    init: bool = False  # an init container, native sidecars included


Snapshot = Mapping[tuple[str, str], ContainerState]  # (pod UID, container) -> state


def container_snapshot(cluster: Cluster, namespaces: Iterable[str]) -> Snapshot:
    """Every container of every pod of the namespaces; a pod that is ending is as good as gone.

    A Deployment is rolled out while its old pods still end: they are in no count of replicas.
    """
    found: dict[tuple[str, str], ContainerState] = {}
    for namespace in namespaces:
        for pod in cluster.list("Pod", namespace):
            if "deletionTimestamp" in pod["metadata"]:
                continue
            meta, status = pod["metadata"], pod.get("status", {})
            for part in ("initContainerStatuses", "containerStatuses"):
                for state in status.get(part) or []:
                    found[meta["uid"], state["name"]] = ContainerState(
                        namespace,
                        meta["name"],
                        state["name"],
                        state.get("containerID", ""),
                        state.get("restartCount", 0),
                        part == "initContainerStatuses",
                    )
    return found


def compare_restarts(before: Snapshot, after: Snapshot, *, expected: Iterable[str] = ()) -> list[str]:
    """A sentence for each container that was replaced or went, but for those of the expected pods' UIDs."""
    allowed = set(expected)
    problems = []
    for (uid, container), old in sorted(
        before.items(), key=lambda item: (item[1].namespace, item[1].pod, item[1].container)
    ):
        if uid in allowed:
            continue
        new = after.get((uid, container))
        name = f"{old.namespace}/{old.pod}[{container}]"
        if new is None:
            problems.append(f"{name} is gone")
        elif new.container_id != old.container_id or new.restarts != old.restarts:
            problems.append(f"{name} restarted ({old.restarts} -> {new.restarts})")
    return problems
