"""SIGKILL (or another signal) to a container's first process. A pulse: the kubelet brings the container back."""

from __future__ import annotations

import signal as signals
import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.cluster.client import Cluster
from chaos.errors import NotReady, RecoveryFailed
from chaos.faults import helper_pod
from chaos.faults.container import replaced_and_ready, running_container
from chaos.faults.model import Evidence, Facts, FaultShape, Receipt, Target


@dataclass(frozen=True, slots=True)
class Kill:
    """End a container's first process and see it gone; recovered when its successor runs and is ready.

    Args:
        signal: number; 9 (SIGKILL) or 15 (SIGTERM).
        restart_seconds: longest wait for the successor: back-off after repeated kills reaches 300 s.
    """

    name: ClassVar[str] = "kill"
    shape: ClassVar[FaultShape] = "pulse"
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    signal: int = int(signals.SIGKILL)
    restart_seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return running_container(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        arguments = [*helper_pod.container_arguments(receipt.target), "--signal", str(self.signal)]
        evidence = helper_pod.run(cluster, receipt, "kill", arguments, awaited="injected", seconds=15)
        helper_pod.dismiss(cluster, receipt, "kill")
        return evidence

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        helper_pod.dismiss(cluster, receipt, "kill")
        try:
            status = cluster.wait(
                f"{receipt.target}: a new container, ready",
                lambda: replaced_and_ready(cluster, receipt.target, dict(receipt.facts)),
                seconds=self.restart_seconds,
                every=0.03,
            )
        except NotReady as error:
            raise RecoveryFailed(str(error)) from error
        return Evidence(time.time_ns(), {"container_id": status["containerID"], "restarts": status["restartCount"]})
