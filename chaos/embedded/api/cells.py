"""The cells that `kubectl get` prints, kind by kind, in the order of their columns. Pure; called by tables.

Follows k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from chaos.embedded.claims import IS_DEFAULT, annotations_of, class_name
from chaos.embedded.clock import parse_time
from chaos.embedded.objects import is_true
from chaos.embedded.resources import STORAGE_CLASS, Object, Resource

Row = Callable[[Object, datetime], list[Any]]


_ACCESS: Final = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def age(since: datetime, now: datetime) -> str:
    """Format an age as k8s.io/apimachinery/pkg/util/duration.HumanDuration."""
    seconds = max(0, int((now - since).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def age_cell(obj: Object, now: datetime) -> str:
    made = obj["metadata"].get("creationTimestamp")
    return age(parse_time(made), now) if made else "<unknown>"


def _when(text: str | None, now: datetime) -> str:
    return age(parse_time(text), now) if text else "<unknown>"


def _listed(values: Sequence[str]) -> str:
    return ",".join(values) if values else "<none>"


def _map(values: Any) -> str:
    return _listed([f"{key}={value}" for key, value in sorted((values or {}).items())])


def _selector(selector: Any) -> str:
    selector = selector or {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    parts += [
        f"{one['key']} {one['operator'].lower()} ({','.join(one.get('values') or [])})"
        for one in selector.get("matchExpressions") or []
    ]
    return _listed(parts)


def _containers(obj: Object) -> list[Any]:
    found = obj["spec"]["template"]["spec"].get("containers", [])
    return [",".join(c["name"] for c in found), ",".join(c.get("image", "") for c in found)]


def _state_reason(state: Any) -> str:
    if waiting := state.get("waiting"):
        return str(waiting.get("reason", ""))
    if ended := state.get("terminated"):
        return str(
            ended.get("reason")
            or (f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}")
        )
    return ""


def pod_reason(pod: Object) -> str:
    """The STATUS column."""
    spec, status, meta = pod["spec"], pod.get("status", {}), pod["metadata"]
    reason = status.get("reason") or status.get("phase", "")
    if any(
        c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in status.get("conditions", [])
    ):
        reason = "SchedulingGated"
    sidecars = {c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"}
    total, starting = len(spec.get("initContainers", [])), False
    for index, container in enumerate(status.get("initContainerStatuses", [])):
        state = container.get("state", {})
        if (state.get("terminated") or {}).get("exitCode") == 0:
            continue
        if container["name"] in sidecars and container.get("started"):
            continue
        why = _state_reason(state)
        reason = f"Init:{why}" if why and why != "PodInitializing" else f"Init:{index}/{total}"
        starting = True
        break
    if not starting:
        running = False
        for container in reversed(status.get("containerStatuses", [])):
            state = container.get("state", {})
            if why := _state_reason(state):
                reason = why
            elif container.get("ready") and "running" in state:
                running = True
        if reason == "Completed" and running:
            reason = "Running" if is_true(pod, "Ready") else "NotReady"
    if "deletionTimestamp" in meta:
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return str(reason)


def _pod(pod: Object, now: datetime) -> list[Any]:
    spec, status = pod["spec"], pod.get("status", {})
    sidecars = {c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"}
    beside = [c for c in status.get("initContainerStatuses", []) if c["name"] in sidecars]
    shown = [*status.get("containerStatuses", []), *beside]
    counted = status.get("initContainerStatuses", []) if pod_reason(pod).startswith("Init:") else shown
    restarts = sum(c.get("restartCount", 0) for c in counted)
    ended = [
        c["lastState"]["terminated"]["finishedAt"]
        for c in counted
        if (c.get("lastState", {}).get("terminated") or {}).get("finishedAt")
    ]
    text = f"{restarts} ({age(parse_time(max(ended)), now)} ago)" if restarts and ended else str(restarts)
    ready = sum(bool(c.get("ready")) for c in shown)
    gates = spec.get("readinessGates") or []
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    passed = sum(conditions.get(gate["conditionType"]) == "True" for gate in gates)
    return [
        f"{ready}/{len(spec.get('containers', [])) + len(sidecars)}",
        pod_reason(pod),
        text,
        age_cell(pod, now),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{passed}/{len(gates)}" if gates else "<none>",
    ]


def _deployment(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status", {})
    return [
        f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_cell(obj, now),
        *_containers(obj),
        _selector(obj["spec"].get("selector")),
    ]


def _replica_set(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status", {})
    return [
        obj["spec"].get("replicas", 1),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_cell(obj, now),
        *_containers(obj),
        _selector(obj["spec"].get("selector")),
    ]


def _daemon_set(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status", {})
    return [
        *(
            status.get(name, 0)
            for name in (
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            )
        ),
        _map(obj["spec"]["template"]["spec"].get("nodeSelector")),
        age_cell(obj, now),
        *_containers(obj),
        _selector(obj["spec"].get("selector")),
    ]


def _stateful_set(obj: Object, now: datetime) -> list[Any]:
    return [
        f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}",
        age_cell(obj, now),
        *_containers(obj),
    ]


def _job(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    states = ["Complete", "Failed", "Suspended", "SuccessCriteriaMet", "FailureTarget"]
    text = next((state for state in states if is_true(obj, state)), "Running")
    if "deletionTimestamp" in obj["metadata"] and text not in ("Complete", "Failed"):
        text = "Terminating"
    done = status.get("succeeded", 0)
    if "completions" in spec:
        share = f"{done}/{spec['completions']}"
    else:
        share = f"{done}/1 of {spec.get('parallelism', 1)}" if spec.get("parallelism", 1) > 1 else f"{done}/1"
    took = ""
    if start := status.get("startTime"):
        end = status.get("completionTime")
        took = age(parse_time(start), parse_time(end) if end else now)
    return [text, share, took, age_cell(obj, now), *_containers(obj), _selector(spec.get("selector"))]


def _cron_job(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    last = status.get("lastScheduleTime")
    return [
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        str(bool(spec.get("suspend"))),
        len(status.get("active", [])),
        age(parse_time(last), now) if last else "<none>",
        age_cell(obj, now),
        *_containers({"spec": spec["jobTemplate"]["spec"]}),
        "<none>",
    ]


def _service(obj: Object, now: datetime) -> list[Any]:
    spec = obj["spec"]
    ports = [
        f"{p['port']}:{p['nodePort']}/{p['protocol']}"
        if p.get("nodePort")
        else f"{p['port']}/{p.get('protocol', 'TCP')}"
        for p in spec.get("ports") or []
    ]
    outside = spec.get("externalName") if spec["type"] == "ExternalName" else _outside(obj)
    return [
        spec["type"],
        spec.get("clusterIP") or "<none>",
        outside or "<none>",
        _listed(ports),
        age_cell(obj, now),
        _map(spec.get("selector")),
    ]


def _outside(service: Object) -> str:
    """The EXTERNAL-IP column; a LoadBalancer's is always pending here."""
    found = list(service["spec"].get("externalIPs") or [])
    if service["spec"]["type"] == "LoadBalancer":
        given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        found = sorted({one.get("ip") or one.get("hostname", "") for one in given}) + found
        return ",".join(found) or "<pending>"
    return _listed(found)


