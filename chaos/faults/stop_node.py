"""A node is stopped: its plug is pulled. Only where the cluster owns its nodes (see `node`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.cluster.client import Cluster
from chaos.faults import node
from chaos.faults.model import EXISTENCE, Evidence, Facts, FaultShape, Receipt, Target
from chaos.faults.needs import Need


@dataclass(frozen=True, slots=True)
class StopNode:
    """Pull a node's plug: every process on it is gone at once. Recovered when it is Ready again.

    Args:
        noticed: wait until the cluster says NotReady (about 40 s) before the fault counts as injected.
        ready_seconds: longest wait for the node to be Ready again.
    """

    name: ClassVar[str] = "stop-node"
    shape: ClassVar[FaultShape] = "held"
    targets: ClassVar[frozenset[str]] = frozenset({"node"})
    touches: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    needs: ClassVar[tuple[Need, ...]] = (Need.NODE_POWER,)
    noticed: bool = False
    ready_seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return node.plan(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return node.broken(cluster, receipt, "power-off", noticed=self.noticed)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return node.mended(cluster, receipt, "power-on", seconds=self.ready_seconds)
