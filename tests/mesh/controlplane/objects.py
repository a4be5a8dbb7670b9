"""Kubernetes objects for these tests, as small as the API would allow."""

from __future__ import annotations

import json
from typing import Any

from chaos.mesh.controlplane.cache import KINDS, ObjectCache
from chaos.names import LABEL_MESH, LABEL_MODE, SYSTEM_NAMESPACE

Object = dict[str, Any]


def pod(
    name: str,
    *,
    namespace: str = "tenant-a",
    node: str = "node-1",
    account: str = "server",
    ip: str = "10.0.0.1",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    ready: bool = True,
    mode: str = "node",
    **spec: Any,
) -> Object:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {LABEL_MODE: mode, **(labels or {})},
            "annotations": annotations or {},
        },
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "app"}], **spec},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def proxy_pod(
    name: str = "node-proxy-1",
    *,
    node: str = "node-1",
    namespace: str = SYSTEM_NAMESPACE,
    account: str = "",
    layer: str = "l4-l7",
    scope: str = "node",
    key: str = "",
    owner: Object | None = None,
) -> Object:
    """A proxy's own pod, as the mesh's manifests make it: a DaemonSet's, a Deployment's, or (scope pod) the pod's that
    `key` names.
    """
    name = f"waypoint-{key}" if scope == "pod" else name
    workload = "waypoint" if layer == "l7" else "placebo" if layer == "none" else "node-proxy"
    labels = {"sharedfate.io/role": "proxy", "sharedfate.io/layer": layer, "sharedfate.io/scope": scope}
    if scope == "namespace":
        key, labels["pod-template-hash"] = key or namespace, "h1"
    if key:
        labels["sharedfate.io/scope-key"] = key
    found = pod(
        name,
        namespace=namespace,
        node=node,
        account=account or ("default" if workload == "placebo" else workload),
        labels=labels,
        annotations={"sharedfate.io/proxy-container": "proxy", "sharedfate.io/cpu-budget": "450"},
        containers=[{"name": "proxy"}],
    )
    owners = {
        "node": {"kind": "DaemonSet", "name": workload, "controller": True},
        "namespace": {"kind": "ReplicaSet", "name": f"{workload}-h1", "controller": True},
        "pod": {"kind": "Pod", "name": key, "uid": f"uid-{key}"},
    }
    found["metadata"]["ownerReferences"] = [owner or owners[scope]]
    return found


def sidecar_pod(name: str = "x", **more: Any) -> Object:
    """An application's pod with the sidecar that injection gives it."""
    says = {"proxy-container": "proxy", "layer": "l4-l7", "scope": "pod", "cpu-budget": "100"}
    annotations = {f"sharedfate.io/{key}": value for key, value in says.items()}
    containers = [{"name": "app"}, {"name": "proxy"}]
    return pod(name, annotations=annotations, mode="sidecar", **{"containers": containers, **more})


def namespace(name: str) -> Object:
    return {"kind": "Namespace", "metadata": {"name": name, "uid": f"uid-ns-{name}", "labels": {LABEL_MESH: "enabled"}}}


def node(name: str, ip: str = "172.30.0.11") -> Object:
    return {
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
    }


def config(mode: str = "node", **more: Any) -> Object:
    data = {
        "mode": mode,
        "run": "r1",
        "features": {},
        "values": {"l4_l7_cpu": 450, "l7_cpu": 75, "l7_memory": 96},
        **more,
    }
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "mesh", "namespace": SYSTEM_NAMESPACE, "uid": "uid-mesh", "resourceVersion": "1"},
        "data": {"mesh.json": json.dumps(data)},
    }


def service(name: str = "server", *, space: str = "tenant-a") -> Object:
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": space, "uid": f"uid-svc-{name}"},
        "spec": {
            "clusterIP": "10.96.0.20",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http", "protocol": "TCP"}],
        },
    }


def slice_of(*pods: Object, service: str = "server") -> Object:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-x",
            "namespace": "tenant-a",
            "uid": f"uid-slice-{service}",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [p["status"]["podIP"]],
                "targetRef": {"kind": "Pod", "uid": p["metadata"]["uid"]},
                "conditions": {"ready": p["status"]["conditions"][0]["status"] == "True"},
            }
            for p in pods
        ],
    }


def cache(*objects: Object) -> ObjectCache:
    found = ObjectCache()
    for obj in objects:
        assert obj["kind"] in KINDS
        found.fold(obj["kind"], "ADDED", obj)
    return found
