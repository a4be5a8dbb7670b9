"""A node is cut off the network. Only where the cluster owns its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.node import NodeFault


@dataclass(frozen=True, slots=True)
class CutNode(NodeFault):
    """Cut a node off the network: its processes live, and no packet reaches or leaves it, those of the API included."""

    name: ClassVar[str] = "cut-node"
    activity: ClassVar[Activity] = Activity("cut_node", "reconnect_node", deadline=180.0)
    breaks: ClassVar[str] = "cut-link"
    mends: ClassVar[str] = "restore-link"
