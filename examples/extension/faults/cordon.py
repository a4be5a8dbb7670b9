"""A node takes no new pods; what runs on it runs on."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from sharedfate import Cluster, Evidence, FaultShape, Misuse, Need, NoEffect, Receipt, RecoveryFailed, Target, Witness


@dataclass(frozen=True, slots=True)
class Cordon:
    """Cordon a node; recover makes it as it was. `why`: a word for whoever looks at the node."""

    name: ClassVar[str] = "cordon"  # as in `sharedfate inject cordon`; the file is cordon.py, the class Cordon
    shape: ClassVar[FaultShape] = FaultShape.HELD  # PULSE | HELD | GRADUAL
    targets: ClassVar[frozenset[str]] = frozenset({"node"})  # container | pod | workload | node
    aspects: ClassVar[frozenset[str]] = frozenset({"scheduling"})  # what two faults must not both touch
    witness: ClassVar[Witness] = Witness.NONE  # the independent source that shows its effect
    needs: ClassVar[tuple[Need, ...]] = (Need.NODES,)  # what `sharedfate faults --check` asks
    why: str = "tried"  # a setting: a JSON value with a default, `--set why=patching`; refused in __post_init__

    def __post_init__(self) -> None:
        if not self.why or len(self.why) > 63:
            raise Misuse(f"why is {self.why!r}, and should be a word of at most 63 characters")

    def plan(self, cluster: Cluster, target: Target) -> dict[str, Any]:
        """Read what the undo needs; change nothing."""
        return {"was": _is_cordoned(cluster, target)}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        """Break it, and read back that it broke."""
        at = time.time_ns()
        mark = {"annotations": {_mark(receipt): self.why}}
        cluster.patch("Node", receipt.target.name, {"metadata": mark, "spec": {"unschedulable": True}})
        if not _is_cordoned(cluster, receipt.target):
            raise NoEffect(f"{receipt.target}: cordoned, and it still takes pods: does a controller undo it?")
        return Evidence(at, {"unschedulable": True})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        """Mend it from the receipt alone, and read back that it is whole; twice, or by another process."""
        was = bool(receipt.facts["was"])
        mark = {"annotations": {_mark(receipt): None}}  # None removes a field
        cluster.patch("Node", receipt.target.name, {"metadata": mark, "spec": {"unschedulable": was or None}})
        if _is_cordoned(cluster, receipt.target) is not was:
            raise RecoveryFailed(f"{receipt.target}: it should take pods again, and does not")
        return Evidence(time.time_ns(), {"unschedulable": was})


def _is_cordoned(cluster: Cluster, target: Target) -> bool:
    return bool(cluster.get("Node", target.name)["spec"].get("unschedulable"))


def _mark(receipt: Receipt) -> str:
    return f"example.org/cordon-{receipt.id}"  # named after the receipt: the undo removes its own and no other
