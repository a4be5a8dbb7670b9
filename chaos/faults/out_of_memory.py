"""A container reaches its memory limit: its own cgroup is filled until the kernel kills it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from chaos.errors import Misuse, NoEffect, NotReady
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container, serving_endpoint
from chaos.faults.kill import never_injected, serving_arguments, successor
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status
from chaos.model.faulting import FaultPhase, FaultShape

_SIGKILLED: Final = 137  # exit code of a process that ended by SIGKILL


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Fill a container's memory limit until the kernel kills it; recovered when its successor is ready.

    The memory is taken by a process of ours that the kernel may not kill, in the container's cgroup, and is given back
    the moment the container dies. The limit itself is not changed: its successor starts with what it had.

    Args:
        most_mib: refuse a container whose limit is higher: so much would really be taken from the node.
        restart_seconds: longest wait for the successor.
    """

    name: ClassVar[str] = "out-of-memory"
    shape: ClassVar[FaultShape] = FaultShape.PULSE
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"life", "memory"})
    witness: ClassVar[Witness] = Witness.CONTAINER
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("fill_proxy_memory", deadline=120.0, fails=True)
    most_mib: int = 2048
    restart_seconds: float = 90.0

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        facts = running_container(cluster, target)
        pod = cluster.get("Pod", target.name, target.namespace)
        spec = next(
            one
            for part in ("containers", "initContainers")
            for one in pod["spec"].get(part) or []
            if one["name"] == target.container
        )
        if "memory" not in spec.get("resources", {}).get("limits", {}):
            raise Misuse(
                f"{target} has no memory limit: only the node's own memory could run out, and that is no fault of one "
                "target"
            )
        return {**facts, "serving": serving_endpoint(pod, target.container)}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        arguments = [
            *helper_pod.container_arguments(receipt.target),
            "--most",
            str(self.most_mib),
            "--for",
            str(self.restart_seconds),
            *serving_arguments(receipt),
        ]
        first = helper_pod.run(
            cluster,
            receipt,
            "out-of-memory",
            arguments,
            awaited=FaultPhase.INJECTED,
            seconds=30 + self.restart_seconds,
            module="chaos.inpod.oom_helper",
        )

        def said() -> dict[str, Any]:
            status = container_status(refuse_vanished(cluster, receipt.target), receipt.target.container)
            ends = (status.get(state, {}).get("terminated") or {} for state in ("state", "lastState"))
            end = next((one for one in ends if one.get("containerID") == receipt.facts["container_id"]), {})
            return {"reason": end["reason"], "exit_code": end.get("exitCode")} if end else {}

        try:
            seen = cluster.wait(f"{receipt.target}: its end in its status", said, seconds=20)
        except NotReady as error:
            raise NoEffect(str(error)) from error
        if not killed_for_memory(seen, first.seen.get("oom_kills")):
            raise NoEffect(f"{receipt.target}: its container ended, and not because of memory: {seen}")
        return Evidence(first.at, {**first.seen, **seen})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        if receipt.phase is FaultPhase.PLANNED and never_injected(cluster, receipt, "out-of-memory"):
            return Evidence(time.time_ns(), {"untouched": True})
        return successor(cluster, receipt, "out-of-memory", self.restart_seconds)


def killed_for_memory(end: Mapping[str, Any], oom_kills: int | None) -> bool:
    """Whether the kernel ended a container for want of memory: its status says so, or the control group's own count did
    rise. With cgroups v1 a runtime may report the end before it hears of the cause, and calls it an Error.

    Args:
        end: of the container, as its status has it: reason and exit_code.
        oom_kills: processes of its control group that the kernel killed meanwhile; None: they could not be counted.
    """
    return end["reason"] == "OOMKilled" or (end["exit_code"] == _SIGKILLED and bool(oom_kills))
