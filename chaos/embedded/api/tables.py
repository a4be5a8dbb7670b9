"""The Table that `kubectl get` prints: columns and cells of each kind. Pure; called by lists, gets and watches.

Follows k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from chaos.embedded.api.errors import bad_request
from chaos.embedded.clock import parse_time
from chaos.embedded.resources import Object, Resource

Row = Callable[[Object, datetime], list[Any]]


def age(since: datetime, now: datetime) -> str:
    """k8s.io/apimachinery/pkg/util/duration.HumanDuration."""
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


def _age(obj: Object, now: datetime) -> str:
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


# Pods


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
            ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions", []))
            reason = "Running" if ready else "NotReady"
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
        _age(pod, now),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{passed}/{len(gates)}" if gates else "<none>",
    ]


# Workloads


def _deployment(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status", {})
    return [
        f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj, now),
        *_containers(obj),
        _selector(obj["spec"].get("selector")),
    ]


def _replica_set(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status", {})
    return [
        obj["spec"].get("replicas", 1),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(obj, now),
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
        _age(obj, now),
        *_containers(obj),
        _selector(obj["spec"].get("selector")),
    ]


def _stateful_set(obj: Object, now: datetime) -> list[Any]:
    return [
        f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}",
        _age(obj, now),
        *_containers(obj),
    ]


def _job(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    true = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
    text = (
        "Complete"
        if "Complete" in true
        else "Failed"
        if "Failed" in true
        else "Terminating"
        if "deletionTimestamp" in obj["metadata"]
        else "Suspended"
        if "Suspended" in true
        else "SuccessCriteriaMet"
        if "SuccessCriteriaMet" in true
        else "FailureTarget"
        if "FailureTarget" in true
        else "Running"
    )
    done = status.get("succeeded", 0)
    if "completions" in spec:
        share = f"{done}/{spec['completions']}"
    else:
        share = f"{done}/1 of {spec.get('parallelism', 1)}" if spec.get("parallelism", 1) > 1 else f"{done}/1"
    took = ""
    if start := status.get("startTime"):
        end = status.get("completionTime")
        took = age(parse_time(start), parse_time(end) if end else now)
    return [text, share, took, _age(obj, now), *_containers(obj), _selector(spec.get("selector"))]


def _cron_job(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    last = status.get("lastScheduleTime")
    return [
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        str(bool(spec.get("suspend"))),
        len(status.get("active", [])),
        age(parse_time(last), now) if last else "<none>",
        _age(obj, now),
        *_containers({"spec": spec["jobTemplate"]["spec"]}),
        "<none>",
    ]


# The rest


def _service(obj: Object, now: datetime) -> list[Any]:
    spec = obj["spec"]
    ports = [
        f"{p['port']}:{p['nodePort']}/{p['protocol']}"
        if p.get("nodePort")
        else f"{p['port']}/{p.get('protocol', 'TCP')}"
        for p in spec.get("ports") or []
    ]
    outside = spec.get("externalName") if spec["type"] == "ExternalName" else _listed(spec.get("externalIPs") or [])
    return [
        spec["type"],
        spec.get("clusterIP") or "<none>",
        outside or "<none>",
        _listed(ports),
        _age(obj, now),
        _map(spec.get("selector")),
    ]


def _endpoints(obj: Object, now: datetime) -> list[Any]:
    found = [
        f"{a['ip']}:{p['port']}"
        for s in obj.get("subsets") or []
        for p in s.get("ports") or []
        for a in s.get("addresses") or []
    ]
    text = ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
    return [text or "<none>", _age(obj, now)]


def _endpoint_slice(obj: Object, now: datetime) -> list[Any]:
    ports = [str(p.get("port", "*")) for p in obj.get("ports") or []]
    found = [a for e in obj.get("endpoints") or [] for a in e.get("addresses", [])]
    text = ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
    return [obj.get("addressType", ""), ",".join(ports) or "<unset>", text or "<unset>", _age(obj, now)]


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
        _age(obj, now),
        info.get("kubeletVersion", ""),
        address.get("InternalIP", "<none>"),
        address.get("ExternalIP", "<none>"),
        info.get("osImage", "<unknown>"),
        info.get("kernelVersion", "<unknown>"),
        info.get("containerRuntimeVersion", "<unknown>"),
    ]


def _event(obj: Object, now: datetime) -> list[Any]:
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
        ", ".join(filter(None, [source.get("component") or obj.get("reportingComponent", ""), source.get("host", "")])),
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
        _age(obj, now),
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
        _age(obj, now),
        names("User"),
        names("Group"),
        names("ServiceAccount"),
    ]


def _count(field: str) -> Row:
    return lambda obj, now: [len(obj.get(field) or {}) + len(obj.get("binaryData") or {}), _age(obj, now)]


def _namespace(obj: Object, now: datetime) -> list[Any]:
    return [obj.get("status", {}).get("phase", ""), _age(obj, now)]


_WIDE_TEMPLATE: Final = "Containers* Images*"
# columns after Name ("*": shown with -o wide only; "#": a number), and the row
_KINDS: Final[dict[str, tuple[str, Row]]] = {
    "Pod": ("Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*", _pod),
    "Deployment": (f"Ready Up-to-date# Available# Age {_WIDE_TEMPLATE} Selector*", _deployment),
    "ReplicaSet": (f"Desired# Current# Ready# Age {_WIDE_TEMPLATE} Selector*", _replica_set),
    "DaemonSet": (
        f"Desired# Current# Ready# Up-to-date# Available# Node_Selector Age {_WIDE_TEMPLATE} Selector*",
        _daemon_set,
    ),
    "StatefulSet": (f"Ready Age {_WIDE_TEMPLATE}", _stateful_set),
    "Job": (f"Status Completions Duration Age {_WIDE_TEMPLATE} Selector*", _job),
    "CronJob": (f"Schedule Timezone Suspend Active# Last_Schedule Age {_WIDE_TEMPLATE} Selector*", _cron_job),
    "Service": ("Type Cluster-IP External-IP Port(s) Age Selector*", _service),
    "Endpoints": ("Endpoints Age", _endpoints),
    "EndpointSlice": ("AddressType Ports Endpoints Age", _endpoint_slice),
    "Node": ("Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*", _node),
    "Namespace": ("Status Age", _namespace),
    "ConfigMap": ("Data# Age", _count("data")),
    "Secret": ("Type Data# Age", lambda obj, now: [obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now)]),
    "ServiceAccount": ("Secrets# Age", lambda obj, now: [len(obj.get("secrets") or []), _age(obj, now)]),
    "PodDisruptionBudget": ("Min_Available Max_Unavailable Allowed_Disruptions# Age", _budget),
    "NetworkPolicy": ("Pod-Selector Age", lambda obj, now: [_selector(obj["spec"].get("podSelector")), _age(obj, now)]),
    "Role": ("Created_At", lambda obj, _now: [obj["metadata"].get("creationTimestamp", "")]),
    "ClusterRole": ("Created_At", lambda obj, _now: [obj["metadata"].get("creationTimestamp", "")]),
    "RoleBinding": ("Role Age Users* Groups* ServiceAccounts*", _binding),
    "ClusterRoleBinding": ("Role Age Users* Groups* ServiceAccounts*", _binding),
    "Lease": ("Holder Age", lambda obj, now: [obj.get("spec", {}).get("holderIdentity", ""), _age(obj, now)]),
    "PriorityClass": (
        "Value# Global-Default Age",
        lambda obj, now: [obj.get("value", 0), str(bool(obj.get("globalDefault"))).lower(), _age(obj, now)],
    ),
    "ControllerRevision": (
        "Controller Revision# Age",
        lambda obj, now: [
            next(
                (
                    f"{o['kind'].lower()}.{o['apiVersion'].partition('/')[0]}/{o['name']}"
                    for o in obj["metadata"].get("ownerReferences", [])
                    if o.get("controller")
                ),
                "<none>",
            ),
            obj.get("revision", 0),
            _age(obj, now),
        ],
    ),
}
_EVENT_COLUMNS: Final = "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count#* Name*"


def _column(text: str) -> dict[str, Any]:
    name = text.rstrip("#*").replace("_", " ")
    return {
        "name": name,
        "type": "integer" if "#" in text else "string",
        "format": "",
        "description": name,
        "priority": 1 if "*" in text else 0,
    }


def columns(resource: Resource) -> list[dict[str, Any]]:
    """The kind's columns."""
    if resource.kind == "Event":
        return [_column(text) for text in _EVENT_COLUMNS.split()]
    name = {
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": "Name must be unique within a namespace.",
        "priority": 0,
    }
    return [name, *(_column(text) for text in _KINDS.get(resource.kind, ("Age", None))[0].split())]


