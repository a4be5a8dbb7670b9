"""The embedded cluster's network: nodes, pods, Services and DNS, all in namespaces of its own.

Nothing of it is in the host's namespace. One anonymous namespace per cluster (the *fabric*) holds a bridge that links
the nodes, and the sockets of the cluster's own servers; each node's namespace holds a bridge for its pods and the
nftables rules of its Services. A namespace lives as long as a process or an open descriptor holds it, so a killed
cluster leaves none behind.

`cluster_process` starts a `ClusterNetwork`, then `run_services`, `run_policies` and `serve_dns` as tasks; each node's
kubelet attaches its pods.
"""

from chaos.embedded.network.dns import serve_dns
from chaos.embedded.network.fabric import ClusterNetwork
from chaos.embedded.network.rule_sync import run_policies, run_services

__all__ = ["ClusterNetwork", "run_policies", "run_services", "serve_dns"]
