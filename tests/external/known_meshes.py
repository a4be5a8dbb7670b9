"""Objects of real meshes on a small topology, shaped as those of live ones are (`recorded_site` holds these).

Linkerd: https://linkerd.io/2/features/proxy-injection/ . Istio: https://istio.io/latest/docs/reference/config/labels/
and its charts (istio/istio, manifests/charts). Cilium: https://docs.cilium.io/en/stable/security/network/proxy/envoy/ .
Two tenants on two nodes: shop's web (n1) calls its api (n1, n2); bank's app (n2) calls its core (n2).
"""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]


def pod(
    namespace: str,
    workload: str,
    node: str,
    *,
    number: int = 1,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    beside: list[Object] | None = None,
    before: list[Object] | None = None,
    kind: str = "ReplicaSet",
) -> Object:
    """A pod of a workload, with containers beside the application and init containers before it."""
    template = "6d4f5" if kind == "ReplicaSet" else ""
    name = f"{workload}-{template}-{number}" if template else f"{workload}-{number}"
    app = {"name": "app", "image": "example/app:1"}
    names = [one["name"] for one in [app, *(beside or [])]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"{namespace}-{name}",
            "labels": {"app": workload, **({"pod-template-hash": template} if template else {}), **(labels or {})},
            "annotations": dict(annotations or {}),
            "ownerReferences": [
                {"kind": kind, "name": f"{workload}-{template}" if template else workload, "controller": True}
            ],
        },
        "spec": {
            "nodeName": node,
            "serviceAccountName": workload,
            "containers": [app, *(beside or [])],
            "initContainers": before or [],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.1.0.1",
            "containerStatuses": [{"name": one, "containerID": f"containerd://{name}-{one}"} for one in names],
        },
    }


def apps(
    labels: dict[str, str] | None = None,
    beside: list[Object] | None = None,
    before: list[Object] | None = None,
    annotations: dict[str, str] | None = None,
) -> list[Object]:
    more: Any = {"labels": labels, "beside": beside, "before": before, "annotations": annotations}
    return [
        pod("shop", "web", "n1", **more),
        pod("shop", "api", "n1", **more),
        pod("shop", "api", "n2", number=2, **more),
        pod("bank", "app", "n2", **more),
        pod("bank", "core", "n2", **more),
    ]


def namespaces(labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None) -> list[Object]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {**(labels or {}), "team": name},
                "annotations": dict(annotations or {}),
            },
        }
        for name in ("shop", "bank")
    ]


def daemons(namespace: str, name: str, labels: dict[str, str], container: str) -> list[Object]:
    """A DaemonSet's pods, one a node, with one container."""
    found = []
    for number, node in enumerate(("n1", "n2"), 1):
        one = pod(namespace, name, node, number=number, labels=labels, kind="DaemonSet")
        one["spec"]["containers"] = [
            {"name": container, "image": "example/proxy:1", "resources": {"requests": {"cpu": "10m"}}}
        ]
        one["status"]["containerStatuses"] = [
            {"name": container, "containerID": f"containerd://{name}-{node}", "ready": True, "state": {"running": {}}}
        ]
        found.append(one)
    return found


LINKERD_LABELS = {"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/workload-ns": "shop"}
LINKERD = (
    namespaces(annotations={"linkerd.io/inject": "enabled"}),
    apps(
        LINKERD_LABELS,
        beside=[{"name": "linkerd-proxy", "image": "cr.l5d.io/linkerd/proxy:edge-26.1.1"}],
        before=[{"name": "linkerd-init", "image": "cr.l5d.io/linkerd/proxy-init:v2.4.2"}],
    ),
)
LINKERD_NATIVE = (
    LINKERD[0],
    apps(
        LINKERD_LABELS,
        before=[
            {"name": "linkerd-init", "image": "cr.l5d.io/linkerd/proxy-init:v2.4.2"},
            {"name": "linkerd-proxy", "image": "cr.l5d.io/linkerd/proxy:edge-26.1.1", "restartPolicy": "Always"},
        ],
    ),
)

ISTIO_SIDECAR = (
    namespaces({"istio-injection": "enabled"}),
    apps(
        {"security.istio.io/tlsMode": "istio", "service.istio.io/canonical-revision": "latest"},
        before=[
            {"name": "istio-init", "image": "docker.io/istio/proxyv2:1.31.0"},
            {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.31.0", "restartPolicy": "Always"},
        ],
    ),
)

ZTUNNEL = daemons(
    "istio-system",
    "ztunnel",
    {"app": "ztunnel", "sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"},
    "istio-proxy",
)
ISTIO_AMBIENT = (
    namespaces({"istio.io/dataplane-mode": "ambient"}),
    apps(annotations={"ambient.istio.io/redirection": "enabled"}) + ZTUNNEL,
)
SERVICES = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"clusterIP": address, "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    for space, name, address in (("shop", "api", "10.96.0.1"), ("bank", "core", "10.96.0.2"))
]


def waypoint(namespace: str, node: str, number: int = 1) -> Object:
    one = pod(
        namespace,
        "waypoint",
        node,
        number=number,
        labels={
            "gateway.networking.k8s.io/gateway-name": "waypoint",
            "gateway.istio.io/managed": "istio.io-mesh-controller",
            "istio.io/dataplane-mode": "none",
        },
    )
    one["spec"]["containers"] = [{"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.27.0"}]
    one["status"]["containerStatuses"] = [
        {"name": "istio-proxy", "containerID": f"containerd://waypoint-{namespace}-{number}"}
    ]
    return one


def ambient_with_waypoints(*spaces: str) -> tuple[list[Object], list[Object]]:
    """Ambient where these namespaces use a waypoint; shop's has two replicas."""
    found = copy.deepcopy(ISTIO_AMBIENT[0])
    for space in found:
        if space["metadata"]["name"] in spaces:
            space["metadata"]["labels"]["istio.io/use-waypoint"] = "waypoint"
    pods = [waypoint(name, "n2", number) for name in spaces for number in ((1, 2) if name == "shop" else (1,))]
    return found, [*ISTIO_AMBIENT[1], *pods]


CILIUM = (
    namespaces(),
    apps()
    + daemons(
        "kube-system",
        "cilium-envoy",
        {
            "k8s-app": "cilium-envoy",
            "name": "cilium-envoy",
            "app.kubernetes.io/name": "cilium-envoy",
            "app.kubernetes.io/part-of": "cilium",
        },
        "cilium-envoy",
    ),
)
