"""Defaults of every served kind, compared with recordings of a real cluster.

Pure: changes only the given object (k8s.io/kubernetes/pkg/apis/*/v1/defaults.go). Called by admission on every write,
so a default never overrides a set field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from chaos.embedded.api.custom import definitions
from chaos.embedded.api.validation import mounts
from chaos.embedded.store import copy

Json = dict[str, Any]


def default_pod_spec(spec: Json) -> None:
    """Set the defaults of a pod's or template's spec."""
    for name, value in (
        ("dnsPolicy", "ClusterFirst"),
        ("restartPolicy", "Always"),
        ("schedulerName", "default-scheduler"),
        ("terminationGracePeriodSeconds", 30),
    ):
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    if spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    elif spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            _container(container)
    if "initContainers" in spec and not spec["initContainers"]:
        del spec["initContainers"]
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _container(container: Json) -> None:
    container.setdefault("imagePullPolicy", _pull_policy(container.get("image", "")))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            for field, value in (
                ("failureThreshold", 3),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("timeoutSeconds", 1),
            ):
                if not probe.get(field):
                    probe[field] = value
            _handler(probe)
            if "grpc" in probe:
                probe["grpc"].setdefault("service", "")
    if container.get("lifecycle") is not None:
        gated = container["lifecycle"].pop("stopSignal", None)  # behind a feature gate that Kubernetes 1.36 leaves shut
        if gated is not None and not container["lifecycle"]:
            del container["lifecycle"]
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _handler(hook)
    for variable in container.get("env") or []:
        _reference(variable.get("valueFrom") or {})


_IMAGE: Final = re.compile(  # a repository, with its registry, and a tag
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
)


def _pull_policy(image: str) -> str:
    """Of an image whose tag is `latest`, as it is where none is said, Always; never of a text that names no image."""
    found = _IMAGE.fullmatch(image)
    return "Always" if found is not None and found["tag"] in (None, "latest") else "IfNotPresent"


def _handler(handler: Json) -> None:
    if (request := handler.get("httpGet")) is not None:
        if not request.get("path"):
            request["path"] = "/"
        request.setdefault("scheme", "HTTP")
    if (sleep := handler.get("sleep")) is not None:
        sleep.setdefault("seconds", 0)


def _reference(source: Json) -> None:
    """Of a pod's own field, or of a container's resource."""
    if "fieldRef" in source:
        source["fieldRef"].setdefault("apiVersion", "v1")
    if "resourceFieldRef" in source:
        source["resourceFieldRef"].setdefault("divisor", "0")


_SOURCES: Final[dict[str, Json]] = {  # of volumes, a pod's and by themselves
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "hostPath": {"type": ""},
}


def _source(holder: Json) -> None:
    for kind, values in _SOURCES.items():
        if kind in holder:
            for name, value in values.items():
                holder[kind].setdefault(name, value)


def _volume(volume: Json) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        if (source := volume.get(kind)) is not None:
            source.setdefault("defaultMode", 420)
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        _reference(item)
    if "projected" in volume:
        volume["projected"]["sources"] = volume["projected"].get("sources") or None
    for source in (volume.get("projected") or {}).get("sources") or []:
        for gated in mounts.GATED:
            if not any(mounts.gated_paths(source, gated, "")):  # what would leave the volume stays, and is refused
                source.pop(gated, None)
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for item in (source.get("downwardAPI") or {}).get("items") or []:
            _reference(item)
    if "image" in volume and not volume["image"].get("pullPolicy"):
        volume["image"]["pullPolicy"] = _pull_policy(volume["image"].get("reference", ""))
    _source(volume)
    if (template := (volume.get("ephemeral") or {}).get("volumeClaimTemplate")) is not None:
        template.setdefault("metadata", {})
        _claim_spec(template.setdefault("spec", {}))


def _claim_spec(spec: Json) -> None:
    spec.setdefault("volumeMode", "Filesystem")
    source = spec.get("dataSource")
    if source is not None and not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
        del spec["dataSource"]  # of a kind that is not known: dropped in silence
    if "dataSource" in spec:
        spec["dataSource"].setdefault("apiGroup", None)
        spec.setdefault("dataSourceRef", dict(spec["dataSource"]))
    elif "namespace" not in (source := spec.get("dataSourceRef") or {}) and source:
        spec["dataSource"] = dict(source)
    for name in ("dataSource", "dataSourceRef"):
        if name in spec:
            spec[name].setdefault("apiGroup", None)


def _claim(obj: Json) -> None:
    _claim_spec(obj.setdefault("spec", {}))


def _persistent_volume(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    _source(spec)


def _storage_class(obj: Json) -> None:
    obj["reclaimPolicy"] = obj.get("reclaimPolicy") or "Delete"
    obj.setdefault("volumeBindingMode", "Immediate")


def _pod(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    default_pod_spec(spec)
    if spec["terminationGracePeriodSeconds"] < 0:
        spec["terminationGracePeriodSeconds"] = 1
    spec.setdefault("enableServiceLinks", True)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or []:
            _container_of_pod(container, host_network=bool(spec.get("hostNetwork")))


def _container_of_pod(container: Json, *, host_network: bool) -> None:
    """What is set in a pod, and not in a template."""
    resources = container["resources"]
    for name, value in resources.get("limits", {}).items():
        resources.setdefault("requests", {}).setdefault(name, value)
    for port in container.get("ports") or []:
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])


def _template(spec: Json) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))


def _deployment(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    for name, value in (("progressDeadlineSeconds", 600), ("replicas", 1), ("revisionHistoryLimit", 10)):
        spec.setdefault(name, value)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    _template(spec)


def _replica_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)


def _daemon_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", 0)
        rolling.setdefault("maxUnavailable", 1)
    _template(spec)


def _stateful_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    for name, value in (("podManagementPolicy", "OrderedReady"), ("replicas", 1), ("revisionHistoryLimit", 10)):
        spec.setdefault(name, value)
    spec.setdefault("serviceName", "")
    for claim in spec.get("volumeClaimTemplates") or []:
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Pending"}}
        _claim_spec(claim.setdefault("spec", {}))
    if "ordinals" in spec:
        spec["ordinals"].setdefault("start", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    (strategy.get("rollingUpdate") or {}).pop("maxUnavailable", None)  # behind a feature gate that 1.36 leaves shut
    _template(spec)


def _job_spec(spec: Json) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    for name, value in (
        ("parallelism", 1),
        ("completionMode", "NonIndexed"),
        ("manualSelector", False),
        ("suspend", False),
    ):
        spec.setdefault(name, value)
    if "backoffLimit" not in spec:
        spec["backoffLimit"] = 2147483647 if "backoffLimitPerIndex" in spec else 6
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "Failed" if policy else "TerminatingOrFailed")
    if policy is not None:
        policy["rules"] = policy.get("rules") or None
    for rule in (policy or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            if not pattern.get("status"):
                pattern["status"] = "True"
    _template(spec)


def _job(obj: Json) -> None:
    _job_spec(obj.setdefault("spec", {}))


def _cron_job(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    for name, value in (
        ("concurrencyPolicy", "Allow"),
        ("failedJobsHistoryLimit", 1),
        ("successfulJobsHistoryLimit", 3),
        ("suspend", False),
    ):
        spec.setdefault(name, value)
    template = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    _template(template.setdefault("spec", {}))


def _service(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if "port" in port and not port.get("targetPort"):
            port["targetPort"] = port["port"]
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def _namespace(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    own = spec.setdefault("finalizers", [])
    if "kubernetes" not in own:
        own.append("kubernetes")
    meta = obj["metadata"]
    if meta.get("name"):
        meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta["name"]


def _secret(obj: Json) -> None:
    import base64

    obj.setdefault("type", "Opaque")
    for name, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[name] = base64.b64encode(value.encode()).decode()


def _endpoints(obj: Json) -> None:
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _endpoint_slice(obj: Json) -> None:
    for name in ("endpoints", "ports"):
        obj[name] = obj.get(name) or None
    for port in obj["ports"] or []:
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    for endpoint in obj["endpoints"] or []:
        endpoint.setdefault("conditions", {})
        endpoint.pop("deprecatedTopology", None)  # of an earlier version


def _network_policy(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for way in ("ingress", "egress"):
        if way in spec and not spec[way]:
            del spec[way]
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in [*(spec.get("ingress") or []), *(spec.get("egress") or [])]:
        for port in rule.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _subjects(obj: Json) -> None:
    for subject in obj.get("subjects") or []:
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
    if "roleRef" in obj and not obj["roleRef"].get("apiGroup"):
        obj["roleRef"]["apiGroup"] = "rbac.authorization.k8s.io"


def _role(obj: Json) -> None:
    if obj.get("aggregationRule") or not obj.get("rules"):
        obj["rules"] = obj.get("rules") or None


def _priority_class(obj: Json) -> None:
    obj.setdefault("value", 0)
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _limit_range(obj: Json) -> None:
    """Set a LimitRange's defaults: the limit from the maximum, the request from the limit, else the minimum."""
    spec = obj.setdefault("spec", {})
    spec["limits"] = spec.get("limits") or None
    for limit in spec["limits"] or []:
        if limit.get("type") != "Container":
            continue
        for part, sources in (("default", ("max",)), ("defaultRequest", ("default", "min"))):
            for source in sources:
                for name, value in (limit.get(source) or {}).items():
                    limit.setdefault(part, {}).setdefault(name, value)


