"""Validation of CustomResourceDefinitions' schemas, in Kubernetes' words.

A schema must be structural: every field has its type outside of the logical junctors. Pure
(k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation, .../pkg/apiserver/schema). Called when a definition
is created or changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from chaos.embedded.api import cel, cel_costs
from chaos.embedded.api.custom import fits, rules, values
from chaos.embedded.api.custom.values import additional
from chaos.embedded.api.errors import Cause, not_allowed, required, unsupported, wrong

Schema = Mapping[str, Any]
Causes = Iterator[Cause]
_TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
_JUNCTORS: Final = ("anyOf", "allOf", "oneOf")
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
_AT_ROOT: Final = (  # as Kubernetes lists them, by the names of its Go fields
    "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations"
)
_ROOT_NAMES: Final = frozenset(name.lower() for name in _AT_ROOT.split())
_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


def faults(schema: Schema, path: str, *, status: bool) -> list[Cause]:
    """Validate a version's schema; `status`: it has a status subresource."""
    found = list(_of_root(schema, path, status=status))
    structure = sorted([*_invariants(schema, "root", path), *_complete(schema, schema, path, path)], key=str)
    found += structure
    if not structure:
        found += _defaults(schema, path)
    good = not found
    found += _node(schema, path, _Context(), root=True)
    if good and not found:
        spent = _Spent()
        found += _rules(schema, path, _Place(root=True), spent)
        found += spent.faults(path)
    return found


def _of_root(schema: Schema, path: str, *, status: bool) -> Causes:
    if status:
        where = "at the root of the schema if the status subresource is enabled"
        for name in schema:
            if name == "type" and schema["type"] != "object":
                yield wrong(f"{path}.type", schema["type"], f'only "object" is allowed as the type {where}')
            if _plain(name) not in _ROOT_NAMES and schema[name] not in (None, False, [], {}, ""):
                yield wrong(path, schema, f"only [{_AT_ROOT}] fields are allowed {where}")
                break
    if schema.get("nullable"):
        yield not_allowed(f"{path}.nullable", "nullable cannot be true at the root")


def _plain(name: str) -> str:
    return re.sub(r"^x-kubernetes-", "x", name).replace("-", "").lower()


# ---- structure


def _invariants(schema: Schema, level: str, path: str) -> Causes:
    """Validate that a schema is structural, node by node."""
    kind, items, more = schema.get("type", ""), schema.get("items"), additional(schema)
    properties = schema.get("properties") or {}
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    keeps = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    either = bool(schema.get("x-kubernetes-int-or-string"))
    if (kind == "array" and not items and not isinstance(items, Mapping)) or isinstance(items, str):
        yield required(f"{path}.items", "must be specified")
    if isinstance(items, Mapping):
        yield from _invariants(items, "item", f"{path}.items")
    for name, one in sorted(properties.items()):
        yield from _invariants(one, "field", f"{path}.properties[{name}]")
    if schema.get("additionalProperties") is not None:
        if level == "root":
            yield not_allowed(f"{path}.additionalProperties", "must not be used at the root")
        if more is not None:
            yield from _invariants(more, "field", f"{path}.additionalProperties")
        if embedded:
            yield not_allowed(
                f"{path}.additionalProperties", "must not be used if x-kubernetes-embedded-resource is set"
            )
    for other, name in ((keeps, "preserve-unknown-fields"), (embedded, "embedded-resource")):
        if either and other:
            yield wrong(f"{path}.x-kubernetes-{name}", True, "must be false if x-kubernetes-int-or-string is true")
    yield from _junctors(schema, path)
    if embedded and kind != "object":
        why = "must be object if x-kubernetes-embedded-resource is true"
        yield wrong(f"{path}.type", kind, why) if kind else required(f"{path}.type", why)
    elif not kind and not either and not keeps:
        where = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}
        yield required(f"{path}.type", f"must not be empty {where[level]}")
    if level == "root" and kind and kind != "object":
        yield wrong(f"{path}.type", kind, "must be object at the root")
    yield from _head(schema, level, path)
    if embedded and not keeps and not properties:
        yield required(
            f"{path}.properties",
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        )


