"""A noisy neighbour: a pod beside the target, on its node, that burns CPU or holds memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Misuse, TargetVanished
from chaos.faults import helper_pod
from chaos.faults.activity import Activity, ActsAt
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class Hog:
    """Use CPU or memory on the target's node until recovered; ends by itself at its deadline. The target itself is
    untouched.

    Args:
        cores: CPU, in cores, that is asked for; the kernel divides what there is.
        memory_mib: memory that is held, every page of it written.
        seconds: its own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "hog"
    shape: ClassVar[FaultShape] = FaultShape.GRADUAL
    targets: ClassVar[frozenset[str]] = frozenset({"container", "pod", "node"})
    aspects: ClassVar[frozenset[str]] = frozenset()  # any number may sit beside each other
    witness: ClassVar[Witness] = Witness.USAGE
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("hog_node", "release_node", ActsAt.NODE)
    cores: int = 1
    memory_mib: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.cores < 0 or self.memory_mib < 0 or not (self.cores or self.memory_mib):
            raise Misuse(
                f"fault hog: cores is {self.cores} and memory_mib {self.memory_mib}: want one above 0, none below"
            )

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        node = target.name if target.kind == "node" else target.node
        if not node or cluster.find("Node", node) is None:
            raise TargetVanished(f"{target}: its node {node!r} is not there")
        return {"node": node}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        seconds = helper_pod.hold_seconds(receipt, self.seconds)
        arguments = ["--cores", str(self.cores), "--memory", str(self.memory_mib), "--for", str(seconds)]
        limits: dict[str, Any] = {"cpu": str(self.cores)} if self.cores else {"cpu": "1"}
        limits["memory"] = f"{self.memory_mib + 96}Mi"
        return helper_pod.run(
            cluster,
            receipt,
            "hog",
            arguments,
            awaited=FaultPhase.INJECTED,
            seconds=seconds,
            module="chaos.inpod.hog",
            node=receipt.facts["node"],
            privileged=False,
            resources={"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": limits},
        )

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        helper_pod.end(cluster, receipt, "hog")
        return Evidence(time.time_ns(), {"gone": helper_pod.pod_name(receipt, "hog")})
