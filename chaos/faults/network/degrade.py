"""A pod's link degrades: its packets are delayed or slowed, and some are lost.

A process of ours delays (`delay_line`), the kernel loses and slows. The ports by which probes come and the load is
watched are spared, delays and losses: the machine's own trouble must be told from the fault's. A proxy whose
connections live in the pods that it serves has no link of its own, and is refused: degrade those pods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.errors import Misuse
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import running_container
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.faults.network.narrowed import SPARED
from chaos.faults.network.partition import MODULE, mended
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape


@dataclass(frozen=True, slots=True)
class Degrade:
    """Delay, slow or lose the packets of the target's pod until recovered, or until the helper's deadline.

    Args:
        delay_ms: added to everything that the pod sends, so that a round trip grows by it once.
        jitter_ms: the delay varies by as much, up and down; packets may overtake each other.
        loss: share of packets lost, each way, 0 to 1.
        rate_kbit: most that the pod sends, in kilobits a second; 0 is no limit.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "degrade"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"link"})
    witness: ClassVar[Witness] = Witness.LINK
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("degrade_proxy", "mend_proxy_link")
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    rate_kbit: int = 0
    seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {value}: {right}"
            for name, value, good, right in (
                ("delay_ms", self.delay_ms, 0 <= self.delay_ms <= 10_000, "0 to 10000"),
                ("jitter_ms", self.jitter_ms, 0 <= self.jitter_ms <= self.delay_ms, "0 to delay_ms"),
                ("loss", self.loss, 0 <= self.loss <= 1, "0 to 1"),
                (
                    "rate_kbit",
                    self.rate_kbit,
                    self.rate_kbit == 0 or self.rate_kbit >= 64,
                    "0 (no limit) or at least 64",
                ),
            )
            if not good
        ]
        if not wrong and not (self.delay_ms or self.loss or self.rate_kbit):
            wrong.append("nothing is degraded: set delay_ms, loss or rate_kbit")
        if wrong:
            raise Misuse("fault degrade: " + "; ".join(wrong))

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return running_container(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        seconds = helper_pod.hold_seconds(receipt, self.seconds)
        arguments = [
            "--receipt",
            receipt.id,
            *helper_pod.container_arguments(receipt.target),
            "--for",
            str(seconds),
            "--delay",
            str(self.delay_ms),
            "--jitter",
            str(self.jitter_ms),
            "--loss",
            str(self.loss),
            "--rate",
            str(self.rate_kbit),
            "--seed",
            str(self.seed),
            "--spare",
            *map(str, SPARED),
        ]
        return helper_pod.run(
            cluster, receipt, "degrade", arguments, awaited=FaultPhase.INJECTED, seconds=seconds, module=MODULE
        )

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        # The holder first, so that what it still holds in its queue is sent; then whatever a dead one left.
        helper_pod.dismiss(cluster, receipt, "degrade")
        return mended(cluster, receipt, "degrade", ["--degraded"])
