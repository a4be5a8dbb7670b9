"""SIGSTOP to every process of a container, SIGCONT to end it: a gray failure, connections stay open and nothing answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.cluster.client import Cluster
from chaos.errors import NoEffect, RecoveryFailed, TargetVanished
from chaos.faults import helper_pod
from chaos.faults.container import running_container
from chaos.faults.model import Evidence, Facts, FaultShape, Receipt, Target


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop a container's processes, seen in their state; the helper continues them at its deadline by itself.

    Args:
        seconds: the helper's own deadline.
    """

    name: ClassVar[str] = "pause"
    shape: ClassVar[FaultShape] = "held"
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    seconds: float = 60.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return running_container(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        arguments = [*helper_pod.container_arguments(receipt.target), "--for", str(self.seconds)]
        return helper_pod.run(cluster, receipt, "pause", arguments, awaited="injected", seconds=self.seconds)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        arguments = helper_pod.container_arguments(receipt.target)
        try:
            return helper_pod.run(cluster, receipt, "resume", arguments, awaited="recovered", seconds=15)
        except NoEffect as error:
            raise RecoveryFailed(f"{receipt.target}: still stopped: {error}") from error
        except TargetVanished:
            return Evidence(0, {"vanished": True})  # what was stopped is no more: nothing is left to mend
        finally:
            helper_pod.dismiss(cluster, receipt, "pause")
            helper_pod.dismiss(cluster, receipt, "resume")
