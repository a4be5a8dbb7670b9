"""Every packet of one proxy is dropped silently, both ways: the process lives, and nobody reaches it or hears
from it.

What is lost follows the proxy, not its pod: a node's proxy listens inside the namespaces of the pods that it serves,
and that is where its packets are (`sandboxes.served`). In a pod that is all proxy everything but loopback is lost; in
one that the application shares, only what the proxy listens on and what it marks. The status port stays open by
default, because the kubelet's probes come from the node itself and would survive a partition of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.errors import NoEffect, RecoveryFailed
from chaos.faults import helper_pod
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape
from chaos.names import ANNOTATION_PROXY_CONTAINER, LABEL_ROLE, MARK_PROXY, PORT_STATUS, PROXY_CONTAINER

MODULE = "chaos.inpod.network_helper"


@dataclass(frozen=True, slots=True)
class Partition:
    """Drop the packets of a proxy's process until recovered; the helper ends it by itself at its deadline.

    Args:
        seconds: the helper's own deadline; 0: the receipt's.
        spare_status: leave the status port open, so that the kubelet's probes do not notice.
    """

    name: ClassVar[str] = "partition"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"packets"})
    witness: ClassVar[Witness] = Witness.PACKETS
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    activity: ClassVar[Activity] = Activity("partition_proxy", "reunite_proxy")
    seconds: float = 0.0
    spare_status: bool = True

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        return network_facts(cluster, target)

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return isolated(cluster, receipt, self.seconds, ["--spare", str(PORT_STATUS)] if self.spare_status else [])

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "isolate", [])


def network_facts(cluster: Cluster, target: Target) -> Facts:
    """Return whether the whole pod of a running container is meant (it is all proxy, or the application is the
    target).
    """
    facts = running_container(cluster, target)
    meta = cluster.get("Pod", target.name, target.namespace)["metadata"]
    proxy = (meta.get("annotations") or {}).get(ANNOTATION_PROXY_CONTAINER, PROXY_CONTAINER)
    facts["whole"] = (meta.get("labels") or {}).get(LABEL_ROLE) == "proxy" or target.container != proxy
    return facts


def isolated(cluster: Cluster, receipt: Receipt, seconds: float, more: list[str]) -> Evidence:
    """Start a helper that installs the rules of an isolation, and holds them."""
    seconds = helper_pod.hold_seconds(receipt, seconds)
    arguments = [
        "--receipt",
        receipt.id,
        *helper_pod.container_arguments(receipt.target),
        "--for",
        str(seconds),
        "--mark",
        hex(MARK_PROXY),
        *(["--whole"] if receipt.facts["whole"] else []),
        *more,
    ]
    return helper_pod.run(
        cluster, receipt, "isolate", arguments, awaited=FaultPhase.INJECTED, seconds=seconds, module=MODULE
    )


def mended(cluster: Cluster, receipt: Receipt, action: str, more: list[str]) -> Evidence:
    """Undo with a new helper, which finds the receipt's rules wherever they are; then dismiss both helpers."""
    if receipt.phase is FaultPhase.PLANNED:
        helper_pod.end(cluster, receipt, action)  # it may not have put anything in place yet, and must not do so later
    arguments = ["--receipt", receipt.id, *helper_pod.container_arguments(receipt.target), *more]
    try:
        evidence = helper_pod.run(
            cluster, receipt, "mend", arguments, awaited=FaultPhase.RECOVERED, seconds=15, module=MODULE
        )
    except NoEffect as error:
        raise RecoveryFailed(f"{receipt.target}: its network is not mended: {error}") from error
    finally:
        helper_pod.dismiss(cluster, receipt, action)
    refuse_vanished(cluster, receipt.target)
    return evidence
