"""Nodes of the embedded cluster: each a little machine of its own, with a kubelet that runs pods as real containers.

Read in this order: `container_records` (state), `pod_actions` and `status` (pure), `worker` (one pod's life),
`containers` and `sandbox` (effects), `node_machine` and `nodeinit` (the node's first process), `node` (all of it).
"""

from chaos.embedded.kubelet.images import Images
from chaos.embedded.kubelet.node import Node
from chaos.embedded.kubelet.volumes import IssueToken

__all__ = ["Images", "IssueToken", "Node"]
