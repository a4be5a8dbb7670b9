"""A container has no file descriptor left: what it has open goes on, and it opens no further file or connection."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.errors import TargetVanished
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class FullFiles:
    """Cut the limit of open files of a container's processes to what they have open; the helper restores it by itself
    at its deadline.

    Connections that stand go on. A server accepts no more; a proxy reaches nobody to whom it has no connection yet.
    What is closed is taken away as well: the helper looks twenty times a second.

    Args:
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "full-files"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"files"})
    witness: ClassVar[Witness] = Witness.FILES
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("fill_files", "free_files", spares=True)
    seconds: float = 0.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return running_container(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return helper_pod.hold(cluster, receipt, "fill-files", self.seconds)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        helper_pod.end(cluster, receipt, "fill-files")  # it restores the limits, and must not cut them later
        limits = json.dumps(receipt.evidence.get("limits", {}))
        arguments = [*helper_pod.container_arguments(receipt.target), "--limits", limits]
        try:
            done = helper_pod.run(cluster, receipt, "free-files", arguments, awaited=FaultPhase.RECOVERED, seconds=15)
            refuse_vanished(cluster, receipt.target)
            return done
        except TargetVanished:  # by the helper's word, or by ours
            refuse_vanished(cluster, receipt.target)
            return Evidence(time.time_ns(), {"replaced": True})  # a successor has limits of its own
