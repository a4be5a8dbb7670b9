"""A node loses power. Only where the cluster owns its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.node import NodeFault


@dataclass(frozen=True, slots=True)
class StopNode(NodeFault):
    """Cut a node's power: every process on it is gone at once."""

    name: ClassVar[str] = "stop-node"
    activity: ClassVar[Activity] = Activity("stop_node", "start_node", deadline=180.0)
    breaks: ClassVar[str] = "power-off"
    mends: ClassVar[str] = "power-on"
