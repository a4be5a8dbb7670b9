"""Made-up clusters as saved objects, of any size."""

from __future__ import annotations

import random
from typing import Any

Object = dict[str, Any]
REDIRECTED = {"ambient.istio.io/redirection": "enabled"}


def node(name: str, zone: str = "") -> Object:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}


def pod(
    namespace: str, workload: str, number: int, on: str, *, ambient: bool, owner: str = "ReplicaSet", **labels: str
) -> Object:
    containers: list[Object] = [{"name": "app", "ports": [{"containerPort": 8080}]}]
    name = f"{workload}-abc" if owner == "ReplicaSet" else workload
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{number}",
            "namespace": namespace,
            "uid": f"{namespace}-{workload}-{number}",
            "labels": {"app": workload, "pod-template-hash": "abc", **labels},
            "annotations": dict(REDIRECTED) if ambient else {},
            "ownerReferences": [{"kind": owner, "name": name, "uid": f"{namespace}-{name}", "controller": True}],
        },
        "spec": {"nodeName": on, "containers": containers if ambient else [*containers, {"name": "istio-proxy"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def ztunnel(on: str) -> Object:
    made = pod("istio-system", "ztunnel", 0, on, ambient=False, owner="DaemonSet")
    made["metadata"] |= {"name": f"ztunnel-{on}", "uid": f"ztunnel-{on}"}
    return made


def service(namespace: str, name: str) -> Object:
    spec = {"clusterIP": "None", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": {**spec, "clusterIP": ""}}


def namespace(name: str, **labels: str) -> Object:
    return {"kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def istio(*, tenants: int, pods: int, nodes: int, zones: int = 3, ambient: bool = True, seed: int = 7) -> list[Object]:
    """Tenants with so many pods each, half clients and half servers, on nodes by chance."""
    chance = random.Random(seed)
    names = [f"node-{number + 1}" for number in range(nodes)]
    found = [node(name, "abcdefgh"[number % zones]) for number, name in enumerate(names)]
    found += [ztunnel(name) for name in names] if ambient else []
    label = {"istio.io/dataplane-mode": "ambient"} if ambient else {"istio-injection": "enabled"}
    for number in range(tenants):
        space = f"shop-{number}"
        found += [namespace(space, **label), service(space, "server")]
        found += [
            pod(space, "client" if one % 2 else "server", one, chance.choice(names), ambient=ambient)
            for one in range(pods)
        ]
    return found


def listed(objects: list[Object]) -> Object:
    """As kubectl prints them."""
    return {"apiVersion": "v1", "kind": "List", "items": objects}
