"""Chooses targets: never an empty selection, and the same one for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from chaos.cluster.client import Cluster
from chaos.errors import NoTargets
from chaos.faults.container import container_status
from chaos.faults.model import Target
from chaos.names import LABEL_TENANT

T = TypeVar("T")


class Pick(StrEnum):
    """How many of the candidates are meant."""

    ONE = "one"  # the first in the order of their names
    ALL = "all"
    RANDOM = "random"  # one, by the seed


def pick(candidates: Iterable[T], how: Pick, *, what: str, name: Callable[[T], str] = str,
         chance: random.Random | None = None) -> list[T]:
    """The chosen candidates; raises NoTargets naming `what` when there are none."""
    ordered = sorted(candidates, key=name)
    if not ordered:
        raise NoTargets(f"{what}: nothing matches, so nothing would be tested")
    match how:
        case Pick.ONE:
            return ordered[:1]
        case Pick.ALL:
            return ordered
        case Pick.RANDOM:
            return [(chance or random.Random(0)).choice(ordered)]


def container_target(pod: dict[str, Any], container: str) -> Target:
    """The target that is one container of a live pod."""
    meta = pod["metadata"]
    return Target(
        kind="container",
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        container=container,
        container_id=container_status(pod, container).get("containerID", ""),
        node=pod["spec"].get("nodeName", ""),
        tenant=meta.get("labels", {}).get(LABEL_TENANT, ""),
    )


def containers(cluster: Cluster, namespace: str, container: str, *, labels: str | None = None, node: str | None = None,
               ) -> Sequence[Target]:
    """Running containers of that name, by namespace, labels and node; may be empty: `pick` refuses that."""
    return [
        container_target(pod, container)
        for pod in cluster.list("Pod", namespace, labels=labels)
        if (node is None or pod["spec"].get("nodeName") == node)
        and "running" in container_status(pod, container).get("state", {})
    ]