def included(query: Mapping[str, str]) -> str:
    """`includeObject` of a query; StatusError 400."""
    asked = query.get("includeObject", "Metadata") or "Metadata"
    if asked not in ("None", "Metadata", "Object"):
        raise bad_request(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{asked}": '
            "must be 'Metadata', 'Object', 'None', or empty"
        )
    return asked


def row(resource: Resource, obj: Object, now: datetime, include: str) -> dict[str, Any]:
    """One object's cells, with the object itself as `includeObject` asks: None, Metadata or Object."""
    if resource.kind == "Event":
        cells = _event(obj, now)
    else:
        shown = _KINDS.get(resource.kind)
        cells = [obj["metadata"]["name"], *(shown[1](obj, now) if shown else [_age(obj, now)])]
    result: dict[str, Any] = {"cells": cells}
    if include == "Object":
        result["object"] = obj
    elif include != "None":
        result["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": obj["metadata"],
        }
    return result


def table(
    resource: Resource,
    objects: Sequence[Object],
    now: datetime,
    include: str,
    meta: dict[str, Any],
    *,
    header: bool = True,
) -> dict[str, Any]:
    """The Table; without `header` only rows, as later events of a watch have it."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": columns(resource) if header else None,
        "rows": [row(resource, obj, now, include) for obj in objects],
    }
