"""Every packet of one proxy is lost, both ways and without a word: the process lives, and nobody reaches it or hears it.

What is lost follows the proxy, not its pod: a node's proxy listens inside the namespaces of the pods that it serves,
and that is where its packets are (`sandboxes.served`). In a pod that is all proxy everything but loopback is lost; in
one that the application shares, only what the proxy listens on and what it marks. The status port stays open by
default, because the kubelet's probes come from the node itself and would survive a partition of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.cluster.client import Cluster
from chaos.errors import NoEffect, RecoveryFailed, TargetVanished
from chaos.faults import helper_pod
from chaos.faults.container import running_container
from chaos.faults.model import Evidence, Facts, FaultShape, Receipt, Target
from chaos.names import LABEL_ROLE, MARK_PROXY, PORT_STATUS

MODULE = "chaos.faults.network.helper"


@dataclass(frozen=True, slots=True)
class Partition:
    """Lose the packets of a proxy's process until recovered; the helper ends it by itself at its deadline.

    Args:
        seconds: the helper's own deadline.
        spare_status: leave the status port open, so that the kubelet's probes do not notice.
    """

    name: ClassVar[str] = "partition"
    shape: ClassVar[FaultShape] = "held"
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    seconds: float = 60.0
    spare_status: bool = True

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        facts = running_container(cluster, target)
        pod = cluster.get("Pod", target.name, target.namespace)
        facts["whole"] = pod["metadata"].get("labels", {}).get(LABEL_ROLE) == "proxy"
        return facts

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        arguments = ["--receipt", receipt.id, *helper_pod.container_arguments(receipt.target), "--for", str(self.seconds),
                     "--mark", hex(MARK_PROXY)]
        arguments += ["--whole"] if receipt.facts["whole"] else []
        arguments += ["--spare", str(PORT_STATUS)] if self.spare_status else []
        return helper_pod.run(cluster, receipt, "isolate", arguments, awaited="injected", seconds=self.seconds, module=MODULE)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return mended(cluster, receipt, "isolate", [])


def mended(cluster: Cluster, receipt: Receipt, action: str, more: list[str]) -> Evidence:
    """Undo by a helper of its own, which finds the receipt's rules wherever they are; then let both helpers go."""
    arguments = ["--receipt", receipt.id, *helper_pod.container_arguments(receipt.target), *more]
    try:
        return helper_pod.run(cluster, receipt, "mend", arguments, awaited="recovered", seconds=15, module=MODULE)
    except NoEffect as error:
        raise RecoveryFailed(f"{receipt.target}: its network is not mended: {error}") from error
    except TargetVanished:
        return Evidence(0, {"vanished": True})  # its namespace went with it: nothing is left to mend
    finally:
        helper_pod.dismiss(cluster, receipt, action)
        helper_pod.dismiss(cluster, receipt, "mend")