def _head(schema: Schema, level: str, path: str) -> Causes:
    """Validate apiVersion, kind and metadata, where a schema names them."""
    properties = schema.get("properties") or {}
    checked = level == "root" or bool(schema.get("x-kubernetes-embedded-resource"))
    for name in ("kind", "apiVersion"):
        if checked and name in properties and properties[name].get("type") != "string":
            yield wrong(f"{path}.properties[{name}].type", properties[name].get("type", ""), "must be string")
    meta = properties.get("metadata")
    if meta is None:
        return
    where = f"{path}.properties[metadata]"
    if checked and meta.get("type") != "object":
        yield wrong(f"{where}.type", meta.get("type", ""), "must be object")
    allowed = {"type", "properties", "description", "default"}
    if level == "root" and (
        set(meta.get("properties") or {}) - {"name", "generateName"}
        or any(value not in (None, False, [], {}, "") for name, value in meta.items() if name not in allowed)
    ):
        why = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield not_allowed(where, why)


def _junctors(schema: Schema, path: str, *, first_all: bool = True) -> Causes:
    """Validate that logical junctors restrict values without setting types."""
    if schema.get("anyOf") != _INT_OR_STRING:
        for index, part in enumerate(schema.get("anyOf") or ()):
            yield from _nested(part, f"{path}.anyOf[{index}]", ruled=False)
    for index, part in enumerate(schema.get("allOf") or ()):
        if first_all and index == 0 and part.get("anyOf") == _INT_OR_STRING:
            part = {name: value for name, value in part.items() if name != "anyOf"}
        yield from _nested(part, f"{path}.allOf[{index}]", ruled=False)
    for index, part in enumerate(schema.get("oneOf") or ()):
        yield from _nested(part, f"{path}.oneOf[{index}]", ruled=False)
    if schema.get("not") is not None:
        yield from _nested(schema["not"], f"{path}.not", ruled=False)
    if (pattern := schema.get("pattern")) and (why := fits.pattern_fault(pattern)) is not None:
        yield wrong(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {why}")


_NESTED: Final = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    (rules.KEY, "must be empty to be structural"),
)


