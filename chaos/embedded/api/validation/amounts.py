"""Validation of resource amounts and names: limits, requests, LimitRanges, ResourceQuotas."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from chaos.embedded.api.errors import dangling, duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import NOT_NEGATIVE, Causes, each, qualified
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_COUNTED: Final = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_QUOTA: Final = frozenset(
    {*_COMPUTE, *_COUNTED, *(f"{part}.{name}" for part in ("requests", "limits") for name in _COMPUTE)}
    | {"requests.storage"}
)
_STANDARD: Final = _QUOTA | {"storage"}
_POD_LEVEL: Final = ("cpu", "memory")
_SCOPES: Final = (
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
)
_POD_AMOUNTS: Final = frozenset({"pods", *_COMPUTE, *(f"{p}.{n}" for p in ("requests", "limits") for n in _COMPUTE)})


def _is_huge(name: str) -> bool:
    return name.startswith("hugepages-")


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    return not (_is_native(name) or name.startswith("requests.")) and not qualified(f"requests.{name}")


def _may_overcommit(name: str) -> bool:
    return _is_native(name) and not _is_huge(name)


def _resource_name(name: str, field: str) -> Causes:
    faults = qualified(name)
    yield from each(field, name, faults)
    if (
        not faults
        and "/" not in name
        and name not in _STANDARD
        and not name.startswith(("hugepages-", "requests.huge"))
    ):
        yield wrong(field, name, "must be a standard resource type or fully qualified")


def container_resource(name: str, field: str) -> Causes:
    """Validate the name of a resource that a container may have."""
    yield from _resource_name(name, field)
    if "/" not in name:
        if name not in _COMPUTE and not _is_huge(name):
            yield wrong(field, name, "must be a standard resource for containers")
    elif not _is_native(name) and not is_extended(name):
        yield wrong(field, name, "doesn't follow extended resource name standard")


def _pod_resource(name: str, field: str) -> Causes:
    faults = list(_resource_name(name, field))
    yield from faults
    if not faults and name not in _POD_LEVEL and not _is_huge(name):
        yield unsupported(field, name, _POD_LEVEL)


def _amount(name: str, value: Any, field: str) -> Causes:
    number = parse_quantity(value)
    if number < 0:
        yield wrong(field, str(value), NOT_NEGATIVE)
    if (name in _COUNTED or is_extended(name)) and number.denominator != 1:
        yield wrong(field, value, "must be an integer")


def requirements(resources: Mapping[str, Any], field: str, claims: set[str], *, of_pod: bool = False) -> Causes:
    """Validate `resources` of a container, or of a pod as a whole."""
    rule = _pod_resource if of_pod else container_resource
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, value in sorted(limits.items()):
        where = f"{field}.limits[{name}]"
        yield from rule(name, where)
        yield from _amount(name, value, where)
        yield from _huge_pages(name, value, where)
    for name, value in sorted(requests.items()):
        where = f"{field}.requests[{name}]"
        yield from rule(name, where)
        yield from _amount(name, value, where)
        if name in limits:
            number, limit = parse_quantity(value), parse_quantity(limits[name])
            if number != limit and not _may_overcommit(name):
                yield wrong(f"{field}.requests", str(value), f"must be equal to {name} limit of {limits[name]}")
            elif number > limit:
                words = f"must be less than or equal to {name} limit of {limits[name]}"
                yield wrong(f"{field}.requests", str(value), words)
        elif not _may_overcommit(name):
            yield required(f"{field}.limits", "Limit must be set for non overcommitable resources")
        yield from _huge_pages(name, value, where)
    names = {*limits, *requests}
    if any(map(_is_huge, names)) and not names & {"cpu", "memory"}:
        yield not_allowed(field, "HugePages require cpu or memory")
    yield from _claims(resources.get("claims") or [], f"{field}.claims", claims)


def _huge_pages(name: str, value: Any, field: str) -> Causes:
    if not _is_huge(name):
        return
    try:
        size = parse_quantity(name.removeprefix("hugepages-"))
    except ValueError:
        size = Fraction(0)
    number = parse_quantity(value)
    if not size or number % size or number < 0:
        yield wrong(field, str(value), f"{value} is not positive integer multiple of {name}")


def _claims(claims: list[Any], field: str, known: set[str]) -> Causes:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        where, name = f"{field}[{index}]", claim.get("name", "")
        if not name:
            yield required(where)
            continue
        key = f"{name}/{claim['request']}" if claim.get("request") else name
        if key in seen:
            yield duplicate(where, key)
        seen.add(key)
        if name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            yield dangling(where, name, f"must be one of the names in pod.spec.resourceClaims{listed}")


def limit_range(obj: Object) -> Causes:
    types: set[str] = set()
    for index, limit in enumerate((obj.get("spec") or {}).get("limits") or []):
        where, kind = f"spec.limits[{index}]", limit.get("type", "")
        faults = qualified(kind)
        yield from each(f"{where}.type", kind, faults)
        if not faults and "/" not in kind and kind not in ("Pod", "Container", "PersistentVolumeClaim"):
            yield wrong(f"{where}.type", kind, "must be a standard limit type or fully qualified")
        if kind in types:
            yield duplicate(f"{where}.type", kind)
        types.add(kind)
        rule = container_resource if kind in ("Pod", "Container") else _resource_name
        for part in ("max", "min"):
            for name in sorted(limit.get(part) or {}):
                yield from rule(name, f"{where}.{part}[{name}]")
        for part in ("default", "defaultRequest"):
            if kind == "Pod":
                if limit.get(part):
                    yield not_allowed(f"{where}.{part}", "may not be specified when `type` is 'Pod'")
                continue
            for name in sorted(limit.get(part) or {}):
                yield from rule(name, f"{where}.{part}[{name}]")
        if kind == "PersistentVolumeClaim" and not any("storage" in (limit.get(part) or {}) for part in ("min", "max")):
            words = "either minimum or maximum storage value is required, but neither was provided"
            yield required(f"{where}.limits", words)
        for name in sorted(limit.get("maxLimitRequestRatio") or {}):
            yield from rule(name, f"{where}.maxLimitRequestRatio[{name}]")
        yield from _limit_values(limit, where)


_PART: Final = {"min": "min", "max": "max", "default": "default", "defaultRequest": "default request"}
_LIMIT: Final = {("defaultRequest", "default"): " limit"}
# (what must not exceed, what it must not exceed, the field that is told, the value that is shown)
_ORDERED: Final = (
    ("min", "max", "min", "min"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest"),
    ("min", "default", "default", "min"),
    ("default", "max", "default", "max"),
)


def _limit_values(limit: Mapping[str, Any], where: str) -> Causes:
    parts = {"min", "max", "default", "defaultRequest", "maxLimitRequestRatio"}
    names = sorted({name for part in parts for name in limit.get(part) or {}})
    for name in names:
        held = {part: limit[part][name] for part in parts if name in (limit.get(part) or {})}
        number = {part: parse_quantity(value) for part, value in held.items()}
        for low, high, at, shown in _ORDERED:
            words = (
                f"{_PART[low]} value {{low}} is greater than {_PART[high]}{_LIMIT.get((low, high), '')} value {{high}}"
            )
            if low in number and high in number and number[low] > number[high]:
                yield wrong(f"{where}.{at}[{name}]", held[shown], words.format(low=held[low], high=held[high]))
        ratio = number.get("maxLimitRequestRatio")
        at = f"{where}.maxLimitRequestRatio[{name}]"
        if ratio is not None and ratio < 1:
            yield wrong(at, held["maxLimitRequestRatio"], f"ratio {held['maxLimitRequestRatio']} is less than 1")
        if ratio is not None and number.get("min") and "max" in number and ratio > number["max"] / number["min"]:
            bound = float(number["max"] / number["min"])
            shown = held["maxLimitRequestRatio"]
            yield wrong(at, shown, f"ratio {shown} is greater than max/min = {bound:f}")
        if _may_overcommit(name) or not {"default", "defaultRequest"} <= number.keys():
            continue
        if number["default"] != number["defaultRequest"]:
            words = f"default value {held['default']} must equal to defaultRequest value {held['defaultRequest']}"
            yield wrong(f"{where}.defaultRequest[{name}]", held["defaultRequest"], f"{words} in {name}")


def resource_quota(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    for name, value in sorted(hard.items()):
        where = f"spec.hard[{name}]"
        yield from _resource_name(name, where)
        if "/" not in name and name not in _QUOTA and not name.startswith(("hugepages-", "requests.hugepages-")):
            yield wrong(where, name, "must be a standard resource for quota")
        yield from _amount(name, value, where)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            yield wrong("spec.scopes", scopes, "unsupported scope")
        for name in sorted(hard):
            if name in _QUOTA and not _scope_fits(scope, name):
                yield wrong("spec.scopes", scopes, "unsupported scope applied to resource")
    yield from _conflicting(set(scopes), scopes)
    yield from _scope_selector(spec, hard)


def _scope_fits(scope: str, name: str) -> bool:
    if scope == "BestEffort":
        return name == "pods"
    if scope == "VolumeAttributesClass":
        return name in ("persistentvolumeclaims", "requests.storage")
    return scope not in _SCOPES or name in _POD_AMOUNTS


def _conflicting(held: set[str], shown: list[str]) -> Causes:
    for pair in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if held.issuperset(pair):
            yield wrong("spec.scopes", shown or None, "conflicting scopes")


def _scope_selector(spec: Mapping[str, Any], hard: Mapping[str, Any]) -> Causes:
    selector = spec.get("scopeSelector")
    if selector is None:
        return
    where, held = "spec.scopeSelector.matchExpressions", set()
    for one in selector.get("matchExpressions") or []:
        scope, operator, values = one.get("scopeName", ""), one.get("operator", ""), one.get("values") or []
        held.add(scope)
        if scope not in _SCOPES:
            yield wrong(f"{where}.scopeName", scope, "unsupported scope")
        if any(name in _QUOTA and not _scope_fits(scope, name) for name in hard):
            yield wrong(where, selector, "unsupported scope applied to resource")
        if scope in _SCOPES and scope not in ("PriorityClass", "VolumeAttributesClass") and operator != "Exists":
            words = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating,"
                " ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            yield wrong(f"{where}.operator", operator, words)
        if operator in ("In", "NotIn"):
            if not values:
                words = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                yield required(f"{where}.values", words)
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                words = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                yield wrong(f"{where}.values", values, words)
        else:
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
    yield from _conflicting(held, spec.get("scopes") or [])
