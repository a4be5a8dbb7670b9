"""What each fault needs from a cluster, and whether this one allows it: used by `sharedfate faults` and by
`doctor`.

A need is a set of permissions (asked with SelfSubjectAccessReview), or something that only our own clusters offer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from chaos.errors import ApiError
from chaos.kube.access import Permission, refused
from chaos.kube.client import Cluster
from chaos.names import SYSTEM_NAMESPACE


class Need(StrEnum):
    """One thing that a fault needs; the value is shown to people."""

    HELPERS = "privileged helper pods in sharedfate-system"
    PODS = "read and delete pods"
    RESIZE = "pods/resize"
    LOADER = "pods/proxy to the loader's control port"
    WORKLOADS = "change workloads"
    NODES = "cordon nodes and evict pods"
    PLANE = "the mesh's own control plane"
    NODE_POWER = "a cluster that can switch its nodes, their links and kubelets"
    API_TROUBLE = "a cluster whose API server misbehaves on request"


def _each(verbs: str, resource: str, group: str = "", namespace: str = "") -> tuple[Permission, ...]:
    return tuple(Permission(verb, resource, group, namespace) for verb in verbs.split())


RECEIPTS: Final = _each("get list create patch delete", "configmaps", namespace=SYSTEM_NAMESPACE)
PERMISSIONS: Final[Mapping[Need, tuple[Permission, ...]]] = {
    Need.HELPERS: (
        *_each("get create delete", "pods", namespace=SYSTEM_NAMESPACE),
        *_each("get", "pods/log", "", SYSTEM_NAMESPACE),
    ),
    Need.PODS: _each("get list delete", "pods"),
    Need.RESIZE: (*_each("patch", "pods"), *_each("patch", "pods/resize")),
    Need.LOADER: _each("get create", "pods/proxy"),
    Need.WORKLOADS: tuple(
        one
        for kind in ("deployments", "daemonsets", "statefulsets")
        for one in _each("get create patch delete", kind, "apps")
    ),
    Need.NODES: (*_each("get patch", "nodes"), *_each("create", "pods/eviction")),
    Need.PLANE: _each("get patch", "configmaps", namespace=SYSTEM_NAMESPACE),
    Need.NODE_POWER: (Permission("create", path="/embedded/nodes/any/power-off"),),
    Need.API_TROUBLE: (Permission("create", path="/embedded/trouble"),),
}


def missing(cluster: Cluster, needs: Iterable[Need]) -> list[str]:
    """Return which of the needs (and of the receipts that every fault stores) this cluster does not allow, one line
    each.
    """
    asked = dict.fromkeys([*RECEIPTS, *(one for need in needs for one in PERMISSIONS[need])])
    refusals = set(refused(cluster, asked))
    lines = [f"not permitted: {one}" for one in asked if one in refusals]
    needs = set(needs)
    lines += [
        f"not offered here: {need}"
        for need in sorted({Need.NODE_POWER, Need.API_TROUBLE} & needs)
        if not offers(cluster, need)
    ]
    if Need.RESIZE in needs and not _serves_resize(cluster):
        lines.append("not served here: pods/resize (Kubernetes 1.33 and later serve it by default)")
    return lines


def offers(cluster: Cluster, need: Need) -> bool:
    """Whether the cluster serves the paths, which only our embedded one does."""
    path = "/embedded/nodes" if need is Need.NODE_POWER else "/embedded/trouble"
    try:
        cluster.request("GET", path)
    except ApiError:
        return False
    return True


def _serves_resize(cluster: Cluster) -> bool:
    served = cluster.request("GET", "/api/v1")
    return any(one["name"] == "pods/resize" for one in served["resources"])