def _spec(obj: Json) -> None:
    obj.setdefault("spec", {})  # a struct in Kubernetes' own types, so that it is always there


def _lease(obj: Json) -> None:
    _spec(obj)
    for gated in ("strategy", "preferredHolder"):  # behind a gate that Kubernetes 1.36 leaves shut
        obj["spec"].pop(gated, None)


def _node(obj: Json) -> None:
    _spec(obj)
    spec = obj["spec"]
    spec.pop("configSource", None)  # of a kubelet's, long gone
    if spec.get("podCIDR") and (spec.get("podCIDRs") or [""])[0] != spec["podCIDR"]:
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    status = obj.setdefault("status", {})
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def _match(match: Json | None) -> None:
    if match is None:
        return
    match.setdefault("matchPolicy", "Equivalent")
    for name in ("namespaceSelector", "objectSelector"):
        match.setdefault(name, {})
    for rule in [*(match.get("resourceRules") or []), *(match.get("excludeResourceRules") or [])]:
        rule.setdefault("scope", "*")


def _policy(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    _match(spec.get("matchConstraints"))


def _policy_binding(obj: Json) -> None:
    _match(obj.setdefault("spec", {}).get("matchResources"))


def _webhooks(obj: Json) -> None:
    for hook in obj.get("webhooks") or []:
        for name, value in (("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10)):
            hook.setdefault(name, value)
        for name in ("namespaceSelector", "objectSelector"):
            hook.setdefault(name, {})
        if obj["kind"] == "MutatingWebhookConfiguration":
            hook.setdefault("reinvocationPolicy", "Never")
        for rule in hook.get("rules") or []:
            rule.setdefault("scope", "*")
        if (service := (hook.get("clientConfig") or {}).get("service")) is not None:
            service.setdefault("port", 443)


_SCALE_UP: Final = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Final = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def _autoscaler(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if "behavior" in spec:
        for way, rules in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
            spec["behavior"][way] = copy(rules) | (spec["behavior"].get(way) or {})


def _event(obj: Json) -> None:
    for name in ("firstTimestamp", "lastTimestamp", "eventTime"):
        obj.setdefault(name, None)
    for name in ("reportingComponent", "reportingInstance"):
        obj.setdefault(name, "")
    obj.setdefault("source", {})


_DEFAULTS: Final[dict[str, Callable[[Json], None]]] = {
    "Pod": _pod,
    "CustomResourceDefinition": definitions.apply_defaults,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "Namespace": _namespace,
    "Secret": _secret,
    "Node": _node,
    "Endpoints": _endpoints,
    "EndpointSlice": _endpoint_slice,
    "NetworkPolicy": _network_policy,
    "RoleBinding": _subjects,
    "ClusterRoleBinding": _subjects,
    "Role": _role,
    "ClusterRole": _role,
    "PodDisruptionBudget": _spec,
    "Event": _event,
    "Lease": _lease,
    "LimitRange": _limit_range,
    "PriorityClass": _priority_class,
    "ResourceQuota": _spec,
    "HorizontalPodAutoscaler": _autoscaler,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _persistent_volume,
    "StorageClass": _storage_class,
    "MutatingWebhookConfiguration": _webhooks,
    "ValidatingWebhookConfiguration": _webhooks,
    "ValidatingAdmissionPolicy": _policy,
    "ValidatingAdmissionPolicyBinding": _policy_binding,
}


def apply_defaults(kind: str, obj: Json) -> None:
    """Set the kind's defaults, in place."""
    if (fill := _DEFAULTS.get(kind)) is not None:
        fill(obj)


_FRESH_STATUS: Final[dict[str, Json]] = {
    "CustomResourceDefinition": definitions.fresh_status(),
    "Deployment": {},
    "ReplicaSet": {"replicas": 0},
    "StatefulSet": {"availableReplicas": 0, "replicas": 0},
    "Job": {},
    "CronJob": {},
    "Service": {"loadBalancer": {}},
    "Namespace": {"phase": "Active"},
    "ResourceQuota": {},
    "DaemonSet": {"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0},
    "PodDisruptionBudget": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "PersistentVolume": {"phase": "Pending"},
    "HorizontalPodAutoscaler": {"currentMetrics": None, "desiredReplicas": 0},
    "ValidatingAdmissionPolicy": {},
}


def fresh_status(kind: str) -> Json | None:
    """A new object's status, whatever its creator wrote; None when it has none, or keeps what was written."""
    status = _FRESH_STATUS.get(kind)
    return None if status is None else copy(status)
