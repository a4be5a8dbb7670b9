"""Reads the facts that findings rest on: one `Facts`, from reads and questions alone; stores nothing in the cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.cluster.versions import parse_version
from chaos.doctor.access import needed
from chaos.doctor.tried import Tried
from chaos.errors import ApiError
from chaos.faults.needs import Need, missing
from chaos.kube.access import Permission, refused
from chaos.kube.client import Cluster
from chaos.kube.nodes import NodeChoice, choose_nodes, has_image
from chaos.names import IMAGE, LABEL_RUN, SYSTEM_NAMESPACE

Object = Mapping[str, Any]
PRIVILEGED: Final = "privileged"
CAPTURE: Final = "capture"
# A DaemonSet's name, or its beginning -> the network plugin.
_PLUGINS: Final = {
    "kindnet": "kindnet",
    "calico": "Calico",
    "cilium": "Cilium",
    "kube-flannel": "Flannel",
    "aws-node": "AWS VPC CNI",
    "weave": "Weave Net",
    "antrea": "Antrea",
    "kube-router": "kube-router",
    "azure-cni": "Azure CNI",
    "canal": "Canal",
}
BINARIES: Final = ("runc", "nft", "ip", "kubectl", "kind", "docker", "podman", "buildah")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node that takes our pods."""

    name: str
    version: str
    kernel: str
    runtime: str
    has_image: bool  # whether its kubelet lists our image (it lists 50 at most)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a cluster."""

    name: str
    version: tuple[int, int]
    choice: NodeChoice
    nodes: tuple[NodeFacts, ...]  # those of the choice
    refused: tuple[Permission, ...]
    resize: bool  # pods/resize is served
    metrics: bool  # metrics.k8s.io is served
    pod_security: Mapping[str, str]  # kind of pod -> "" when admitted, else the API server's refusal
    network: tuple[str, ...] = ()  # plugins that were recognised
    guarded: bool = True  # not ours: nodes, and what carries no label of ours, are never touched
    taken: str = ""  # the run whose system namespace already exists
    unread: tuple[str, ...] = ()  # what this user may not look at
    binaries: Mapping[str, str | None] = field(default_factory=dict)
    tried: Tried | None = None  # what came of trying it, where it was asked for
    lacking: Mapping[Need, str] = field(
        default_factory=dict
    )  # what some faults need, and this cluster does not allow or offer

    @property
    def policies(self) -> bool | None:
        """Whether NetworkPolicies are enforced, as was tried: what a plugin is called does not tell."""
        return None if self.tried is None else self.tried.policies


def read_facts(cluster: Cluster) -> Facts:
    """Read a cluster's facts. Raises only when it cannot be reached at all."""
    unread: list[str] = []

    def listed(kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        try:
            return cluster.list(kind, namespace)
        except ApiError as error:
            unread.append(f"{kind}: {error.reason or error.code}")
            return []

    version = parse_version(cluster.request("GET", "/version"))
    seen = {node["metadata"]["name"]: node for node in listed("Node")}
    choice = choose_nodes(seen.values())
    daemons = listed("DaemonSet")
    system = next((n for n in listed("Namespace") if n["metadata"]["name"] == SYSTEM_NAMESPACE), None)
    served = {one["name"] for one in cluster.request("GET", "/api/v1")["resources"]}
    groups = {one["name"] for one in cluster.request("GET", "/apis")["groups"]}
    return Facts(
        name=cluster.name,
        version=version,
        choice=choice,
        nodes=tuple(node_facts(seen[name]) for name in choice.names),
        refused=tuple(refused(cluster, needed())),
        resize="pods/resize" in served,
        metrics="metrics.k8s.io" in groups,
        pod_security={kind: try_pod(cluster, kind) for kind in (PRIVILEGED, CAPTURE)},
        network=detect_plugins(daemons),
        guarded=cluster.guard is not None,
        taken="" if system is None else (system["metadata"].get("labels") or {}).get(LABEL_RUN, "somebody else"),
        unread=tuple(unread),
        binaries={name: shutil.which(name) for name in BINARIES},
        lacking={need: "; ".join(lines) for need in Need if (lines := missing(cluster, [need]))},
    )


def node_facts(node: Object) -> NodeFacts:
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    return NodeFacts(
        node["metadata"]["name"],
        info.get("kubeletVersion", ""),
        info.get("kernelVersion", ""),
        info.get("containerRuntimeVersion", ""),
        has_image(node),
    )


def detect_plugins(daemons: Iterable[Object]) -> tuple[str, ...]:
    """Return the network plugins whose DaemonSets exist."""
    names = [daemon["metadata"]["name"] for daemon in daemons]
    return tuple(sorted({plugin for begin, plugin in _PLUGINS.items() for name in names if name.startswith(begin)}))


def plan_try(kind: str) -> dict[str, Any]:
    """Plan a pod of the kind in question: `privileged` as node proxies and helpers are, `capture` as in sidecar
    modes.
    """
    context: dict[str, Any] = (
        {"privileged": True, "runAsUser": 0}
        if kind == PRIVILEGED
        else {"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}
    )
    spec: dict[str, Any] = {
        "containers": [{"name": "try", "image": IMAGE, "command": ["true"], "securityContext": context}]
    }
    if kind == PRIVILEGED:
        spec["hostPID"] = True
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"sharedfate-doctor-{kind}", "namespace": "default", "labels": {LABEL_RUN: "doctor"}},
        "spec": spec,
    }


def try_pod(cluster: Cluster, kind: str) -> str:
    """Try whether the cluster's default level admits such a pod, by a dry run; return "" or the API server's
    objection.
    """
    try:
        cluster.request("POST", "/api/v1/namespaces/default/pods", plan_try(kind), query={"dryRun": "All"})
    except ApiError as error:
        said = str(error.status.get("message") or error)
        return "" if "violates PodSecurity" in said else said  # our own namespaces are labelled for what lies in them
    return ""