def _endpoints(obj: Object, now: datetime) -> list[Any]:
    subsets = obj.get("subsets") or []
    found = []
    for subset in subsets:
        for port in subset.get("ports") or [None]:  # a headless Service may have no port
            for address in (one["ip"] for one in subset.get("addresses") or ()):
                host = f"[{address}]" if ":" in address else address
                found.append(address if port is None else f"{host}:{port['port']}")
    text = ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
    return [text if subsets else "<none>", age_cell(obj, now)]


def _endpoint_slice(obj: Object, now: datetime) -> list[Any]:
    ports = [str(p.get("port", "*")) for p in obj.get("ports") or []]
    found = [a for e in obj.get("endpoints") or [] for a in e.get("addresses", [])]
    text = ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
    return [obj.get("addressType", ""), ",".join(ports) or "<unset>", text or "<unset>", age_cell(obj, now)]


def _node(obj: Object, now: datetime) -> list[Any]:
    status, info = obj.get("status", {}), obj.get("status", {}).get("nodeInfo", {})
    ready = next((c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"), "Unknown")
    text = {"True": "Ready", "False": "NotReady"}.get(ready, "NotReady")
    if obj.get("spec", {}).get("unschedulable"):
        text += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = sorted(k.removeprefix(prefix) for k in obj["metadata"].get("labels") or {} if k.startswith(prefix))
    address = {a["type"]: a["address"] for a in status.get("addresses", [])}
    return [
        text,
        _listed(roles),
        age_cell(obj, now),
        info.get("kubeletVersion", ""),
        address.get("InternalIP", "<none>"),
        address.get("ExternalIP", "<none>"),
        info.get("osImage", "<unknown>"),
        info.get("kernelVersion", "<unknown>"),
        info.get("containerRuntimeVersion", "<unknown>"),
    ]


def _reporter(event: Object, source: Mapping[str, Any]) -> str:
    """Who an Event is from; where it has no source, in the newer form."""
    by = [source.get("component", ""), source.get("host", "")]
    if not by[0]:
        by = [event.get("reportingComponent", ""), by[1] or event.get("reportingInstance", "")]
    return ", ".join(filter(None, by))


def event_cells(obj: Object, now: datetime) -> list[Any]:
    about, series = obj.get("involvedObject") or {}, obj.get("series") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    count = series.get("count") or obj.get("count") or 1
    seen = f"{_when(last, now)} (x{count} over {_when(first, now)})" if count > 1 else _when(last, now)
    source = obj.get("source") or {}
    return [
        seen,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        _reporter(obj, source),
        str(obj.get("message", "")).strip(),
        _when(first, now),
        count,
        obj["metadata"]["name"],
    ]


def _budget(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec", {})
    return [
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        obj.get("status", {}).get("disruptionsAllowed", 0),
        age_cell(obj, now),
    ]


def _binding(obj: Object, now: datetime) -> list[Any]:
    def names(kind: str) -> str:
        return ", ".join(
            f"{s['namespace']}/{s['name']}" if s.get("namespace") else s["name"]
            for s in obj.get("subjects") or []
            if s["kind"] == kind
        )

    return [
        f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}",
        age_cell(obj, now),
        names("User"),
        names("Group"),
        names("ServiceAccount"),
    ]


def _count(field: str) -> Row:
    return lambda obj, now: [len(obj.get(field) or {}) + len(obj.get("binaryData") or {}), age_cell(obj, now)]


def _namespace(obj: Object, now: datetime) -> list[Any]:
    return [obj.get("status", {}).get("phase", ""), age_cell(obj, now)]


def created_cells(obj: Object, _now: datetime) -> list[Any]:
    return [obj["metadata"].get("creationTimestamp", "")]


def _claim(obj: Object, now: datetime) -> list[Any]:
    spec, status, meta = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
    bound = bool(spec.get("volumeName"))
    return [
        "Terminating" if "deletionTimestamp" in meta else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _modes(status.get("accessModes") or ()) if bound else "",
        class_name(obj),
        spec.get("volumeAttributesClassName", "<unset>"),
        age_cell(obj, now),
        spec.get("volumeMode", "<unset>"),
    ]


def _modes(modes: Sequence[str]) -> str:
    return ",".join(name for mode, name in _ACCESS.items() if mode in modes)


def _volume(obj: Object, now: datetime) -> list[Any]:
    spec, status, meta = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
    reference = spec.get("claimRef")
    return [
        (spec.get("capacity") or {}).get("storage", "0"),
        _modes(spec.get("accessModes") or ()),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if "deletionTimestamp" in meta else status.get("phase", ""),
        f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else "",
        class_name(obj),
        spec.get("volumeAttributesClassName", "<unset>"),
        status.get("reason", ""),
        age_cell(obj, now),
        spec.get("volumeMode", "<unset>"),
    ]


def _storage_class(obj: Object, now: datetime) -> list[Any]:
    return [
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        age_cell(obj, now),
    ]


def _autoscaler(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    return [
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _targets(spec.get("metrics") or [], status.get("currentMetrics") or []),
        str(spec.get("minReplicas", "<unset>")),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_cell(obj, now),
    ]


def _targets(metrics: Sequence[Any], current: Sequence[Any]) -> str:
    """The TARGETS column of an autoscaler: target and current value of its first two metrics."""
    shown = []
    for index, metric in enumerate(metrics[:2]):
        part = metric["type"][0].lower() + metric["type"][1:]
        source: dict[str, Any] = metric.get(part) or {}
        seen: dict[str, Any] = {}
        if index < len(current):
            seen = (current[index].get(part) or {}).get("current") or {}
        target, head = source.get("target") or {}, f"{source['name']}: " if "name" in source else ""
        if "averageUtilization" in target:
            has = f"{seen['averageUtilization']}%" if "averageUtilization" in seen else "<unknown>"
            shown.append(f"{head}{has}/{target['averageUtilization']}%")
        elif "averageValue" in target:
            tail = " (avg)" if part in ("external", "object") else ""
            shown.append(f"{head}{seen.get('averageValue', '<unknown>')}/{target['averageValue']}{tail}")
        else:
            shown.append(f"{head}{seen.get('value', '<unknown>')}/{target.get('value', '<auto>')}")
    more = f" + {len(metrics) - 2} more..." if len(metrics) > 2 else ""
    return (", ".join(shown) or "<none>") + more


def name_cell(resource: Resource, obj: Object) -> str:
    name = str(obj["metadata"]["name"])
    is_default = resource is STORAGE_CLASS and annotations_of(obj).get(IS_DEFAULT) == "true"
    return f"{name} (default)" if is_default else name


def _quota(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status") or {}
    used, hard = status.get("used") or {}, status.get("hard") or {}
    amounts = [(name, f"{name}: {used.get(name, '0')}/{hard[name]}") for name in sorted(hard)]
    return [
        ", ".join(text for name, text in amounts if not name.startswith("limits.")),
        ", ".join(text for name, text in amounts if name.startswith("limits.")),
        age_cell(obj, now),
    ]


def _param_reference(reference: Any) -> str:
    if not reference:
        return "<unset>"
    if not reference.get("name"):
        return _selector(reference.get("selector"))
    return f"{reference['namespace']}/{reference['name']}" if reference.get("namespace") else str(reference["name"])


def _revision(obj: Object, now: datetime) -> list[Any]:
    owners = [one for one in obj["metadata"].get("ownerReferences", []) if one.get("controller")]
    named = [f"{one['kind'].lower()}.{one['apiVersion'].partition('/')[0]}/{one['name']}" for one in owners]
    return [named[0] if named else "<none>", obj.get("revision", 0), age_cell(obj, now)]


ROWS: Final[Mapping[str, Row]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "Endpoints": _endpoints,
    "EndpointSlice": _endpoint_slice,
    "Node": _node,
    "Namespace": _namespace,
    "PodDisruptionBudget": _budget,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "ConfigMap": _count("data"),
    "Secret": lambda obj, now: [obj.get("type", ""), len(obj.get("data") or {}), age_cell(obj, now)],
    "ServiceAccount": lambda obj, now: [age_cell(obj, now)],
    "NetworkPolicy": lambda obj, now: [_selector(obj["spec"].get("podSelector")), age_cell(obj, now)],
    "Lease": lambda obj, now: [obj.get("spec", {}).get("holderIdentity", ""), age_cell(obj, now)],
    "PriorityClass": lambda obj, now: [
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age_cell(obj, now),
        obj.get("preemptionPolicy", ""),
    ],
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "StorageClass": _storage_class,
    "HorizontalPodAutoscaler": _autoscaler,
    "Scale": lambda obj, now: [obj["spec"].get("replicas", 0), obj["status"].get("replicas", 0), age_cell(obj, now)],
    "ResourceQuota": _quota,
    "ControllerRevision": _revision,
    "MutatingWebhookConfiguration": _count("webhooks"),
    "ValidatingWebhookConfiguration": _count("webhooks"),
    "ValidatingAdmissionPolicy": lambda obj, now: [
        len(obj["spec"].get("validations") or []),
        "/".join((obj["spec"].get("paramKind") or {"-": "<unset>"}).values()),
        age_cell(obj, now),
    ],
    "ValidatingAdmissionPolicyBinding": lambda obj, now: [
        obj["spec"].get("policyName", ""),
        _param_reference(obj["spec"].get("paramRef")),
        age_cell(obj, now),
    ],
}
