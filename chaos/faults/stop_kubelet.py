"""A node loses its kubelet: what runs goes on, and nobody looks after it. Only where the cluster owns its nodes (see `node`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.cluster.client import Cluster
from chaos.faults import node
from chaos.faults.model import EXISTENCE, Evidence, Facts, FaultShape, Receipt, Target
from chaos.faults.needs import Need


@dataclass(frozen=True, slots=True)
class StopKubelet:
    """Stop a node's kubelet: containers go on, and nobody restarts, probes or reports them.

    Args:
        noticed: wait until the cluster says NotReady (about 40 s) before the fault counts as injected.
        ready_seconds: longest wait for the node to be Ready again.
    """

    name: ClassVar[str] = "stop-kubelet"
    shape: ClassVar[FaultShape] = "held"
    targets: ClassVar[frozenset[str]] = frozenset({"node"})
    touches: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    needs: ClassVar[tuple[Need, ...]] = (Need.NODE_POWER,)
    noticed: bool = False
    ready_seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return node.plan(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return node.broken(cluster, receipt, "stop-kubelet", noticed=self.noticed)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return node.mended(cluster, receipt, "start-kubelet", seconds=self.ready_seconds)
