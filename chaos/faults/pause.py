"""SIGSTOP to every process of a container, SIGCONT to end it: a gray failure, in which connections stay open and
nothing answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.errors import NoEffect, RecoveryFailed, TargetVanished
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop a container's processes, seen in their state; the helper continues them by itself at its deadline.

    Args:
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "pause"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"life"})
    witness: ClassVar[Witness] = Witness.SILENCE
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("pause_proxy", "resume_proxy")
    seconds: float = 0.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return running_container(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return helper_pod.hold(cluster, receipt, "pause", self.seconds)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        if receipt.phase is FaultPhase.PLANNED:
            helper_pod.end(cluster, receipt, "pause")  # it may not have stopped anything yet, and must not do so later
        arguments = helper_pod.container_arguments(receipt.target)
        try:
            evidence = helper_pod.run(cluster, receipt, "resume", arguments, awaited=FaultPhase.RECOVERED, seconds=15)
            refuse_vanished(cluster, receipt.target)  # its processes may outlive the object
            return evidence
        except NoEffect as error:
            raise RecoveryFailed(f"{receipt.target}: still stopped: {error}") from error
        except TargetVanished:  # by the helper's word, or by ours
            refuse_vanished(cluster, receipt.target)
            return Evidence(
                time.time_ns(), {"replaced": True}
            )  # the kubelet did: a liveness probe, or its process was ended
