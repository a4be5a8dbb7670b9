"""A pod's status, computed from the kubelet's records. Pure; the rules are Kubernetes' own.

Sources: pkg/kubelet/kubelet_pods.go (getPhase, convertToAPIContainerStatuses), pkg/kubelet/status/generate.go
(conditions), pkg/kubelet/status/status_manager.go (a terminal phase waits until nothing runs). Compared with
recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from chaos.embedded.kubelet.container_records import PodState, Record, is_sidecar, restarts
from chaos.embedded.resources import Object

RUNTIME: Final = "containerd"
KEPT: Final = ("qosClass", "nominatedNodeName", "resize")  # others', or the admission's
OWNED: Final = (
    "PodResizeInProgress",
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _terminated(record: Record) -> dict[str, Any]:
    result: dict[str, Any] = {
        "containerID": f"{RUNTIME}://{record.id}",
        "exitCode": record.exit_code,
        "finishedAt": stamp(record.finished_at),
    }
    if record.message:
        result["message"] = record.message
    return result | {"reason": record.reason, "startedAt": stamp(record.started_at)}


def should_restart(pod: Object, container: Mapping[str, Any], record: Record, *, terminal: bool) -> bool:
    """Whether to restart a container that ended."""
    if terminal or "deletionTimestamp" in pod["metadata"]:
        return False
    return restarts(pod, container, record.exit_code)


def container_status(
    pod: Object, container: Mapping[str, Any], state: PodState, *, init: bool, default_reason: str
) -> dict[str, Any]:
    """One entry of containerStatuses or initContainerStatuses."""
    records = state.records.get(container["name"], [])
    record = records[-1] if records else None
    before = records[-2] if len(records) > 1 else None
    status: dict[str, Any] = {
        "image": container["image"],
        "imageID": "",
        "lastState": {},
        "name": container["name"],
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {"waiting": {"reason": default_reason}},
    }
    if record is not None:
        status |= {
            "containerID": f"{RUNTIME}://{record.id}",
            "image": record.image,
            "imageID": record.image_id,
            "resources": dict(record.resources),
            "restartCount": record.attempt,
        }
        if requests := record.resources.get("requests"):
            status["allocatedResources"] = dict(requests)
        if record.user:
            status["user"] = {"linux": dict(record.user)}
        if before is not None:
            status["lastState"] = {"terminated": _terminated(before)}
        if record.state == "running":
            status["state"] = {"running": {"startedAt": stamp(record.started_at)}}
            probes = state.probes.get(record.id)
            status["started"] = probes is not None and probes.started
            status["ready"] = probes is not None and probes.ready and probes.started
            if init and not is_sidecar(container):
                status["started"], status["ready"] = True, False
        else:
            status["state"] = {"terminated": _terminated(record)}
            if init and not is_sidecar(container):
                status["ready"] = record.exit_code == 0
    if container["name"] in state.waiting and (
        record is None or (record.state == "exited" and should_restart(pod, container, record, terminal=state.terminal))
    ):
        reason, message = state.waiting[container["name"]]
        if record is not None:
            status["lastState"] = {"terminated": _terminated(record)}
        status["state"] = {"waiting": ({"message": message} if message else {}) | {"reason": reason}}
    if state.stopped and "waiting" in status["state"]:  # it never ran, and now never will
        status["state"] = {
            "terminated": {
                "exitCode": 137,
                "finishedAt": None,
                "reason": "ContainerStatusUnknown",
                "startedAt": None,
                "message": "The container could not be located when the pod was terminated",
            }
        }
    read_only = {"readOnly": True, "recursiveReadOnly": "Disabled"}
    mounts = [
        {"mountPath": m["mountPath"], "name": m["name"]} | (read_only if m.get("readOnly") else {})
        for m in container.get("volumeMounts", [])
    ]
    if mounts:
        status["volumeMounts"] = mounts
    return dict(sorted(status.items()))


def phase(pod: Object, statuses: Mapping[str, Mapping[str, Any]], state: PodState) -> str:
    """The pod's phase by its containers' states (getPhase)."""
    spec = pod["spec"]
    final = False  # an init container ended for good
    again = 0  # containers that ended and will run again
    pending = failed_initialisation = waiting = running = stopped = succeeded = pending_sidecars = 0
    main_created = any(state.records.get(c["name"]) for c in spec["containers"])
    for container in spec.get("initContainers", []):
        status = statuses[container["name"]]["state"]
        last = statuses[container["name"]]["lastState"].get("terminated")
        if is_sidecar(container):
            if "running" in status:
                running += 1
                pending_sidecars += not statuses[container["name"]]["started"]
            elif "waiting" in status and last is None:
                pending_sidecars += 1
        elif "running" in status:
            pending += 1
        elif "terminated" in status:
            failed_initialisation += status["terminated"]["exitCode"] != 0
            final = final or not restarts(pod, container, status["terminated"]["exitCode"])
        elif last is not None:
            failed_initialisation += last["exitCode"] != 0
        else:
            pending += 1
    for container in spec["containers"]:
        status = statuses[container["name"]]["state"]
        if "running" in status:
            running += 1
        elif "terminated" in status:
            stopped += 1
            succeeded += status["terminated"]["exitCode"] == 0
            again += restarts(pod, container, status["terminated"]["exitCode"])
        elif statuses[container["name"]]["lastState"].get("terminated"):
            stopped += 1
            again += 1
        else:
            waiting += 1
    if failed_initialisation and final:
        return "Failed"
    if state.terminal and not running:
        return (
            "Succeeded" if stopped and stopped == succeeded and not waiting and not failed_initialisation else "Failed"
        )
    if pending or failed_initialisation or (pending_sidecars and not main_created) or waiting:
        return "Pending"
    if stopped and stopped == len(spec["containers"]) and not running:
        if again:
            return "Running"
        return "Succeeded" if stopped == succeeded else "Failed"
    return "Running" if running else "Pending"


def conditions(
    pod: Object, statuses: Mapping[str, Mapping[str, Any]], new_phase: str, state: PodState
) -> list[dict[str, Any]]:
    """The kubelet's conditions, without transition times."""
    spec = pod["spec"]
    sidecars = [c["name"] for c in spec.get("initContainers", []) if is_sidecar(c)]
    mains = [c["name"] for c in spec["containers"]]

    def condition(kind: str, good: bool, reason: str = "", message: str = "") -> dict[str, Any]:
        result: dict[str, Any] = {"type": kind, "status": "True" if good else "False"}
        return result | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})

    done = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(new_phase, "")
    main_started = any(
        "running" in statuses[n]["state"] or "terminated" in statuses[n]["state"] or statuses[n]["lastState"]
        for n in mains
    )
    incomplete = (
        []
        if main_started
        else [
            c["name"]
            for c in spec.get("initContainers", [])
            if not (statuses[c["name"]]["started"] if is_sidecar(c) else statuses[c["name"]]["ready"])
        ]
    )
    if new_phase == "Succeeded":
        initialised = condition("Initialized", True, done)
    elif incomplete:
        initialised = condition(
            "Initialized",
            False,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(incomplete)}]",
        )
    else:
        initialised = condition("Initialized", True)
    unready = [name for name in [*sidecars, *mains] if not statuses[name]["ready"]]
    if done:
        ready = condition("ContainersReady", False, done)
    elif unready:
        ready = condition(
            "ContainersReady", False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
        )
    else:
        ready = condition("ContainersReady", True)
    given = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
    gates = [gate["conditionType"] for gate in spec.get("readinessGates") or []]
    missing = [
        f'corresponding condition of pod readiness gate "{gate}" does not exist.'
        if gate not in given
        else f'the status of pod readiness gate "{gate}" is not "True", but {given[gate]}'
        for gate in gates
        if given.get(gate) != "True"
    ]
    if ready["status"] == "True" and missing:
        pod_ready = condition("Ready", False, "ReadinessGatesNotReady", "; ".join(missing))
    else:
        pod_ready = ready | {"type": "Ready"}
    resizing = [condition("PodResizeInProgress", True) | {"lastProbeTime": state.resizing}] if state.resizing else []
    return [
        *resizing,
        condition("PodReadyToStartContainers", state.sandbox_ready and bool(state.address)),
        initialised,
        pod_ready,
        ready,
        condition("PodScheduled", True),
    ]


