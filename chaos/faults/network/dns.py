"""DNS fails or lies for one pod: we answer its questions, wrongly or not at all."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar, Literal

from chaos.errors import Misuse
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import running_container
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.faults.network.partition import mended
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape

ANSWERS = ("servfail", "nxdomain", "silence", "lie")


@dataclass(frozen=True, slots=True)
class Dns:
    """Answer the pod's DNS questions until recovered; the helper ends it by itself at its deadline.

    What the pod has resolved already, or caches, is not touched.

    Args:
        answer: `servfail`, `nxdomain`, `silence` (no answer), or `lie` (a wrong address).
        names: which names are meant, by their ends (`svc.cluster.local`); none: all. Others are asked as usual.
        address: what a lie answers; the default leads nowhere.
        seconds: the helper's own deadline; 0: the receipt's.
    """

    name: ClassVar[str] = "dns"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"names"})
    witness: ClassVar[Witness] = Witness.PACKETS
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("spoil_dns", "mend_dns", spares=True)  # what is resolved goes on
    answer: Literal["servfail", "nxdomain", "silence", "lie"] = "servfail"
    names: tuple[str, ...] = ()
    address: str = "192.0.2.1"
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise Misuse(f"fault dns: answer is {self.answer!r}: one of {', '.join(ANSWERS)}")
        try:
            ipaddress.IPv4Address(self.address)
        except ValueError as error:
            raise Misuse(f"fault dns: address {self.address!r}: {error}") from error

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
            "--answer",
            self.answer,
            "--address",
            self.address,
            *(["--names", *self.names] if self.names else []),
        ]
        return helper_pod.run(
            cluster,
            receipt,
            "dns",
            arguments,
            awaited=FaultPhase.INJECTED,
            seconds=seconds,
            module="chaos.inpod.dns_helper",
        )

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "dns", [])
