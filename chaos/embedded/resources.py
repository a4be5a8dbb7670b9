"""The kinds that the embedded cluster serves: groups, plurals, scopes and short names. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

Object = Mapping[str, Any]  # a Kubernetes object as JSON; never changed in place once it is stored


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Custom:
    """One version of a kind, as its CustomResourceDefinition defines it.

    Attributes:
        schema: the version's structural schema.
        storage: the version in which objects are stored.
        served: whether the API serves the version, or only stores objects in it.
        singular, list_kind: names that a definition may set.
        categories: `kubectl get all` and the like.
        columns: printer columns, as the definition has them.
        selectable: paths that field selectors may name, without the leading dot.
        scale: the scale subresource's paths, None without one.
        warning: the deprecation warning, or "".
        since: the store's version when the definition last changed: older objects may lack its present defaults.
    """

    schema: Mapping[str, Any]
    storage: str
    served: bool = True
    singular: str = ""
    list_kind: str = ""
    categories: tuple[str, ...] = ()
    columns: tuple[Mapping[str, Any], ...] = ()
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, Any] | None = None
    warning: str = ""
    since: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """One served kind. `group` is "" for core; `custom` is set for kinds of a CustomResourceDefinition."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    custom: Custom | None = field(default=None, compare=False, repr=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.custom.singular if self.custom is not None else self.kind.lower()

    @property
    def list_kind(self) -> str:
        return self.custom.list_kind if self.custom is not None else f"{self.kind}List"


NAMESPACE: Final = Resource(
    "",
    "v1",
    "Namespace",
    "namespaces",
    False,
    ("ns",),
    ("status", "finalize"),
    ("create", "delete", "get", "list", "patch", "update", "watch"),
)
NODE: Final = Resource("", "v1", "Node", "nodes", False, ("no",), ("status",))
POD: Final = Resource(
    "",
    "v1",
    "Pod",
    "pods",
    True,
    ("po",),
    ("status", "log", "exec", "attach", "portforward", "proxy", "eviction", "binding", "resize", "ephemeralcontainers"),
)
SERVICE: Final = Resource("", "v1", "Service", "services", True, ("svc",), ("status", "proxy"))
ENDPOINTS: Final = Resource("", "v1", "Endpoints", "endpoints", True, ("ep",))
CONFIG_MAP: Final = Resource("", "v1", "ConfigMap", "configmaps", True, ("cm",))
SECRET: Final = Resource("", "v1", "Secret", "secrets")
SERVICE_ACCOUNT: Final = Resource("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",), ("token",))
EVENT: Final = Resource("", "v1", "Event", "events", True, ("ev",))
EVENTS_EVENT: Final = Resource("events.k8s.io", "v1", "Event", "events", True, ("ev",))  # the same objects as EVENT
LIMIT_RANGE: Final = Resource("", "v1", "LimitRange", "limitranges", True, ("limits",))
RESOURCE_QUOTA: Final = Resource("", "v1", "ResourceQuota", "resourcequotas", True, ("quota",), ("status",))
PERSISTENT_VOLUME_CLAIM: Final = Resource(
    "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, ("pvc",), ("status",)
)
PERSISTENT_VOLUME: Final = Resource("", "v1", "PersistentVolume", "persistentvolumes", False, ("pv",), ("status",))
STORAGE_CLASS: Final = Resource("storage.k8s.io", "v1", "StorageClass", "storageclasses", False, ("sc",))
LEASE: Final = Resource("coordination.k8s.io", "v1", "Lease", "leases")
DEPLOYMENT: Final = Resource("apps", "v1", "Deployment", "deployments", True, ("deploy",), ("status", "scale"))
REPLICA_SET: Final = Resource("apps", "v1", "ReplicaSet", "replicasets", True, ("rs",), ("status", "scale"))
DAEMON_SET: Final = Resource("apps", "v1", "DaemonSet", "daemonsets", True, ("ds",), ("status",))
STATEFUL_SET: Final = Resource("apps", "v1", "StatefulSet", "statefulsets", True, ("sts",), ("status", "scale"))
CONTROLLER_REVISION: Final = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
JOB: Final = Resource("batch", "v1", "Job", "jobs", True, (), ("status",))
CRON_JOB: Final = Resource("batch", "v1", "CronJob", "cronjobs", True, ("cj",), ("status",))
ENDPOINT_SLICE: Final = Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
POD_DISRUPTION_BUDGET: Final = Resource(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", True, ("pdb",), ("status",)
)
HORIZONTAL_POD_AUTOSCALER: Final = Resource(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, ("hpa",), ("status",)
)
AUTOSCALER_V1: Final = replace(HORIZONTAL_POD_AUTOSCALER, version="v1")  # the same objects
NETWORK_POLICY: Final = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", True, ("netpol",))
ROLE: Final = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING: Final = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE: Final = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False)
CLUSTER_ROLE_BINDING: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False
)
PRIORITY_CLASS: Final = Resource("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False, ("pc",))
_REGISTRATION: Final = "admissionregistration.k8s.io"
MUTATING_WEBHOOKS: Final = Resource(
    _REGISTRATION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False
)
VALIDATING_WEBHOOKS: Final = Resource(
    _REGISTRATION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False
)
VALIDATING_POLICY: Final = Resource(
    _REGISTRATION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False, subresources=("status",)
)
POLICY_BINDING: Final = Resource(
    _REGISTRATION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False
)
CUSTOM_RESOURCE_DEFINITION: Final = Resource(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    False,
    ("crd", "crds"),
    ("status",),
)

RESOURCES: Final[tuple[Resource, ...]] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    LIMIT_RANGE,
    RESOURCE_QUOTA,
    PERSISTENT_VOLUME_CLAIM,
    PERSISTENT_VOLUME,
    STORAGE_CLASS,
    LEASE,
    DEPLOYMENT,
    REPLICA_SET,
    DAEMON_SET,
    STATEFUL_SET,
    CONTROLLER_REVISION,
    JOB,
    CRON_JOB,
    ENDPOINT_SLICE,
    POD_DISRUPTION_BUDGET,
    HORIZONTAL_POD_AUTOSCALER,
    NETWORK_POLICY,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    PRIORITY_CLASS,
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    VALIDATING_POLICY,
    POLICY_BINDING,
    CUSTOM_RESOURCE_DEFINITION,
)
