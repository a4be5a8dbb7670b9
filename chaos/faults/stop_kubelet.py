"""A node loses its kubelet: running containers go on unattended. Only where the cluster owns its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.activity import Activity
from chaos.faults.node import NodeFault


@dataclass(frozen=True, slots=True)
class StopKubelet(NodeFault):
    """Stop a node's kubelet: containers go on, and nothing restarts, probes or reports them."""

    name: ClassVar[str] = "stop-kubelet"
    activity: ClassVar[Activity] = Activity("stop_kubelet", "start_kubelet", deadline=180.0)
    breaks: ClassVar[str] = "stop-kubelet"
    mends: ClassVar[str] = "start-kubelet"
