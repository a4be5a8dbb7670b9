"""Which faults cannot be held at once: checked when faults are composed, and against those that another process
holds.

Two faults clash when their targets overlap and they touch the same aspect of it, or one of them takes the whole target
away: the undo of the second would then restore what the first had broken, or find nothing to restore.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from chaos.errors import Misuse
from chaos.faults import receipts
from chaos.faults.catalogue import fault_from
from chaos.faults.model import EXISTENCE, Fault, Receipt, Target
from chaos.kube.client import Cluster
from chaos.kube.objects import selects
from chaos.model.faulting import FaultPhase

_POD_WIDE: Final = frozenset({EXISTENCE, "link", "names", "load"})  # of a container's whole pod


def overlap(one: Target, other: Target) -> bool:
    """Whether an object can belong to both targets: they are the same, or one contains the other."""
    if one.kind == other.kind:
        same = (one.namespace, one.name) == (other.namespace, other.name)
        return same and one.container == other.container and one.workload_kind == other.workload_kind
    small, large = sorted((one, other), key=lambda target: ("container", "pod", "workload", "node").index(target.kind))
    match large.kind:
        case "pod":
            return (small.namespace, small.name) == (large.namespace, large.name)
        case "workload":
            return small.namespace == large.namespace and _picks(large, small)
        case _:
            return small.node == large.name


def _picks(workload: Target, pod: Target) -> bool:
    """Whether the workload's selector matches the pod; an unknown selector matches every pod."""
    return selects(workload.selector, dict(label.split("=", 1) for label in pod.labels.split(",") if label))


def detect_clash(one: tuple[Fault, Target], other: tuple[Fault, Target]) -> str:
    """Return why the two cannot be held at once; "" when they can."""
    (fault, target), (second, place) = one, other
    aspects = fault.aspects & second.aspects
    existence = EXISTENCE in fault.aspects | second.aspects
    same_pod = {target.kind, place.kind} == {"container"} and (target.namespace, target.name) == (
        place.namespace,
        place.name,
    )
    met = overlap(target, place) or (same_pod and (existence or bool(aspects & _POD_WIDE)))
    if not met or not (aspects or existence):
        return ""
    what = "the existence" if existence else "the " + " and the ".join(sorted(aspects))
    return f"{fault.name} on {target} and {second.name} on {place} both touch {what} of it"


def refuse_clashes(planned: Sequence[tuple[Fault, Target]]) -> None:
    """Raise Misuse that lists every pair that clashes."""
    if found := [text for one, other in combinations(planned, 2) if (text := detect_clash(one, other))]:
        raise Misuse("these faults cannot be held at once: " + "; ".join(found))


def refuse_held(
    cluster: Cluster, planned: Sequence[tuple[Fault, Target]], *, own: Receipt | None = None, version: str = ""
) -> None:
    """Raise Misuse that names the holder of every open receipt that clashes with the planned faults.

    Whoever injects stores its receipt (`own`, of that `version`) before it asks, so that of two processes that begin at
    the same time at least one sees the other; the one that stored last gives way.
    """
    found = []
    for receipt, stored in receipts.look(cluster):
        if not isinstance(receipt, Receipt) or (own is not None and receipt.id == own.id):
            continue
        if own is not None and receipt.phase is FaultPhase.PLANNED and _later(stored, version):
            continue  # it is about to see ours
        try:
            held = fault_from(receipt.fault, receipt.settings), receipt.target
        except Misuse:  # of another release, or somebody's own: what it changes is not known, so all of its target is
            found += [
                f"{receipt.fault}, which cannot be read here, holds {receipt.target}: {receipt.holder}"
                for _, target in planned
                if overlap(target, receipt.target)
            ]
            continue
        found += [f"{text}: {receipt.holder}" for one in planned if (text := detect_clash(one, held))]
    if found:
        raise Misuse("another holds what this fault would change: " + "; ".join(found) + ". `sharedfate stop` ends it")


def _later(version: str, than: str) -> bool:
    """Whether an object's version is the newer one; versions that are no numbers cannot be compared."""
    return version.isdigit() and than.isdigit() and int(version) > int(than)
