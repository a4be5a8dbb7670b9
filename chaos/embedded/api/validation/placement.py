"""Validation of affinity, tolerations, topology spread constraints, and a node's taints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import (
    Causes,
    dns_label,
    dns_subdomain,
    each,
    label_value,
    validate_label_name,
    validate_label_selector,
)

EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NEEDED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_LIKED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def affinity(given: Mapping[str, Any], field: str) -> Causes:
    node = given.get("nodeAffinity") or {}
    if _NEEDED in node:
        yield from node_selector(node[_NEEDED], f"{field}.nodeAffinity.{_NEEDED}")
    for index, one in enumerate(node.get(_LIKED) or []):
        where = f"{field}.nodeAffinity.{_LIKED}[{index}]"
        yield from _weight(one, where)
        yield from _node_term(one.get("preference") or {}, f"{where}.preference", values_too=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        part = given.get(kind) or {}
        for index, term in enumerate(part.get(_NEEDED) or []):
            yield from _pod_term(term, f"{field}.{kind}.{_NEEDED}[{index}]")
        for index, one in enumerate(part.get(_LIKED) or []):
            where = f"{field}.{kind}.{_LIKED}[{index}]"
            yield from _weight(one, where)
            yield from _pod_term(one.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")


def node_selector(selector: Mapping[str, Any], field: str) -> Causes:
    """Validate a node selector, of a pod's affinity or a volume's."""
    where, terms = f"{field}.nodeSelectorTerms", selector.get("nodeSelectorTerms") or []
    if not terms:
        yield required(where, "must have at least one node selector term")
    for index, term in enumerate(terms):
        yield from _node_term(term, f"{where}[{index}]", values_too=True)


def _weight(one: Mapping[str, Any], field: str) -> Causes:
    if not 1 <= one.get("weight", 0) <= 100:
        yield wrong(f"{field}.weight", one.get("weight", 0), "must be in the range 1-100")


def _node_term(term: Mapping[str, Any], field: str, *, values_too: bool) -> Causes:
    for index, one in enumerate(term.get("matchExpressions") or []):
        where, operator, values = f"{field}.matchExpressions[{index}]", one.get("operator", ""), one.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield not_allowed(f"{where}.values", words)
        elif operator in ("Gt", "Lt"):
            if len(values) != 1:
                yield required(f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
        else:
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
        yield from validate_label_name(one.get("key", ""), f"{where}.key")
        for number, value in enumerate(values if values_too else []):
            yield from each(f"{where}.values[{number}]", value, label_value(value))
    for index, one in enumerate(term.get("matchFields") or []):
        where, operator, values = f"{field}.matchFields[{index}]", one.get("operator", ""), one.get("values") or []
        if operator not in ("In", "NotIn"):
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
        elif len(values) != 1:
            words = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            yield required(f"{where}.values", words)
        if one.get("key", "") != "metadata.name":
            yield wrong(f"{where}.key", one.get("key", ""), "not a valid field selector key")
            continue
        for number, value in enumerate(values):
            yield from each(f"{where}.values[{number}]", value, dns_subdomain(value))


def _pod_term(term: Mapping[str, Any], field: str) -> Causes:
    for name in ("labelSelector", "namespaceSelector"):
        yield from validate_label_selector(term.get(name), f"{field}.{name}")
    for name in term.get("namespaces") or []:
        yield from each(f"{field}.namespace", name, dns_label(name))
    yield from _label_keys(term, field)
    key = term.get("topologyKey", "")
    if not key:
        yield required(f"{field}.topologyKey", "can not be empty")
    yield from validate_label_name(key, f"{field}.topologyKey")


def _label_keys(term: Mapping[str, Any], field: str) -> Causes:
    """Validate matchLabelKeys and mismatchLabelKeys beside a label selector."""
    selector = term.get("labelSelector")
    match, other = term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or []
    for name, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", other)):
        if keys and selector is None:
            yield not_allowed(f"{field}.{name}", "must not be specified when labelSelector is not set")
            continue
        for index, key in enumerate(keys):
            yield from validate_label_name(key, f"{field}.{name}[{index}]")
    for index, key in enumerate(match):
        if key in other:
            words = "exists in both matchLabelKeys and mismatchLabelKeys"
            yield wrong(f"{field}.matchLabelKeys[{index}]", key, words)


def tolerations(given: list[Any], field: str) -> Causes:
    for index, one in enumerate(given):
        where, key, operator = f"{field}[{index}]", one.get("key", ""), one.get("operator", "")
        value, effect = one.get("value", ""), one.get("effect", "")
        if key:
            yield from validate_label_name(key, f"{where}.key")
        elif operator != "Exists":
            words = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield wrong(f"{where}.operator", operator, words)
        if "tolerationSeconds" in one and effect != "NoExecute":
            yield wrong(f"{where}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("", "Equal"):
            if faults := label_value(value):
                yield wrong(f"{where}.operator", value, ";".join(faults))
        elif operator == "Exists":
            if value:
                yield wrong(f"{where}.operator", value, "value must be empty when `operator` is 'Exists'")
        elif operator in ("Lt", "Gt"):
            yield unsupported(f"{where}.operator", operator, ("Equal", "Exists", "Lt", "Gt"))
        else:
            yield unsupported(f"{where}.operator", operator, ("Equal", "Exists"))
        if effect and effect not in EFFECTS:
            yield unsupported(f"{where}.effect", effect, EFFECTS)


def taints(given: list[Any], field: str) -> Causes:
    seen: set[tuple[str, str]] = set()
    for index, one in enumerate(given):
        where, key, effect = f"{field}[{index}]", one.get("key", ""), one.get("effect", "")
        yield from validate_label_name(key, f"{where}.key")
        if faults := label_value(one.get("value", "")):
            yield wrong(f"{where}.value", one["value"], ";".join(faults))
        if not effect:
            yield required(f"{where}.effect")
        elif effect not in EFFECTS:
            yield unsupported(f"{where}.effect", effect, EFFECTS)
        if (key, effect) in seen:
            found = duplicate(where, _as_go(one))
            yield Cause(found.reason, where, f"{found.message}: taints must be unique by key and effect pair")
        seen.add((key, effect))


def _as_go(taint: Mapping[str, Any]) -> dict[str, Any]:
    names = {"key": "Key", "value": "Value", "effect": "Effect", "timeAdded": "TimeAdded"}
    blank = {"Key": "", "Value": "", "Effect": "", "TimeAdded": None}
    return blank | {names[key]: value for key, value in taint.items() if key in names}


def spread(constraints: list[Any], field: str) -> Causes:
    places = [(one.get("topologyKey", ""), one.get("whenUnsatisfiable", "")) for one in constraints]
    last = {place: index for index, place in enumerate(places)}
    for index, one in enumerate(constraints):
        where = f"{field}[{index}]"
        key, action = places[index]
        if one.get("maxSkew", 0) <= 0:
            yield wrong(f"{where}.maxSkew", one.get("maxSkew", 0), "must be greater than zero")
        if not key:
            yield required(f"{where}.topologyKey", "can not be empty")
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            yield unsupported(f"{where}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway"))
        if last[key, action] > index:
            yield duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}")
        least = one.get("minDomains")
        if least is not None:
            if least <= 0:
                yield wrong(f"{where}.minDomains", least, "must be greater than zero")
            if action != "DoNotSchedule":
                words = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                yield wrong(f"{where}.minDomains", least, words)
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if one.get(policy, "Honor") not in ("Honor", "Ignore"):
                yield unsupported(f"{where}.{policy}", one[policy], ("Honor", "Ignore"))
        yield from _label_keys(one, where)
        yield from validate_label_selector(one.get("labelSelector"), f"{where}.labelSelector")