def merge_conditions(
    old: list[dict[str, Any]], new: list[dict[str, Any]], generation: int | None, now: str
) -> list[dict[str, Any]]:
    """Other writers' conditions (readiness gates and such), then the new ones with earlier transition times kept."""
    before = {c["type"]: c for c in old}
    merged = []
    for condition in new:
        was = before.get(condition["type"])
        since = was.get("lastTransitionTime", now) if was is not None and was["status"] == condition["status"] else now
        full = {"lastProbeTime": None, "lastTransitionTime": since} | condition
        if generation is not None:
            full["observedGeneration"] = generation
        merged.append(dict(sorted(full.items())))
    return [c for c in old if c["type"] not in OWNED] + merged


def pod_status(pod: Object, state: PodState, *, host: str, now: str) -> dict[str, Any]:
    """The whole status. A terminal phase is shown only once nothing runs (`state.stopped`), its conditions before."""
    spec = pod["spec"]
    old = pod.get("status", {})
    inits = spec.get("initContainers", [])
    default = "PodInitializing" if inits else "ContainerCreating"
    init_statuses = [container_status(pod, c, state, init=True, default_reason="PodInitializing") for c in inits]
    main_statuses = [container_status(pod, c, state, init=False, default_reason=default) for c in spec["containers"]]
    by_name = {s["name"]: s for s in [*init_statuses, *main_statuses]}
    computed = phase(pod, by_name, state)
    shown = old.get("phase", "Pending") if computed in ("Succeeded", "Failed") and not state.stopped else computed
    generation = pod["metadata"].get("generation")
    result = {
        **{key: value for key, value in old.items() if key in KEPT},
        "conditions": merge_conditions(list(old.get("conditions", [])), conditions(pod, by_name, computed, state),
                                       generation, now),
        "containerStatuses": main_statuses, "hostIP": host, "hostIPs": [{"ip": host}], "phase": shown,
        "startTime": state.started_at,
    }  # fmt: skip
    if inits:
        result["initContainerStatuses"] = init_statuses
    if guests := spec.get("ephemeralContainers"):
        result["ephemeralContainerStatuses"] = [
            container_status(pod, c, state, init=False, default_reason="ContainerCreating") | {"ready": False}
            for c in guests
        ]
    if generation is not None:
        result["observedGeneration"] = generation
    if state.address and (state.sandbox_ready or state.terminal):
        result |= {"podIP": state.address, "podIPs": [{"ip": state.address}]}
    if state.reason:
        result |= {"reason": state.reason} | ({"message": state.message} if state.message else {})
    return dict(sorted(result.items()))
