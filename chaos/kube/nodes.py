"""Chooses the nodes of the reference tenants, and says why not the others: one answer for doctor, preflight and
run.

Pure: Node objects in, a choice out. Two nodes are needed, of one architecture, because all of our pods run one image.
"""

from __future__ import annotations

import ipaddress
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.errors import EnvironmentUnfit
from chaos.kube.client import Cluster
from chaos.kube.objects import has_condition
from chaos.names import IMAGE

Object = Mapping[str, Any]
NEEDED: Final = 2
ZONE: Final = "topology.kubernetes.io/zone"
_ZONES: Final = (ZONE, "failure-domain.beta.kubernetes.io/zone")  # the second one of old clusters
HOSTNAME: Final = "kubernetes.io/hostname"  # the domain over which a tenant's replicas are spread
# platform.machine() -> Kubernetes' name of the architecture (Go's GOARCH)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
_KEEPS_AWAY: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class NodeChoice:
    """The nodes of a cluster, told apart.

    Attributes:
        names: of those that take our pods, sorted; the tenants lie on the first two.
        architecture: of all of them; "" when their labels do not say.
        left_out: name -> why our pods do not lie there.
    """

    names: tuple[str, ...]
    architecture: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def why_not(self) -> str:
        """Why the reference tenants cannot lie there, each node with its reason; "" when they can."""
        if len(self.names) >= NEEDED:
            return ""
        verb = "nodes take" if len(self.names) != 1 else "node takes"
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(self.left_out.items()))
        return f"{len(self.names)} {verb} our pods: sharing needs at least {NEEDED}" + (
            f" ({reasons})" if reasons else ""
        )

    def affinity(self) -> dict[str, Any]:
        """Node affinity of pods that may lie anywhere: no node of another kind, and none that was left out.

        A DaemonSet's pods tolerate a node that is not ready, and wait there for ever.
        """
        wanted = {"kubernetes.io/os": "linux"} | (
            {"kubernetes.io/arch": self.architecture} if self.architecture else {}
        )
        term: dict[str, Any] = {
            "matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in wanted.items()]
        }
        if self.left_out:
            term["matchFields"] = [
                {"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in sorted(self.left_out)
            ]
        return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def choose_nodes(nodes: Iterable[Object]) -> NodeChoice:
    """Choose among the nodes of a cluster.

    Of several architectures the one is taken that most nodes with our image have, then this machine's own (where the
    image is likely built), then the most frequent.
    """
    found = sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
    left_out = {_name(node): why for node in found if (why := keeps_away(node))}
    able = [node for node in found if _name(node) not in left_out]
    architecture = _architecture(able)
    for node in able:
        if (other := architecture_of(node)) != architecture:
            left_out[_name(node)] = (
                f"its architecture is {other or 'not said'}, and our image is taken for {architecture}"
            )
    hosts: dict[str, str] = {}
    for node in able:
        if _name(node) in left_out:
            continue
        host = _labels(node).get(HOSTNAME, "")
        if not host:
            left_out[_name(node)] = f"it has no label {HOSTNAME}, by which replicas are spread"
        elif host in hosts:
            left_out[_name(node)] = (
                f"its label {HOSTNAME} is {host}, as that of {hosts[host]}: replicas cannot be spread"
            )
        else:
            hosts[host] = _name(node)
    return NodeChoice(tuple(_name(node) for node in able if _name(node) not in left_out), architecture, left_out)


def read_nodes(cluster: Cluster) -> NodeChoice:
    """The cluster's nodes, told apart. Raises EnvironmentUnfit with each node's reason when fewer than two are left."""
    choice = choose_nodes(cluster.list("Node"))
    if choice.why_not:
        raise EnvironmentUnfit(f"{cluster.name}: {choice.why_not}")
    return choice


def refuse_ipv6_alone(name: str, nodes: Iterable[Object]) -> None:
    """Raises EnvironmentUnfit for a cluster none of whose nodes gives pods IPv4 addresses: ours listen on those."""
    found = {_name(node): _without_ipv4(node.get("spec") or {}, node.get("status") or {}) for node in nodes}
    if found and all(found.values()):
        node, why = min(found.items())
        raise EnvironmentUnfit(f"{name}: node {node}: {why}")


def keeps_away(node: Object) -> str:
    """Return why a pod of ours, which tolerates no taint, cannot run there, whatever its architecture; "" when it
    can.
    """
    spec, status = node.get("spec") or {}, node.get("status") or {}
    if "deletionTimestamp" in node["metadata"]:
        return "it is being deleted"
    if spec.get("unschedulable"):
        return "it is cordoned"
    taints = [taint for taint in spec.get("taints") or [] if taint["effect"] in _KEEPS_AWAY]
    if not has_condition(node, "Ready"):
        ready: Object = next((one for one in status.get("conditions") or [] if one["type"] == "Ready"), {})
        return f"it is not Ready ({ready.get('reason') or 'no condition'})"
    if taints:
        return "taint " + ", ".join(_taint(one) for one in taints)
    system = _labels(node).get("kubernetes.io/os") or (status.get("nodeInfo") or {}).get("operatingSystem") or "linux"
    if system != "linux":
        return f"its operating system is {system}"
    return _without_ipv4(spec, status)


def architecture_of(node: Object) -> str:
    """The architecture that a node's label, else its kubelet, says; "" when neither does."""
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return str(_labels(node).get("kubernetes.io/arch") or info.get("architecture") or "")


def has_image(node: Object) -> bool:
    """Whether the kubelet lists our image (it lists 50 at most)."""
    images = (node.get("status") or {}).get("images") or []
    return any(is_our_image(name) for image in images for name in image.get("names") or [])


def is_our_image(name: str) -> bool:
    """Whether a name in a Node's status is our image: runtimes write the registry out (docker.io/...)."""
    return name == IMAGE or name.endswith(f"/{IMAGE}")


def _architecture(able: Sequence[Object]) -> str:
    counted = Counter(architecture_of(node) for node in able)
    if not counted:
        return ""
    with_image = Counter(architecture_of(node) for node in able if has_image(node))
    own = _ARCHITECTURES.get(platform.machine(), "")
    return max(sorted(counted), key=lambda one: (counted[one] >= NEEDED, with_image[one], one == own, counted[one]))


def _without_ipv4(spec: Object, status: Object) -> str:
    """Pods get addresses of the family that the node's first one has; everything of ours listens on IPv4."""
    addresses = [one["address"] for one in status.get("addresses") or [] if one["type"] == "InternalIP"]
    for what, text in (("address", addresses[0] if addresses else ""), ("pod range", spec.get("podCIDR") or "")):
        if text and _family(text) == 6:
            return f"its {what} {text} is IPv6, and only IPv4 (or dual stack with IPv4 first) is supported"
    return ""


def _family(text: str) -> int:
    try:
        return ipaddress.ip_address(text.partition("/")[0]).version
    except ValueError:
        return 4


def _taint(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _labels(node: Object) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def zones_of(nodes: Iterable[Object]) -> dict[str, str]:
    """The zone of each node that has one, by its label."""
    found = {}
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if zone := next((labels[key] for key in _ZONES if labels.get(key)), ""):
            found[node["metadata"]["name"]] = zone
    return found
