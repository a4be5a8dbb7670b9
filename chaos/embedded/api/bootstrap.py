"""A new cluster's objects: namespaces, the default roles and bindings, priority classes, Service kubernetes.

The roles are Kubernetes' own (`roles.json`, which `python -m proof.kubernetes.published` asks of a real one).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded import claims
from chaos.embedded.api.admission import admit_create
from chaos.embedded.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ENDPOINT_SLICE,
    ENDPOINTS,
    NAMESPACE,
    PRIORITY_CLASS,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    STORAGE_CLASS,
    Resource,
)
from chaos.embedded.store import Store

KUBERNETES_IP: Final = "10.96.0.1"
Json = dict[str, Any]
_KINDS: Final = {one.kind: one for one in (CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING)}
_METRICS_READER: Final = {  # as metrics-server brings it; the standing roles take it in
    "kind": CLUSTER_ROLE.kind,
    "metadata": {
        "name": "system:aggregated-metrics-reader",
        "labels": {f"rbac.authorization.k8s.io/aggregate-to-{one}": "true" for one in ("admin", "edit", "view")},
    },
    "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
}


def _default_roles() -> list[Json]:
    found: list[Json] = orjson.loads(Path(__file__).with_name("roles.json").read_bytes())
    return [*found, _METRICS_READER]


def create_bootstrap(store: Store, *, port: int = 6443, address: str = "") -> None:
    """Create a new cluster's objects; `address` and `port` are the endpoint of Service kubernetes."""

    def create(resource: Resource, name: str, body: Json, namespace: str = "", labels: Json | None = None) -> None:
        meta: Json = {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **({"labels": labels} if labels else {}),
        }
        store.create(resource, admit_create(store, resource, {"metadata": meta, **body}))

    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        create(NAMESPACE, name, {})
    for one in _default_roles():
        store.create(_KINDS[one["kind"]], one)  # as a real one stores it: admission would take 20 ms and change nothing
    for name, value, where in (
        ("system-node-critical", 2000001000, "that must not be moved from their current node"),
        (
            "system-cluster-critical",
            2000000000,
            "that must run in the cluster, but can be moved to another node if necessary",
        ),
    ):
        create(
            PRIORITY_CLASS,
            name,
            {
                "value": value,
                "preemptionPolicy": "PreemptLowerPriority",
                "description": f"Used for system critical pods {where}.",
            },
        )
    body = {"provisioner": claims.PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer"}
    store.create(
        STORAGE_CLASS,
        admit_create(
            store, STORAGE_CLASS, {"metadata": {"name": "standard", "annotations": {claims.IS_DEFAULT: "true"}}, **body}
        ),
    )
    create(
        SERVICE,
        "kubernetes",
        {
            "spec": {
                "clusterIP": KUBERNETES_IP,
                "type": "ClusterIP",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            }
        },
        namespace="default",
        labels={"component": "apiserver", "provider": "kubernetes"},
    )
    if address:
        ports = [{"name": "https", "port": port, "protocol": "TCP"}]
        create(
            ENDPOINTS,
            "kubernetes",
            {"subsets": [{"addresses": [{"ip": address}], "ports": ports}]},
            namespace="default",
            labels={"endpointslice.kubernetes.io/skip-mirror": "true"},
        )
        create(
            ENDPOINT_SLICE,
            "kubernetes",
            {
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            },
            namespace="default",
            labels={"kubernetes.io/service-name": "kubernetes"},
        )
