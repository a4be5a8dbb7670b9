"""Label and field selectors of query strings. Pure; called by lists, watches and deletions of collections."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import bad_request
from chaos.embedded.api.validation import names
from chaos.embedded.resources import EVENTS_EVENT, Object, Resource
from chaos.fields import whole_number

Predicate = Callable[[Object], bool]

_OPERATORS: Final = ("in", "notin", "=", "==", "!=", ">", "<")
_TOKENS: Final = re.compile(r"\s*([^\s=!(),><]+|==|!=|[=!(),><])")
_SPECIAL: Final = "=!(),><"

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
    "Service": ("spec.clusterIP", "spec.type"),
    "ReplicationController": ("status.replicas",),
}
_EVENTS_GROUP: Final[Mapping[str, str]] = {  # to the names of the stored form
    **{f"regarding.{name.partition('.')[2]}": name for name in _FIELDS["Event"] if name.startswith("involvedObject.")},
    "reportingController": "reportingComponent",
}


class _Parser:
    """A parser of label selectors, with the error words of k8s.io/apimachinery/pkg/labels."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKENS.findall(text)
        self._at = 0

    def _see(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._see()
        self._at += 1
        return token

    def tests(self) -> list[Callable[[Mapping[str, str]], bool]]:
        """Parse the requirements; raises ValueError."""
        found = []
        while token := self._see():
            if token != "!" and token in _SPECIAL + "==!=":
                raise ValueError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            token = self._take()
            if not token:
                break
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            if (following := self._see()) != "!" and not _is_word(following):
                raise ValueError(f"found '{following}', expected: identifier after ','")
        return found

    def _requirement(self) -> Callable[[Mapping[str, str]], bool]:
        key = self._take()
        absent = key == "!"
        if absent:
            key = self._take()
        if not _is_word(key):
            raise ValueError(f"found '{key}', expected: identifier")
        for why in names.qualified(key):
            raise ValueError(f'<nil>: Invalid value: "{key}": {why}')
        if absent or self._see() in ("", ","):
            return lambda labels: (key in labels) != absent
        operator = self._take()
        if operator not in _OPERATORS:
            raise ValueError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._values() if operator in ("in", "notin") else {self._value()}
        return _test(key, operator, values)

    def _value(self) -> str:
        if self._see() in ("", ","):
            return ""
        token = self._take()
        if not _is_word(token):
            raise ValueError(f"found '{token}', expected: identifier")
        return token

    def _values(self) -> set[str]:
        if (token := self._take()) != "(":
            raise ValueError(f"found '{token}' expected: '('")
        if self._see() == ")":
            self._take()
            return {""}
        if (token := self._see()) != "," and not _is_word(token):
            raise ValueError(f"found '{token}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            token = self._take()
            if _is_word(token):
                values.add(token)
                if self._see() not in (",", ")"):
                    raise ValueError(f"found '{self._see()}', expected: ',' or ')'")
            elif token == ",":
                values |= {""} if not values or self._see() in (",", ")") else set()
            else:
                raise ValueError(f"found '{token}', expected: ',', or identifier")
            if self._see() == ")":
                self._take()
                return values


def _is_word(token: str) -> bool:
    return bool(token) and token[0] not in _SPECIAL


def _test(key: str, operator: str, values: set[str]) -> Callable[[Mapping[str, str]], bool]:
    for index, value in enumerate(sorted(values)):
        for why in names.label_value(value):
            raise ValueError(f'values[{index}][{key}]: Invalid value: "{value}": {why}')
    if operator in (">", "<"):
        bound = _number(next(iter(values)))
        if bound is None:
            why = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise ValueError(f'values[0]: Invalid value: "{next(iter(values))}": {why}')
        sign = 1 if operator == ">" else -1
        return lambda labels: (held := _number(labels.get(key))) is not None and sign * held > sign * bound
    if operator in ("notin", "!="):
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values


def _number(text: str | None) -> int | None:
    return whole_number(text)


def label_selector(text: str) -> Predicate | None:
    """Parse a label selector; None when everything matches; raises StatusError 400."""
    if not text.strip():
        return None
    try:
        tests = _Parser(text).tests()
    except ValueError as error:
        raise bad_request(str(error)) from None

    def matches(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def field_value(obj: Object, field: str) -> str:
    """A field as a selector compares it: a string, empty when unset."""
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
        return "false" if field in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value)


def selector_text(selector: Mapping[str, Any]) -> str:
    """A label selector of a spec in the form of a query; labels before expressions."""
    labels = (f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items()))
    return ",".join((*labels, *(_expression_text(one) for one in selector.get("matchExpressions") or [])))


def _expression_text(one: Mapping[str, Any]) -> str:
    values = ",".join(one.get("values") or [])
    texts: dict[str, str] = {
        "In": f"{one['key']} in ({values})",
        "NotIn": f"{one['key']} notin ({values})",
        "Exists": one["key"],
        "DoesNotExist": f"!{one['key']}",
    }
    return texts[one["operator"]]


def field_selector(resource: Resource, text: str) -> Predicate | None:
    """Parse a field selector; None when everything matches; raises StatusError 400 for an unsupported field. An Event's
    fields have the names of the group in which it is asked for.
    """
    renamed = _EVENTS_GROUP if resource is EVENTS_EVENT else {}
    known = resource.custom.selectable if resource.custom is not None else _FIELDS.get(resource.kind)
    terms: list[tuple[str, str, bool]] = []
    for part in text.split(","):
        if not part.strip():
            continue
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part.strip())
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        asked = match[1].strip()
        field = renamed.get(asked, asked)
        if field not in ("metadata.name", "metadata.namespace", *(known or ())) or asked in renamed.values():
            if resource.kind == "Job":
                raise bad_request(f'field label "{asked}" not supported for Job')
            raise bad_request(
                f"field label not supported: {asked}"
                if known is not None
                else f'"{asked}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
        terms.append((field, match[3].strip(), match[2] != "!="))
    if not terms:
        return None
    return lambda obj: all((field_value(obj, field) == value) == equal for field, value, equal in terms)


def both(first: Predicate | None, second: Predicate | None) -> Predicate | None:
    """The conjunction of two selectors."""
    if first is None or second is None:
        return first or second
    one, other = first, second
    return lambda obj: one(obj) and other(obj)
