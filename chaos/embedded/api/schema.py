"""Kubernetes' published schemas (as `kubernetes-validate` carries them): types, required and unknown fields, merge
keys.

The definitions are one JSON file of 1.8 MB, read on first use (about 10 ms) and walked by our own small functions: a
general JSON Schema library costs 0.2 s of start-up and names fields in its own way. Pure functions of their arguments.
Called by the API server (decoding, patches, OpenAPI).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.api.errors import Cause, required
from chaos.embedded.resources import Resource
from chaos.errors import EnvironmentUnfit

VERSION: Final = "1.36.0"
_PREFIX: Final = "#/$defs/"
_INTEGERS: Final = {"int32": 1 << 31, "int64": 1 << 63}
# `required` in the published schemas also holds fields that the server itself fills in before it validates.
_FILLED_IN: Final = frozenset({"io.k8s.api.core.v1.EventSource", "io.k8s.api.core.v1.ObjectReference"})

Schema = Mapping[str, Any]


@cache
def definitions() -> Mapping[str, Schema]:
    """All definitions, by their full names such as `io.k8s.api.core.v1.PodSpec`."""
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or found.origin is None:
        raise EnvironmentUnfit("package kubernetes-validate is missing: pip install kubernetes-validate")
    path = Path(found.origin).parent / "kubernetes-json-schema" / f"v{VERSION}-local" / "_definitions.json"
    loaded: dict[str, Schema] = orjson.loads(path.read_bytes())["$defs"]
    return loaded


@cache
def _kinds() -> Mapping[tuple[str, str, str], str]:
    return {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, schema in definitions().items()
        for gvk in schema.get("x-kubernetes-group-version-kind", [])
        if len(schema["x-kubernetes-group-version-kind"]) == 1
    }


def definition_name(group: str, version: str, kind: str) -> str | None:
    """Full name of a kind's definition."""
    return _kinds().get((group, version, kind))


def of(resource: Resource) -> Schema:
    """The schema of a resource's kind; an empty one when Kubernetes publishes none."""
    name = definition_name(resource.group, resource.version, resource.kind)
    return definitions()[name] if name else {}


def resolve(schema: Schema) -> Schema:
    """Follow a reference; merge keys written beside the reference stay with the caller."""
    while "$ref" in schema:
        schema = definitions()[schema["$ref"].removeprefix(_PREFIX)]
    return schema


def child(schema: Schema, key: str) -> Schema:
    """Schema of a property (with what is written beside a reference), or an empty one."""
    schema = resolve(schema)
    return schema.get("properties", {}).get(key) or _additional(schema)


def _additional(schema: Schema) -> Schema:
    more = schema.get("additionalProperties")
    return more if isinstance(more, Mapping) else {}


def types(schema: Schema) -> tuple[str, ...]:
    """JSON types allowed, null left out; empty when anything goes."""
    if "oneOf" in schema:
        return tuple(one for part in schema["oneOf"] for one in types(part))
    declared = schema.get("type", ())
    return tuple(one for one in ([declared] if isinstance(declared, str) else declared) if one != "null")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A value of a wrong type: the request cannot even be decoded."""

    path: str
    got: str
    wanted: str

    def __str__(self) -> str:
        return f"json: cannot unmarshal {self.got} into Go struct field {self.path} of type {self.wanted}"


@dataclass(slots=True)
class Findings:
    """What a walk found: wrong types (400), unknown fields (dropped, warned about or refused), missing fields (422)."""

    mismatches: list[Mismatch]
    unknown: list[str]
    missing: list[Cause]


_JSON_TYPES: Final[Mapping[type, str]] = {str: "string", dict: "object", list: "array"}


def _got(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number" if isinstance(value, int) else f"number {value}"
    return _JSON_TYPES.get(type(value), "null")


def _fits(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("integer", "number")
    if isinstance(value, float):
        return kind == "number" or (kind == "integer" and value.is_integer())
    return _JSON_TYPES.get(type(value)) == kind


def clean(value: Any, schema: Schema, findings: Findings, path: str = "", *, check_required: bool = True) -> Any:
    """A copy of the value without nulls and unknown fields, as Kubernetes' decoder leaves it; fills `findings`."""
    name = schema.get("$ref", "").removeprefix(_PREFIX)
    schema = resolve(schema)
    allowed = types(schema)
    if allowed and not any(_fits(value, kind) for kind in allowed):
        findings.mismatches.append(Mismatch(path, _got(value), "/".join(schema.get("format") or k for k in allowed)))
        return value
    whole = "integer" in allowed and "number" not in allowed
    if isinstance(value, float) and whole:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and whole:
        form = str(
            schema.get("format", "int32" if "oneOf" in schema else "int64")
        )  # of two types there is only IntOrString
        bound = _INTEGERS.get(form, 1 << 63)
        if not -bound <= value < bound:
            findings.mismatches.append(Mismatch(path, f"number {value}", form))
        return value
    if isinstance(value, str) and schema.get("format") == "date-time" and not _is_time(value):
        findings.mismatches.append(Mismatch(path, f"string {value[:60]!r}", "Time (RFC 3339)"))
        return value
    if isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        return _clean_object(value, schema, findings, path, check_required and name not in _FILLED_IN)
    if isinstance(value, list) and "items" in schema:
        items = schema["items"]
        return [
            clean(item, items, findings, f"{path}[{index}]", check_required=check_required)
            for index, item in enumerate(value)
            if item is not None
        ]
    return value


def _clean_object(
    value: dict[str, Any], schema: Schema, findings: Findings, path: str, check_required: bool
) -> dict[str, Any]:
    properties, additional = schema.get("properties", {}), schema.get("additionalProperties")
    result: dict[str, Any] = {}
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key in properties:
            if item is not None:
                result[key] = clean(item, properties[key], findings, where, check_required=check_required)
        elif isinstance(additional, Mapping):
            result[key] = clean(
                "" if item is None and "string" in types(resolve(additional)) else item,
                additional,
                findings,
                f"{path}[{key}]",
                check_required=check_required,
            )
        elif additional or not properties:
            result[key] = item
        else:
            findings.unknown.append(where)
    if check_required:
        findings.missing += [
            required(f"{path}.{key}" if path else key) for key in schema.get("required", []) if key not in result
        ]
    return result


_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _is_time(text: str) -> bool:
    """An RFC 3339 time with a month, day and hour that exist."""
    if not _TIME.fullmatch(text):
        return False
    month, day, hour, minute = int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16])
    return 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60


def reachable(names: list[str]) -> Iterator[str]:
    """The definitions named, and all that they refer to."""
    seen: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in seen or name not in definitions():
            continue
        seen.add(name)
        yield name
        queue += list(_references(definitions()[name]))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].removeprefix(_PREFIX)
        for item in part.values():
            yield from _references(item)
    elif isinstance(part, list):
        for item in part:
            yield from _references(item)
