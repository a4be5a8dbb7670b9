"""`x-kubernetes-validations`: a schema's rules, compiled with the definition and evaluated on its objects.

The walk is that of k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel. An object's rules together may take one
second; Kubernetes limits a computed cost instead, with the same message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from chaos.embedded.api import cel
from chaos.embedded.api.custom.fits import ABSENT, counterparts
from chaos.embedded.api.custom.values import additional
from chaos.embedded.api.errors import Cause, duplicate, not_allowed, required, wrong

Schema = Mapping[str, Any]
SECONDS: Final = 1.0  # that the rules of one object may take
_MESSAGE: Final = 5 << 10  # bytes that a rule's own message may have
KEY: Final = "x-kubernetes-validations"


@lru_cache(maxsize=1024)
def _scope_of(text: bytes) -> cel.Scope:
    schema = orjson.loads(text)
    return cel.Scope({"self": schema, "oldSelf": schema})


def scope_of(schema: Schema, *, root: bool) -> cel.Scope:
    """The scope of a schema's rules, with `self` and `oldSelf`. Equal schemas share one."""
    seen = cel.root(schema) if root or schema.get("x-kubernetes-embedded-resource") else schema
    return _scope_of(orjson.dumps(_typed(seen), option=orjson.OPT_SORT_KEYS))


_TYPING: Final = ("type", "format", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource")


def _typed(schema: Schema) -> dict[str, Any]:
    """The parts of a schema that determine its type."""
    found: dict[str, Any] = {name: schema[name] for name in _TYPING if name in schema}
    if isinstance(items := schema.get("items"), Mapping):
        found["items"] = _typed(items)
    if (more := additional(schema)) is not None:
        found["additionalProperties"] = _typed(more)
    if properties := schema.get("properties"):
        found["properties"] = {name: _typed(one) for name, one in properties.items()}
    return found


def message_of(rule: Mapping[str, Any]) -> str:
    return str(rule.get("message") or rule["rule"]).strip()


class _OutOfTime(Exception):
    """The object's rules used up their time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of a schema node, and the nodes below it that have rules."""

    schema: Schema
    root: bool
    rules: tuple[Mapping[str, Any], ...]
    properties: Mapping[str, Plan]
    items: Plan | None
    more: Plan | None


def plan(schema: Schema, *, root: bool = True) -> Plan | None:
    """The rules of a schema; None without any. Each is compiled on first use."""
    parts = [schema, *(schema.get("allOf") or ())]
    rules = tuple(rule for part in parts for rule in part.get(KEY) or ())
    properties = {
        name: found
        for name, one in (schema.get("properties") or {}).items()
        if (found := plan(one, root=False)) is not None
    }
    items, more = schema.get("items"), additional(schema)
    of_items = plan(items, root=False) if isinstance(items, Mapping) else None
    of_more = plan(more, root=False) if more is not None else None
    if not rules and not properties and of_items is None and of_more is None:
        return None
    return Plan(schema, root, rules, properties, of_items, of_more)


class Check:
    """One evaluation of an object's rules."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SECONDS

    def run(self, value: Any, rules: Plan | None, *, old: Any = ABSENT) -> list[Cause]:
        """Violations of the rules; `old` is the former value."""
        found: list[Cause] = []
        try:
            for cause in self._value(value, rules, "", old):
                found.append(cause)
        except _OutOfTime as error:
            why = "validation failed due to running out of cost budget, no further validation rules will be run"
            found.append(wrong(str(error) or "<nil>", "", why))
        return found

    def _value(self, value: Any, node: Plan | None, path: str, old: Any) -> Iterator[Cause]:
        if value is None or node is None:
            return
        if node.rules:
            yield from self._rules(value, node, path, old)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                if key in node.properties:
                    where = f"{path}.{key}" if path else key
                    yield from self._value(item, node.properties[key], where, before.get(key, ABSENT))
                elif node.more is not None and key not in (node.schema.get("properties") or {}):
                    yield from self._value(item, node.more, f"{path}[{key}]", before.get(key, ABSENT))
        elif isinstance(value, list) and node.items is not None:
            before_items = counterparts(value, old, node.schema)
            for index, item in enumerate(value):
                yield from self._value(item, node.items, f"{path}[{index}]", before_items[index])

    def _rules(self, value: Any, node: Plan, path: str, old: Any) -> Iterator[Cause]:
        scope = scope_of(node.schema, root=node.root)
        seen = cel.root(node.schema) if node.root else node.schema
        values = {"self": cel.as_cel(value, seen)}
        unchanged = old is not ABSENT and old == value
        if old is not ABSENT and old is not None:
            values["oldSelf"] = cel.as_cel(old, seen)
        field = path or "<nil>"
        for rule in node.rules:
            if time.monotonic() > self._end:
                raise _OutOfTime(path)
            expression = scope.compile(rule["rule"])
            transition = "oldSelf" in expression.uses
            if transition and "oldSelf" not in values:
                continue
            try:
                holds = expression.evaluate(values)
            except cel.EvaluationFailed as error:
                yield wrong(field, str(node.schema.get("type", "")), _failure(str(error), message_of(rule)))
                continue
            if holds is not True and (transition or not unchanged):
                yield _broken(rule, field, value, node.schema, scope, values)


def _failure(error: str, rule: str) -> str:
    if error.startswith("no such overload"):
        why = "call arguments did not match a supported operator, function or macro signature"
        return f"'{error}': {why} for rule: {rule}"
    if error.startswith("operation cancelled"):
        return f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
    return f"{error} evaluating rule: {rule}"


def _broken(
    rule: Mapping[str, Any], field: str, value: Any, schema: Schema, scope: cel.Scope, values: Mapping[str, Any]
) -> Cause:
    detail = _own_message(rule, scope, values)
    if detail is None:
        detail = str(rule["message"]).strip() if rule.get("message") else f"failed rule: {message_of(rule)}"
    if at := rule.get("fieldPath"):
        field = f"{'' if field == '<nil>' else field}{at}".lstrip(".")
    reason = rule.get("reason")
    compound = schema.get("type") in ("object", "array")
    if reason == "FieldValueForbidden":
        return not_allowed(field, detail)
    if reason == "FieldValueRequired":
        return required(field, detail)
    if reason == "FieldValueDuplicate":
        return Cause(reason, field, "Duplicate value") if compound else duplicate(field, value)
    if compound:  # the value itself is left out
        return Cause("FieldValueInvalid", field, f"Invalid value: {detail}")
    return wrong(field, value, detail)


def _own_message(rule: Mapping[str, Any], scope: cel.Scope, values: Mapping[str, Any]) -> str | None:
    """The result of the rule's messageExpression; None when it is no usable text."""
    if not rule.get("messageExpression"):
        return None
    try:
        said = scope.compile(rule["messageExpression"], result="string").evaluate(values)
    except (cel.EvaluationFailed, cel.Uncompilable):
        return None
    text = str(said).strip() if isinstance(said, str) else ""
    return text if text and "\n" not in text and len(text) <= _MESSAGE else None
