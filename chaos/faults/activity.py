"""How a Chaos Toolkit experiment calls a fault: declared by the fault; its actions are made from this and from the
fault's fields (`chaos.toolkit.of_faults`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chaos.faults.model import Fault
from chaos.model.faulting import FaultShape
from chaos.names import CONTROL_PLANE


class ActsAt(StrEnum):
    """What an action breaks, which decides the arguments that choose it."""

    PROXY = "proxy"  # tenant, layer, side: of a tenant's path
    WORKLOAD = "workload"  # workload, namespace
    PLANE = "plane"  # our control plane: nothing is to be chosen
    NODE = "node"  # node
    BY_HAND = "by hand"  # its action needs more than the fault knows: it is written in chaos/toolkit/actions.py


@dataclass(frozen=True, slots=True)
class Activity:
    """How experiments call a fault. Empty fields follow from the fault: its own name, and what it acts on.

    Attributes:
        action, undo: names of the two functions; a pulse needs no undo.
        place: of the fault's targets the one that experiments choose.
        deadline: seconds, unless the experiment says otherwise.
        fails: those behind the target are expected to see errors; else errors or slowness.
        spares: those behind the target may or may not be hurt: they are reported and not judged.
        workload: that is meant unless the experiment names one.
    """

    action: str = ""
    undo: str = ""
    place: ActsAt | None = None
    deadline: float = 60.0
    fails: bool = False
    spares: bool = False
    workload: str = f"Deployment/{CONTROL_PLANE}"


def activity_of(fault: type[Fault]) -> Activity:
    """Return the fault's declaration with its names and its place filled in. An inherited one is another fault's."""
    said: Activity = vars(fault).get("activity", Activity())
    name = fault.name.replace("-", "_")
    return Activity(
        action=said.action or name,
        undo="" if fault.shape is FaultShape.PULSE else said.undo or f"undo_{name}",
        place=said.place or _place_of(fault.targets),
        deadline=said.deadline,
        fails=said.fails,
        spares=said.spares,
        workload=said.workload,
    )


def _place_of(targets: frozenset[str]) -> ActsAt:
    if targets & {"container", "pod"}:
        return ActsAt.PROXY
    return ActsAt.WORKLOAD if "workload" in targets else ActsAt.NODE
