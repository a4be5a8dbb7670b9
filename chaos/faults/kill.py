"""SIGKILL (or another signal) to a container's first process. A pulse: the kubelet brings the container back."""

from __future__ import annotations

import signal as signals
import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.errors import NotReady, RecoveryFailed, TargetVanished
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import replaced_and_ready, running_container, serving_endpoint
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a container's first process and see it gone; recovered when its successor runs and is ready.

    When it began to serve again is read off the successor itself, many times a second; its readiness, by which the
    kubelet goes, comes up to a probe's period later, and is told beside it (`ready_at`). The traffic in between is
    sound already, except where the container's readiness is that of a server's pod: callers have no endpoint until
    then.

    Args:
        signal: number; 9 (SIGKILL) or 15 (SIGTERM).
        restart_seconds: longest wait for the successor: back-off after repeated kills reaches 300 s.
    """

    name: ClassVar[str] = "kill"
    shape: ClassVar[FaultShape] = FaultShape.PULSE
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"life"})
    witness: ClassVar[Witness] = Witness.CONTAINER
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("kill_proxy", deadline=120.0, fails=True)
    signal: int = int(signals.SIGKILL)
    restart_seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        facts = running_container(cluster, target)
        return {
            **facts,
            "serving": serving_endpoint(cluster.get("Pod", target.name, target.namespace), target.container),
        }

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        arguments = [
            *helper_pod.container_arguments(receipt.target),
            "--signal",
            str(self.signal),
            "--for",
            str(self.restart_seconds),
        ]
        arguments += serving_arguments(receipt)
        return helper_pod.run(
            cluster, receipt, "kill", arguments, awaited=FaultPhase.INJECTED, seconds=self.restart_seconds
        )

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        if receipt.phase is FaultPhase.PLANNED and never_injected(cluster, receipt, "kill"):
            return Evidence(time.time_ns(), {"untouched": True})
        return successor(cluster, receipt, "kill", self.restart_seconds)


def serving_arguments(receipt: Receipt) -> list[str]:
    """Return the arguments by which a helper that killed a container's process recognises its successor; none without a
    suitable probe.
    """
    endpoint = receipt.facts.get("serving")
    return ["--serving", str(endpoint)] if endpoint else []


def successor(cluster: Cluster, receipt: Receipt, action: str, seconds: float) -> Evidence:
    """Wait for the container's next process to be ready; the evidence is when it began to serve, where the helper saw
    it.

    Raises RecoveryFailed.
    """
    try:
        status = cluster.wait(
            f"{receipt.target}: a new container, ready",
            lambda: replaced_and_ready(cluster, receipt.target, dict(receipt.facts)),
            seconds=seconds,
            every=0.03,
        )
    except NotReady as error:
        helper_pod.dismiss(cluster, receipt, action)
        raise RecoveryFailed(str(error)) from error
    ready = time.time_ns()
    serving = helper_pod.said(cluster, receipt, action, "serving")
    helper_pod.dismiss(cluster, receipt, action)
    return Evidence(
        int(serving.get("effect", ready)),
        {"container_id": status["containerID"], "restarts": status["restartCount"], "ready_at": ready},
    )


def never_injected(cluster: Cluster, receipt: Receipt, action: str) -> bool:
    """Whether the container's process is still alive, once the helper that was to kill it no longer can."""
    helper_pod.end(cluster, receipt, action)
    try:
        helper_pod.run(
            cluster, receipt, "look", helper_pod.container_arguments(receipt.target), awaited="present", seconds=15
        )
    except TargetVanished:
        return False
    return True
