"""Addresses of the embedded cluster, computed from the numbers of nodes and pods.

Two clusters use the same addresses without clashing, because no namespace of one is linked to one of the other.

    fabric          172.30.0.0/24     .1 the cluster's own servers (API 6443, DNS 53), .10+N node N
    pods of node N  10.244.N.0/24     .1 the node's bridge, .2 … .254 pods
    Services        10.96.0.0/12      .1 kubernetes.default, 10.96.0.10 kube-dns.kube-system
"""

from __future__ import annotations

import ipaddress
from typing import Final

FABRIC_ADDRESS: Final = "172.30.0.1"
FABRIC_PREFIX: Final = 24
POD_PREFIX: Final = 24
SERVICE_CIDR: Final = ("10.96.0.0", 12)
DNS_ADDRESS: Final = "10.96.0.10"
API_PORT: Final = 6443
DNS_PORT: Final = 53
MAX_NODES: Final = 200
FIRST_POD: Final = 2
LAST_POD: Final = 254


def is_ipv4(text: object) -> bool:
    """Whether the text is an IPv4 address: what else a status may hold, IPv6 too, must not reach a node's rules."""
    try:
        ipaddress.IPv4Address(str(text))
    except ValueError:
        return False
    return True


def node_address(number: int) -> str:
    """Address of node `number` (from 1) on the fabric."""
    return f"172.30.0.{10 + number}"


def pod_network(number: int) -> str:
    """Network address of the node's pods, without its prefix length."""
    return f"10.244.{number}.0"


def pod_gateway(number: int) -> str:
    """The node's address on its pod bridge; the source of its kubelet's probes."""
    return f"10.244.{number}.1"


def pod_address(number: int, host: int) -> str:
    """Address of the `host`-th pod of the node."""
    return f"10.244.{number}.{host}"


def hardware_address(address: str) -> bytes:
    """A locally administered MAC computed from the IPv4 address, as by the CNI bridge plugin.

    An address that is used again keeps its MAC, so no neighbour entry is ever stale.
    """
    return bytes((0x0A, 0x58, *(int(part) for part in address.split("."))))
