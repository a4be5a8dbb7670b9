"""A container crashes whenever it starts: each successor is killed, and the kubelet's back-off grows."""

from __future__ import annotations

import signal as signals
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import NoEffect, NotReady, RecoveryFailed
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container
from chaos.faults.kill import never_injected
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """Kill a container's first process, and every successor, until recovered; seen as a back-off in its status.

    Args:
        signal: number; 9 (SIGKILL) or 15 (SIGTERM).
        back_off_seconds: longest wait for the kubelet to back off.
        restart_seconds: longest wait, on recovery, for a successor that lives: the back-off that was reached must pass.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "crash-loop"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"life"})
    witness: ClassVar[Witness] = Witness.CONTAINER
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("crash_loop_proxy", "stop_crash_loop", deadline=120.0, fails=True)
    signal: int = int(signals.SIGKILL)
    back_off_seconds: float = 30.0
    restart_seconds: float = 330.0
    seconds: float = 0.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return running_container(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        seconds = helper_pod.hold_seconds(receipt, self.seconds)
        arguments = [
            *helper_pod.container_arguments(receipt.target),
            "--signal",
            str(self.signal),
            "--for",
            str(seconds),
        ]
        first = helper_pod.run(cluster, receipt, "crash-loop", arguments, awaited=FaultPhase.INJECTED, seconds=seconds)

        def backs_off() -> dict[str, Any]:
            status = container_status(refuse_vanished(cluster, receipt.target), receipt.target.container)
            state, restarts = status.get("state", {}), status["restartCount"]
            waiting = state.get("waiting", {}).get("reason", "")
            # A kubelet mostly shows a back-off as the end of the last process, and CrashLoopBackOff just before the
            # next start.
            backing_off = waiting == "CrashLoopBackOff" or (
                "terminated" in state and restarts > receipt.facts["restarts"]
            )
            return {"waiting": waiting or "terminated", "restarts": restarts} if backing_off else {}

        try:
            seen = cluster.wait("a back-off", backs_off, seconds=self.back_off_seconds, every=0.05)
        except NotReady as error:
            raise NoEffect(f"{receipt.target}: killed, and the kubelet never backed off: {error}") from error
        return Evidence(first.at, {**first.seen, **seen})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        if receipt.phase is FaultPhase.PLANNED and never_injected(cluster, receipt, "crash-loop"):
            return Evidence(time.time_ns(), {"untouched": True})
        helper_pod.end(cluster, receipt, "crash-loop")  # no successor is killed from now on

        def lives() -> dict[str, Any]:
            status = container_status(refuse_vanished(cluster, receipt.target), receipt.target.container)
            new = status.get("containerID") not in (None, receipt.facts["container_id"])
            return status if new and status.get("ready") and "running" in status.get("state", {}) else {}

        try:
            status = cluster.wait(
                f"{receipt.target}: a container that lives, ready", lives, seconds=self.restart_seconds
            )
        except NotReady as error:
            raise RecoveryFailed(str(error)) from error
        return Evidence(time.time_ns(), {"container_id": status["containerID"], "restarts": status["restartCount"]})
