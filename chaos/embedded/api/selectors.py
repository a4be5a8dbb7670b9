"""Label and field selectors of query strings. Pure; called by lists, watches and deletions of collections."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import bad_request
from chaos.embedded.resources import Object, Resource

Predicate = Callable[[Object], bool]

_KEY: Final = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_SET: Final = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUALITY: Final = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_ORDER: Final = re.compile(rf"({_KEY})\s*([<>])\s*(-?\d+)")
_EXISTS: Final = re.compile(rf"(!?)\s*({_KEY})")

# field selectors that Kubernetes supports beside metadata.name and metadata.namespace
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "Node": ("spec.unschedulable",),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
    "Job": ("status.successful",),
    "ReplicaSet": ("status.replicas",),
    "Service": ("spec.clusterIP", "spec.type"),
}


def _split(text: str) -> list[str]:
    """At commas that are not inside parentheses."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if match := _SET.fullmatch(text):
        key, values = match[1], {value.strip() for value in match[3].split(",")}
        if any(not re.fullmatch(_VALUE, value) for value in values):
            raise ValueError(text)
        if match[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUALITY.fullmatch(text):
        key, value = match[1], match[3]
        if match[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _ORDER.fullmatch(text):
        key, bound, sign = match[1], int(match[3]), 1 if match[2] == ">" else -1
        return lambda labels: _number(labels.get(key)) is not None and sign * (_number(labels[key]) or 0) > sign * bound
    if match := _EXISTS.fullmatch(text):
        key, wanted = match[2], not match[1]
        return lambda labels: (key in labels) == wanted
    raise ValueError(text)


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def label_selector(text: str) -> Predicate | None:
    """None when everything matches; raises StatusError 400."""
    if not text.strip():
        return None
    try:
        tests = [_requirement(part.strip()) for part in _split(text)]
    except ValueError as error:
        raise bad_request(f"unable to parse requirement: {error.args[0]!r} is not a label selector") from None

    def matches(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def field_value(obj: Object, field: str) -> str:
    """The field as a selector sees it: a string, empty when unset."""
    if field == "source":
        return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")
    if field == "status.successful":
        return str((obj.get("status") or {}).get("succeeded", 0))
    value: Any = obj
    for part in field.split("."):
        value = (value or {}).get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return (
            "false"
            if field in ("spec.unschedulable", "spec.hostNetwork")
            else "0"
            if field == "status.replicas"
            else ""
        )
    return str(value)


def field_selector(resource: Resource, text: str) -> Predicate | None:
    """None when everything matches; raises StatusError 400 for a field that cannot be selected by."""
    terms: list[tuple[str, str, bool]] = []
    for part in text.split(","):
        if not part.strip():
            continue
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part.strip())
        if match is None:
            raise bad_request(f"invalid field selector {part!r}: want field=value or field!=value")
        field = match[1].strip()
        if field not in ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.kind, ())):
            raise bad_request(
                f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                f"{''.join(f', {known!r}' for known in _FIELDS.get(resource.kind, ()))}".replace("'", '"')
                if resource.kind not in _FIELDS
                else f"field label not supported: {field}"
            )
        terms.append((field, match[3].strip(), match[2] != "!="))
    if not terms:
        return None
    return lambda obj: all((field_value(obj, field) == value) == equal for field, value, equal in terms)


def both(first: Predicate | None, second: Predicate | None) -> Predicate | None:
    """The conjunction."""
    if first is None or second is None:
        return first or second
    one, other = first, second
    return lambda obj: one(obj) and other(obj)
