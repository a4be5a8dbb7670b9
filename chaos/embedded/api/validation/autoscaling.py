"""Validation of HorizontalPodAutoscalers, after k8s.io/kubernetes/pkg/apis/autoscaling/validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.amounts import container_resource
from chaos.embedded.api.validation.names import NOT_NEGATIVE, Causes, dns_label, each, path_segment
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

_SOURCES: Final = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "External": "external",
    "ContainerResource": "containerResource",
}
_ORDER: Final = ("object", "external", "pods", "resource", "containerResource")
_TARGETS: Final = ("Utilization", "Value", "AverageValue")
_LONGEST_WINDOW, _LONGEST_PERIOD = 3600, 1800


def autoscaler(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        yield wrong("spec.minReplicas", least, "must be greater than or equal to 1")
    scales_to_zero = least == 0 and not any(one.get("type") in ("Object", "External") for one in spec["metrics"])
    if most == 0:
        yield required("spec.maxReplicas", "must be set and greater than 0")
    elif most < 0:
        yield wrong("spec.maxReplicas", most, "must be greater than or equal to 1")
    if most < least:
        yield wrong("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    target, where = spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef"
    yield from _reference(target, where)
    version = target.get("apiVersion") or ""
    if version.count("/") > 1:
        yield wrong(f"{where}.apiVersion", version, f"unexpected GroupVersion string: {version}")
    elif not version.rpartition("/")[0]:
        yield wrong(f"{where}.apiVersion", version, "apiVersion must specify API group")
    for index, metric in enumerate(spec.get("metrics") or []):
        yield from _metric(metric, f"spec.metrics[{index}]")
    if scales_to_zero:
        words = "must specify at least one Object or External metric to support scaling to zero replicas"
        yield not_allowed("spec.metrics", words)
    for way, rules in sorted((spec.get("behavior") or {}).items(), reverse=True):
        yield from _rules(rules, f"spec.behavior.{way}")


def _reference(reference: Mapping[str, Any], field: str) -> Causes:
    for name in ("kind", "name"):
        if not reference.get(name):
            yield required(f"{field}.{name}")
        else:
            yield from each(f"{field}.{name}", reference[name], path_segment(reference[name]))


def _metric(metric: Mapping[str, Any], field: str) -> Causes:
    kind = metric.get("type", "")
    if not kind:
        yield required(f"{field}.type", "must specify a metric source type")
    if kind not in _SOURCES:
        yield unsupported(f"{field}.type", kind, sorted(_SOURCES))
    present = [name for name in _ORDER if name in metric]
    for name in present[:1]:
        yield from _source(name, metric[name], f"{field}.{name}")
    expected = _SOURCES.get(kind)
    if expected is None:
        yield unsupported(f"{field}.type", kind, sorted(_SOURCES))
    elif expected not in present:
        yield required(f"{field}.{expected}", "must populate information for the given metric source")
    if len(present) != 1:
        for name in present:
            if name != expected:
                yield not_allowed(f"{field}.{name}", "must populate the given metric source only")


def _source(kind: str, source: Mapping[str, Any], field: str) -> Causes:
    target = source.get("target") or {}
    if kind in ("resource", "containerResource"):
        if not source.get("name"):
            yield required(f"{field}.name", "must specify a resource name")
        elif kind == "containerResource":
            yield from container_resource(source["name"], f"{field}.name")
        if kind == "containerResource":
            if not source.get("container"):
                yield required(f"{field}.container", "must specify a container")
            else:
                yield from each(f"{field}.container", source["container"], dns_label(source["container"]))
    else:
        if kind == "object":
            yield from _reference(source.get("describedObject") or {}, f"{field}.describedObject")
        name = (source.get("metric") or {}).get("name", "")
        if not name:
            yield required(f"{field}.metric.name", "must specify a metric name")
        yield from each(f"{field}.metric.name", name, path_segment(name))
    yield from _target(target, f"{field}.target")
    yield from _amounts(kind, target, f"{field}.target")


def _target(target: Mapping[str, Any], field: str) -> Causes:
    kind = target.get("type", "")
    if not kind:
        yield required(f"{field}.type", "must specify a metric target type")
    if kind not in _TARGETS:
        yield wrong(f"{field}.type", kind, "must be either Utilization, Value, or AverageValue")
    for name in ("value", "averageValue"):
        if name in target and parse_quantity(target[name]) <= 0:
            yield wrong(f"{field}.{name}", target[name], "must be positive")
    if target.get("averageUtilization", 1) < 1:
        yield wrong(f"{field}.averageUtilization", target["averageUtilization"], "must be greater than 0")


def _amounts(kind: str, target: Mapping[str, Any], field: str) -> Causes:
    """Validate that a target has the amounts of its type."""
    if kind in ("resource", "containerResource"):
        given = [name for name in ("averageUtilization", "averageValue") if name in target]
        if not given:
            yield required(f"{field}.averageUtilization", "must set either a target raw value or a target utilization")
        elif len(given) > 1:
            yield not_allowed(f"{field}.averageValue", "may not set both a target raw value and a target utilization")
    elif kind == "pods":
        if "averageValue" not in target:
            yield required(f"{field}.averageValue", "must specify a positive target averageValue")
    elif "value" not in target and "averageValue" not in target:
        words = "must set either a target value or averageValue"
        if kind == "external":
            words = "must set either a target value for metric or a per-pod target"
        yield required(f"{field}.averageValue", words)
    elif kind == "external" and "value" in target and "averageValue" in target:
        yield not_allowed(f"{field}.value", "may not set both a target value for metric and a per-pod target")


def _rules(rules: Mapping[str, Any], field: str) -> Causes:
    window, where = rules.get("stabilizationWindowSeconds", 0), f"{field}.stabilizationWindowSeconds"
    if window < 0:
        yield wrong(where, window, "must be greater than or equal to zero")
    if window > _LONGEST_WINDOW:
        yield wrong(where, window, f"must be less than or equal to {_LONGEST_WINDOW}")
    if rules.get("selectPolicy", "Max") not in ("Disabled", "Max", "Min"):
        yield unsupported(f"{field}.selectPolicy", rules["selectPolicy"], ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        yield required(f"{field}.policies", "must specify at least one Policy")
    for index, policy in enumerate(rules.get("policies") or []):
        where = f"{field}.policies[{index}]"
        if policy.get("type") not in ("Percent", "Pods"):
            yield unsupported(f"{where}.type", policy.get("type", ""), ("Percent", "Pods"))
        for name in ("value", "periodSeconds"):
            if policy.get(name, 0) <= 0:
                yield wrong(f"{where}.{name}", policy.get(name, 0), "must be greater than zero")
        if policy.get("periodSeconds", 0) > _LONGEST_PERIOD:
            words = f"must be less than or equal to {_LONGEST_PERIOD}"
            yield wrong(f"{where}.periodSeconds", policy["periodSeconds"], words)
    if "tolerance" in rules and parse_quantity(rules["tolerance"]) < 0:
        yield wrong(f"{field}.tolerance", str(rules["tolerance"]), NOT_NEGATIVE)