def _nested(schema: Schema, path: str, *, ruled: bool) -> Causes:
    yield from _junctors(schema, path, first_all=False)
    if isinstance(items := schema.get("items"), Mapping):
        yield from _nested(items, f"{path}.items", ruled=ruled)
    for name, one in sorted((schema.get("properties") or {}).items()):
        yield from _nested(one, f"{path}.properties[{name}]", ruled=ruled)
    for name, why in _NESTED:
        if schema.get(name) not in (None, False, [], ""):
            yield not_allowed(f"{path}.{name}", why)
    if "metadata" in (schema.get("properties") or {}):
        yield not_allowed(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(part: Schema, whole: Schema | None, at: str, path: str) -> Causes:
    """Validate that fields in a junctor are declared outside of it; `at` is the structural schema, `path` the
    junctor's.
    """
    for name, nested, where in _parts_of(part, path):
        del name
        yield from _counterpart(nested, whole, at, where)


def _parts_of(part: Schema, path: str) -> Iterator[tuple[str, Schema, str]]:
    if part.get("not") is not None:
        yield "not", part["not"], f"{path}.not"
    for junctor in _JUNCTORS:
        for index, one in enumerate(part.get(junctor) or ()):
            yield junctor, one, f"{path}.{junctor}[{index}]"


def _counterpart(nested: Schema, whole: Schema | None, at: str, path: str) -> Causes:
    if whole is None:
        yield required(at, f"because it is defined in {path}")
        return
    yield from _complete(nested, whole, at, path)
    if isinstance(items := nested.get("items"), Mapping):
        held = whole.get("items")
        yield from _counterpart(items, held if isinstance(held, Mapping) else None, f"{at}.items", f"{path}.items")
    for name, one in sorted((nested.get("properties") or {}).items()):
        known = (whole.get("properties") or {}).get(name)
        yield from _counterpart(one, known, f"{at}.properties[{name}]", f"{path}.properties[{name}]")


# ---- defaults


def _misfits_of_default(value: Any, schema: Schema, where: str) -> Causes:
    """Validate a default, which messages do not name: it is an object of its own."""
    for cause in fits.misfits(value, schema, where):
        told = cause.message.replace(f" {where}.", " ").replace(f" {where}", " ")
        at = where if cause.field == "<nil>" else cause.field.replace(f"{where}[", f"{where}.[")
        yield replace(cause, field=at, message=told)


def _defaults(schema: Schema, path: str) -> Causes:
    """Validate that defaults match their schema and would not be pruned."""
    if "default" in schema and path:
        value = values.copied(schema["default"])
        pruned = values.copied(schema["default"])
        if isinstance(pruned, dict | list):
            gone: list[str] = []
            values.prune_below(pruned, schema, gone)
            if gone:
                yield wrong(f"{path}.default", value, f"must not have unspecified fields: {', '.join(sorted(gone))}")
        values.default(value, schema)
        yield from _misfits_of_default(value, schema, f"{path}.default")
    if isinstance(items := schema.get("items"), Mapping):
        yield from _defaults(items, f"{path}.items")
    for name, one in sorted((schema.get("properties") or {}).items()):
        yield from _defaults(one, f"{path}.properties[{name}]")
    if (more := additional(schema)) is not None:
        yield from _defaults(more, f"{path}.additionalProperties")


# ---- what is allowed of OpenAPI


@dataclass(frozen=True, slots=True)
class _Context:
    """The position of a walk: why a default is forbidden here, and whether this is an object's root."""

    no_defaults: str | None = None
    head: bool = False


_UNSUPPORTED: Final = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")


def _node(schema: Schema, path: str, here: _Context, *, root: bool = False) -> Causes:
    kind = schema.get("type")
    if kind and kind not in _TYPES:
        yield unsupported(f"{path}.type", kind, [one for one in _TYPES if one != "null"])
    if "default" in schema and here.no_defaults is not None:
        yield not_allowed(f"{path}.default", f"must not be set {here.no_defaults}".rstrip())
    for name in _UNSUPPORTED:
        if schema.get(name):
            yield not_allowed(f"{path}.{name}", f"{name} is not supported")
    if kind == "null":
        yield not_allowed(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(items := schema.get("items"), list) and items:
        yield not_allowed(f"{path}.items", "items must be a schema object and not an array")
    if here.head and schema.get("x-kubernetes-embedded-resource"):
        yield not_allowed(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield not_allowed(f"{path}.uniqueItems", why)
    yield from _below(schema, path, here, root=root)
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        yield wrong(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    yield from _list_and_map_types(schema, path)
    for index, rule in enumerate(schema.get(rules.KEY) or ()):
        yield from _rule_texts(rule, f"{path}.{rules.KEY}[{index}]")
        yield from _field_path(rule, schema, f"{path}.{rules.KEY}[{index}].fieldPath")


def _below(schema: Schema, path: str, here: _Context, *, root: bool) -> Causes:
    properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
    if more is not None:
        if properties and more is not True:
            yield not_allowed(
                f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
            )
        inside = here
        if here.head:
            inside = replace(here, no_defaults="inside additionalProperties applying to object metadata")
        if isinstance(more, Mapping):
            yield from _node(more, f"{path}.additionalProperties", inside)
    for name, one in sorted(properties.items()):
        inside = here
        if (root or schema.get("x-kubernetes-embedded-resource")) and name in values.HEAD:
            inside = _Context(f"in top-level {name}" if root else here.no_defaults, head=True)
        yield from _node(one, f"{path}.properties[{name}]", inside)
    for _, one, where in _parts_of(schema, path):
        yield from _node(one, where, here)
    if isinstance(items := schema.get("items"), Mapping):
        yield from _node(items, f"{path}.items", here)


def _list_and_map_types(schema: Schema, path: str) -> Causes:
    kind, items = schema.get("type", ""), schema.get("items")
    of_map, of_list = schema.get("x-kubernetes-map-type"), schema.get("x-kubernetes-list-type")
    for declared, name, wanted, known in (
        (of_map, "x-kubernetes-map-type", "object", ("atomic", "granular")),
        (of_list, "x-kubernetes-list-type", "array", ("atomic", "set", "map")),
    ):
        if declared is None:
            continue
        if kind != wanted:
            why = f"must be {wanted} if {name} is specified"
            yield wrong(f"{path}.type", kind, why) if kind else required(f"{path}.type", why)
        if declared not in known:
            yield unsupported(f"{path}.{name}", declared, known)
    if of_list == "set" and isinstance(items, Mapping):
        why = "must be atomic as item of a list with x-kubernetes-list-type=set"
        if items.get("type") == "array" and items.get("x-kubernetes-list-type", "atomic") != "atomic":
            yield wrong(f"{path}.items.x-kubernetes-list-type", items["x-kubernetes-list-type"], why)
        if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
            yield wrong(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-list-type"), why)
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if keys and of_list != "map":
        why = "must be map if x-kubernetes-list-map-keys is non-empty"
        where = f"{path}.x-kubernetes-list-type"
        yield required(where, why) if of_list is None else wrong(where, of_list, why)
    if of_list == "map":
        yield from _map_keys(schema, path, keys)
    if of_list in ("set", "map") and isinstance(items, Mapping) and items.get("nullable"):
        why = f"cannot be nullable when x-kubernetes-list-type is {of_list}"
        yield not_allowed(f"{path}.items.nullable", why)


def _map_keys(schema: Schema, path: str, keys: Sequence[str]) -> Causes:
    items = schema.get("items")
    if not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        yield required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
        return
    if not isinstance(items, Mapping):
        yield wrong(f"{path}.items", items, "must only have a single schema if x-kubernetes-list-type is map")
        return
    if items.get("type") != "object":
        yield wrong(
            f"{path}.items.type",
            items.get("type", ""),
            "must be object if parent array's x-kubernetes-list-type is map",
        )
        return
    properties = items.get("properties") or {}
    for index, key in enumerate(keys):
        if key not in properties:
            yield wrong(
                f"{path}.x-kubernetes-list-map-keys", list(keys), "entries must all be names of item properties"
            )
            continue
        where, known = f"{path}.items.properties[{key}]", properties[key]
        if known.get("type") in ("array", "object"):
            yield wrong(
                f"{where}.type", "object", "must be a scalar type if parent array's x-kubernetes-list-type is map"
            )
        if key in keys[:index]:
            yield wrong(f"{path}.x-kubernetes-list-map-keys", list(keys), "must not contain duplicate entries")
        if key not in (items.get("required") or []) and "default" not in known:
            yield required(
                f"{where}.default",
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            )
        if known.get("nullable"):
            yield not_allowed(
                f"{where}.nullable", "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            )


# ---- rules


def _rule_texts(rule: Schema, path: str) -> Causes:
    text, message = str(rule.get("rule", "")).strip(), rule.get("message") or ""
    own = rule.get("messageExpression") or ""
    if not text:
        yield required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield wrong(f"{path}.message", message, "must be non-empty if specified")
    elif _broken(message.strip()):
        yield wrong(f"{path}.message", message, "must not contain line breaks")
    elif _broken(text) and not message.strip():
        yield required(f"{path}.message", "message must be specified if rule contains line breaks")
    if own and not own.strip():
        yield required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    if (reason := rule.get("reason")) is not None and reason not in _REASONS:
        yield unsupported(f"{path}.reason", reason, _REASONS)
    if rule.get("optionalOldSelf") is not None:
        yield not_allowed(
            f"{path}.optionalOldSelf", "the embedded cluster does not evaluate rules with optionalOldSelf"
        )


def _field_path(rule: Schema, schema: Schema, field: str) -> Causes:
    if at := rule.get("fieldPath"):
        if not str(at).strip():
            yield wrong(field, at, "must be non-empty if specified")
        if _broken(str(at)):
            yield wrong(field, at, "must not contain line breaks")
        if field_of(schema, str(at)) is None:
            yield wrong(field, at, "must be a valid path")


def _broken(text: str) -> bool:
    return "\n" in text or "\r" in text


@dataclass(frozen=True, slots=True)
class _Place:
    """The position of rules: whether at a resource's root, and the list without keys above, if any, where `oldSelf` is
    undefined.
    """

    root: bool = False
    uncorrelated: str | None = None
    times: int | None = 1  # how often the place can be in one object; None: as often as fits


class _Spent:
    """The costs of all rules of a schema."""

    def __init__(self) -> None:
        self._held: list[tuple[int, str]] = []

    def count(self, cost: int, path: str, what: str) -> Causes:
        """Count an expression, and refuse one that alone costs too much."""
        self._held.append((cost, path))
        if cost > _COST_OF_ONE:
            yield not_allowed(path, _over(f"estimated {what} cost", cost, _COST_OF_ONE))

    def faults(self, path: str) -> Causes:
        """Refuse a schema whose rules together cost too much, and name the four that cost most."""
        total = min(sum(cost for cost, _ in self._held), cel_costs.MOST)
        if total <= _COST_OF_ALL:
            return
        dear = sorted((one for one in self._held if one[0] >= _COST_OF_ALL // 100), key=lambda one: -one[0])
        for _, field in dear[:4]:
            words = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            yield not_allowed(field, words)
        what = f"{rules.KEY} estimated rule cost total for entire OpenAPIv3 schema"
        yield not_allowed(path, _over(what, total, _COST_OF_ALL))


_COST_OF_ONE: Final = 10_000_000
_COST_OF_ALL: Final = 100_000_000


def _over(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )


def _rules(schema: Schema, path: str, here: _Place, spent: _Spent) -> Causes:
    times = cel_costs.repeats(schema)
    below = replace(here, root=False, times=None if here.times is None or times is None else here.times * times)
    if (more := additional(schema)) is not None:
        yield from _rules(more, f"{path}.additionalProperties", below, spent)
    for name, one in sorted((schema.get("properties") or {}).items()):
        yield from _rules(one, f"{path}.properties[{name}]", below, spent)
    if isinstance(items := schema.get("items"), Mapping):
        lost = here.uncorrelated
        if schema.get("x-kubernetes-list-type") != "map":
            lost = lost or path
        yield from _rules(items, f"{path}.items", replace(below, uncorrelated=lost), spent)
    for index, rule in enumerate(schema.get(rules.KEY) or ()):
        yield from _compiled(schema, rule, f"{path}.{rules.KEY}[{index}]", here, spent)


def _compiled(schema: Schema, rule: Schema, path: str, here: _Place, spent: _Spent) -> Causes:
    try:
        scope = rules.scope_of(schema, root=here.root)
        expression = scope.compile(rule["rule"])
    except cel.Uncompilable as error:
        yield wrong(f"{path}.rule", _shown(rule), str(error))
        return
    limits = cel_costs.bounds(cel.root(schema) if here.root else schema)
    if limits is not None:
        cost = cel_costs.estimated(expression.serialized, limits)
        times = cel_costs.in_request(limits) if here.times is None else here.times
        yield from spent.count(min(cost * times, cel_costs.MOST), f"{path}.rule", "rule")
    if rule.get("messageExpression"):
        try:
            own = scope.compile(rule["messageExpression"], result="string")
        except cel.Uncompilable as error:
            said = str(error)
            detail = said if said.startswith("messageExpression") else f"messageExpression {said}"
            yield wrong(f"{path}.messageExpression", _shown(rule), detail)
        else:
            if limits is not None:
                cost = cel_costs.estimated(own.serialized, limits)
                yield from spent.count(cost, f"{path}.messageExpression", "messageExpression")
    if "oldSelf" in expression.uses and here.uncorrelated is not None:
        why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {here.uncorrelated}"
        yield wrong(f"{path}.rule", rule["rule"], why)


def _shown(rule: Schema) -> dict[str, Any]:
    """A rule in the format of Kubernetes' internal type."""
    names = ("rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")
    empty = {
        "rule": "",
        "message": "",
        "messageExpression": "",
        "reason": None,
        "fieldPath": "",
        "optionalOldSelf": None,
    }
    return {name[:1].upper() + name[1:]: rule.get(name, empty[name]) for name in names}


_STEP: Final = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")


def field_of(schema: Schema, path: str, *, keys: bool = True) -> Schema | None:
    """The schema at a simple JSON path; None when there is none."""
    at = 0
    here: Schema | None = schema
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or here is None or (step[2] is not None and not keys):
            return None
        name = step[1] if step[1] is not None else re.sub(r"\\(.)", r"\1", step[2])
        here = (here.get("properties") or {}).get(name) if here.get("properties") else additional(here)
        at = step.end()
    return here if path else None


_SELECT: Final = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+)|\[(?P<index>-?\d+|\*)\]|\['(?P<quoted>[^']*)'\]"""
    r"""|\[\?\(@\.(?P<field>[^=!<>)\s]+)\s*(?P<op>==|!=)\s*["'](?P<value>[^"']*)["']\s*\)\]"""
)


def select(obj: Any, path: str) -> list[Any]:
    """The values at a JSON path: names, indexes, `[*]`, and filters that compare a field with a text."""
    found, at = [obj], 0
    while at < len(path):
        step = _SELECT.match(path, at)
        if step is None:
            return []
        found = [value for one in found for value in _stepped(one, step)]
        at = step.end()
    return found


def _stepped(value: Any, step: re.Match[str]) -> list[Any]:
    name = step["quoted"] if step["quoted"] is not None else step["name"]
    if name is not None:
        plain = re.sub(r"\\(.)", r"\1", name)
        if plain == "*":
            return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
        return [value[plain]] if isinstance(value, dict) and plain in value else []
    if not isinstance(value, list):
        return []
    if step["index"] is not None:
        if step["index"] == "*":
            return value
        index = int(step["index"])
        return [value[index]] if -len(value) <= index < len(value) else []
    equal = step["op"] == "=="
    kept = []
    for one in value:
        held = select(one, f".{step['field']}") if isinstance(one, dict) else []
        if held and (str(held[0]) == step["value"]) == equal:
            kept.append(one)
    return kept
