"""A new cluster's objects: namespaces, the default roles that matter here, priority classes, Service kubernetes.

Roles follow k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy, restricted to the served kinds.
"""

from __future__ import annotations

from typing import Any, Final

from chaos.embedded import claims
from chaos.embedded.api.admission import admit_create
from chaos.embedded.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ENDPOINT_SLICE,
    ENDPOINTS,
    NAMESPACE,
    PRIORITY_CLASS,
    SERVICE,
    STORAGE_CLASS,
    Resource,
)
from chaos.embedded.store import Store

KUBERNETES_IP: Final = "10.96.0.1"
_RBAC: Final = "rbac.authorization.k8s.io"
_WRITE: Final = ["create", "delete", "deletecollection", "patch", "update"]
_READ: Final = ["get", "list", "watch"]

Json = dict[str, Any]


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


_VIEW: Final = [
    _rule(
        [""],
        [
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "replicationcontrollers",
            "serviceaccounts",
            "services",
            "services/status",
            "pods/log",
            "pods/status",
            "bindings",
            "events",
            "limitranges",
            "namespaces/status",
            "resourcequotas",
            "resourcequotas/status",
            "namespaces",
        ],
        _READ,
    ),
    _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
    _rule(
        ["apps"],
        [
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
        _READ,
    ),
    _rule(["batch"], ["cronjobs", "cronjobs/status", "jobs", "jobs/status"], _READ),
    _rule(["autoscaling"], ["horizontalpodautoscalers", "horizontalpodautoscalers/status"], _READ),
    _rule(["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"], _READ),
    _rule(["networking.k8s.io"], ["networkpolicies"], _READ),
    _rule(["metrics.k8s.io"], ["pods", "nodes"], _READ),
]
_EDIT: Final = [
    _rule([""], ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"], _READ),
    _rule([""], ["serviceaccounts"], ["impersonate"]),
    _rule([""], ["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "pods/resize"], _WRITE),
    _rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"]),
    _rule(
        [""],
        [
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
            "endpoints",
        ],
        _WRITE,
    ),
    _rule(
        ["apps"],
        [
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
        _WRITE,
    ),
    _rule(["batch"], ["cronjobs", "jobs"], _WRITE),
    _rule(["autoscaling"], ["horizontalpodautoscalers"], _WRITE),
    _rule(["policy"], ["poddisruptionbudgets"], _WRITE),
    _rule(["networking.k8s.io"], ["networkpolicies"], _WRITE),
    _rule(["discovery.k8s.io"], ["endpointslices"], _WRITE),
    _rule(["coordination.k8s.io"], ["leases"], [*_WRITE, *_READ]),
]
_ADMIN: Final = [
    _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    _rule([_RBAC], ["rolebindings", "roles"], [*_WRITE, *_READ]),
]
_HEALTH: Final = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_ROLES: Final[dict[str, list[Json]]] = {
    "cluster-admin": [_rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    "admin": [*_VIEW, *_EDIT, *_ADMIN],
    "edit": [*_VIEW, *_EDIT],
    "view": _VIEW,
    "system:basic-user": [
        _rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
        _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ],
    "system:discovery": [
        {
            "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_HEALTH],
            "verbs": ["get"],
        }
    ],
    "system:service-account-issuer-discovery": [
        {
            "nonResourceURLs": [
                f"{path}{end}" for path in ("/.well-known/openid-configuration", "/openid/v1/jwks") for end in ("", "/")
            ],
            "verbs": ["get"],
        }
    ],
    "system:public-info-viewer": [{"nonResourceURLs": _HEALTH, "verbs": ["get"]}],
    "system:auth-delegator": [
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ],
}
_BINDINGS: Final = {
    "cluster-admin": ["system:masters"],
    "system:basic-user": ["system:authenticated"],
    "system:discovery": ["system:authenticated"],
    "system:public-info-viewer": ["system:authenticated", "system:unauthenticated"],
    "system:service-account-issuer-discovery": ["system:serviceaccounts"],
}


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
    standard = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    for name, rules in _ROLES.items():
        create(CLUSTER_ROLE, name, {"rules": rules}, labels=standard)
    for name, groups in _BINDINGS.items():
        create(
            CLUSTER_ROLE_BINDING,
            name,
            {
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group} for group in groups],
            },
            labels=standard,
        )
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
