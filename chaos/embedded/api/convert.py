"""Kinds that are served in two forms of one stored object: Events as core v1 (stored) and events.k8s.io/v1;
HorizontalPodAutoscalers as autoscaling/v2 (stored) and v1. Pure; called by rest.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from chaos.embedded.resources import AUTOSCALER_V1, EVENT, EVENTS_EVENT, HORIZONTAL_POD_AUTOSCALER, Object, Resource
from chaos.embedded.store import copy

_NAMES: Final = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("count", "deprecatedCount"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("reportingComponent", "reportingController"),
)


def to_events_group(event: Object) -> dict[str, Any]:
    names = dict(_NAMES)
    served = {names.get(key, key): value for key, value in event.items()} | {"apiVersion": "events.k8s.io/v1"}
    for name in ("reportingController", "reportingInstance"):
        if not served.get(name):
            served.pop(name, None)
    return served


def from_events_group(event: Object) -> dict[str, Any]:
    names = {new: old for old, new in _NAMES}
    return {names.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}


# ---- autoscalers: version 1 knows the CPU's utilization alone; what else there is it carries in annotations

_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"


def _is_cpu(metric: Any) -> bool:
    source = metric.get("resource") or {}
    amounts = source.get("target") or source.get("current") or {}
    return metric.get("type") == "Resource" and source.get("name") == "cpu" and "averageUtilization" in amounts


def autoscaler_to_v1(stored: Object) -> dict[str, Any]:
    new = copy(stored) | {"apiVersion": AUTOSCALER_V1.api_version}
    spec, status = new["spec"], new.get("status") or {}
    carried: dict[str, Any] = {}
    metrics, current = spec.pop("metrics", None) or [], status.pop("currentMetrics", None) or []
    for held, name, part, into in (
        (metrics, "targetCPUUtilizationPercentage", "target", spec),
        (current, "currentCPUUtilizationPercentage", "current", status),
    ):
        first = next((one for one in held if _is_cpu(one)), None)
        if first is not None:
            into[name] = first["resource"][part]["averageUtilization"]
        if rest := [one for one in held if one is not first]:
            carried["metrics" if part == "target" else "current-metrics"] = rest
    for name, holder, kept in (("behavior", spec, "behavior"), ("conditions", status, "conditions")):
        if (value := holder.pop(kept, None)) is not None:
            carried[name] = value
    if carried:
        texts = {f"{_PREFIX}{name}": orjson.dumps(value).decode() for name, value in carried.items()}
        new["metadata"]["annotations"] = (new["metadata"].get("annotations") or {}) | texts
    return new


def autoscaler_from_v1(given: Object) -> dict[str, Any]:
    new = copy(given) | {"apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version}
    annotations = new["metadata"].get("annotations") or {}
    held: dict[str, Any] = {}
    for name in ("metrics", "behavior", "conditions", "current-metrics"):
        text = annotations.pop(f"{_PREFIX}{name}", None)
        if text is not None:
            try:
                held[name] = orjson.loads(text)
            except orjson.JSONDecodeError:  # as Kubernetes does, it is dropped
                continue
    if "annotations" in new["metadata"] and not annotations:
        del new["metadata"]["annotations"]
    for name, part, key in (("spec", "target", "metrics"), ("status", "current", "current-metrics")):
        holder = new.get(name)
        if holder is None:
            continue
        cpu = holder.pop(f"{part}CPUUtilizationPercentage", None)
        found = list(held.get(key) or [])
        if cpu is not None:
            amount = {"averageUtilization": cpu} | ({"type": "Utilization"} if part == "target" else {})
            found.insert(0, {"type": "Resource", "resource": {"name": "cpu", part: amount}})
        if found:
            holder["metrics" if part == "target" else "currentMetrics"] = found
    if "behavior" in held:
        new.setdefault("spec", {})["behavior"] = held["behavior"]
    if "conditions" in held and "status" in new:
        new["status"]["conditions"] = held["conditions"]
    return new


# ---- for all of them

_SHARED: Final = {
    EVENTS_EVENT: (EVENT, to_events_group, from_events_group),
    AUTOSCALER_V1: (HORIZONTAL_POD_AUTOSCALER, autoscaler_to_v1, autoscaler_from_v1),
}


def stored_kind(resource: Resource) -> Resource:
    """The kind as which a resource's objects are stored."""
    return _SHARED[resource][0] if resource in _SHARED else resource


def as_served(resource: Resource, stored: Object) -> Object:
    """Convert a stored object to the form that the resource serves."""
    return _SHARED[resource][1](stored) if resource in _SHARED else stored


def as_stored(resource: Resource, served: Object) -> Object:
    """Convert an object of a resource to its stored form."""
    return _SHARED[resource][2](served) if resource in _SHARED else served
