"""Kubernetes' published schemas (from `kubernetes-validate`): types, unknown fields, merge keys.

The definitions are one JSON file of 1.8 MB, read on first use (about 10 ms) and walked by small functions of our own: a
general JSON Schema library costs 0.2 s of start-up and names fields its own way. Pure. Called by the API server
(decoding, patches, OpenAPI).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.clock import parse_time
from chaos.embedded.quantity import FORM_RULE as _QUANTITY_RULE
from chaos.embedded.quantity import canonical_quantity
from chaos.embedded.resources import Resource
from chaos.errors import EnvironmentUnfit

VERSION: Final = "1.36.0"
_PREFIX: Final = "#/$defs/"
META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1"
_INTEGERS: Final = {"int32": 1 << 31, "int64": 1 << 63}

Schema = Mapping[str, Any]


@cache
def definitions() -> Mapping[str, Schema]:
    """All definitions, by full names such as `io.k8s.api.core.v1.PodSpec`."""
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
    """Full name of a kind's definition; None when there is none."""
    return _kinds().get((group, version, kind))


def of(resource: Resource) -> Schema:
    """The schema of a resource's kind; empty when Kubernetes publishes none."""
    if resource.custom is not None:
        return with_head(resource.custom.schema)
    name = definition_name(resource.group, resource.version, resource.kind)
    return definitions()[name] if name else {}


def reference(resource: Resource) -> Schema:
    """A reference to a kind's schema, which keeps the definition's name for messages."""
    name = definition_name(resource.group, resource.version, resource.kind)
    return named(name) if name else {}


def with_head(schema: Schema) -> Schema:
    """A custom resource's schema with the fields of every object."""
    text = {"type": "string"}
    head = {"apiVersion": text, "kind": text, "metadata": named(f"{META}.ObjectMeta")}
    return {**schema, "properties": {**schema.get("properties", {}), **head}}


def named(name: str) -> Schema:
    """A reference to a definition by its full name."""
    return {"$ref": _PREFIX + name}


def described(definition: str, field: str) -> str:
    """A field's description in the published schema."""
    text: str = definitions()[definition]["properties"][field]["description"]
    return text


@cache
def _extras() -> Mapping[str, Mapping[str, Schema]]:
    found: Mapping[str, Mapping[str, Schema]] = orjson.loads(Path(__file__).with_name("openapi.json").read_bytes())
    return found


def published(definition: str, *, defaults: bool = True) -> Schema:
    """The definition with lists of values and, for OpenAPI version 3, defaults, which the schemas in use lack
    (`openapi.json`).
    """
    held, extras = definitions()[definition], _extras().get(definition, {})
    if "properties" not in held:
        return {**held, **extras.get("", {})}
    fields = {
        name: _with_extra(one, extras.get(name, {}), defaults=defaults) for name, one in held["properties"].items()
    }
    return {**held, "properties": fields}


def _with_extra(schema: Schema, extra: Schema, *, defaults: bool) -> Schema:
    schema = {key: value for key, value in schema.items() if key != "enum"}  # the schemas in use name each kind in one
    kept = ("default", "enum") if defaults else ("enum",)
    result = {**schema, **{key: extra[key] for key in kept if key in extra}}
    if "told" in extra:
        result["description"] = schema.get("description", "") + extra["told"]
    if "items" in extra:
        key = "items" if "items" in schema else "additionalProperties"
        result[key] = _with_extra(schema[key], extra["items"], defaults=defaults)
    return result


def is_struct_field(definition: str, field: str) -> bool:
    """Whether the Go field is a struct and no pointer to one: it is there in every object, though it be empty."""
    return bool((_extras().get(definition) or {}).get(field, {}).get("default") == {})


def resolve(schema: Schema) -> Schema:
    """Follow a reference; merge keys beside the reference are the caller's to keep."""
    while "$ref" in schema:
        schema = definitions()[schema["$ref"].removeprefix(_PREFIX)]
    return schema


def child(schema: Schema, key: str) -> Schema:
    """The schema of a property (with keys beside a reference), or an empty one."""
    schema = resolve(schema)
    return schema.get("properties", {}).get(key) or _additional(schema)


def _additional(schema: Schema) -> Schema:
    more = schema.get("additionalProperties")
    return more if isinstance(more, Mapping) else {}


def types(schema: Schema) -> tuple[str, ...]:
    """Permitted JSON types without null; empty for any."""
    if "oneOf" in schema:
        return tuple(one for part in schema["oneOf"] for one in types(part))
    declared = schema.get("type", ())
    return tuple(one for one in ([declared] if isinstance(declared, str) else declared) if one != "null")


@dataclass(frozen=True, slots=True)
class GoShape:
    """What the schemas do not say of a Go struct, and its decoder and encoder show (`go.json`, from the types' source).

    Attributes:
        zero: scalars that are not pointers, and are left out when they are zero.
        keep: lists and maps that are written though they are empty.
        types: named types of fields, as error messages have them.
        inline: the embedded structs that fields belong to.
    """

    zero: frozenset[str] = frozenset()
    keep: frozenset[str] = frozenset()
    types: Mapping[str, str] = field(default_factory=dict)
    inline: Mapping[str, str] = field(default_factory=dict)

    def leaves_out(self, key: str, value: object) -> bool:
        """Whether an encoder omits this value: to Go it is as good as absent."""
        if isinstance(value, dict | list):
            return not value and key not in self.keep
        return not value and key in self.zero


_NO_STRUCT: Final = GoShape()


@cache
def _go_shapes() -> Mapping[str, GoShape]:
    found = orjson.loads(Path(__file__).with_name("go.json").read_bytes())
    return {
        name: GoShape(
            frozenset(one.get("zero", ())), frozenset(one.get("keep", ())), one.get("types", {}), one.get("inline", {})
        )
        for name, one in found.items()
    }


def go_shape(definition: str) -> GoShape:
    """Of a definition by its full name; of a struct that is nowhere unusual an empty one."""
    return _go_shapes().get(".".join(definition.split(".")[-3:]), _NO_STRUCT)


@dataclass(slots=True)
class Findings:
    """The result of a walk: undecodable values in Kubernetes' words (400), and dropped unknown fields (warned about or
    refused).
    """

    mismatches: list[str]
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a walk: with indexes for unknown fields (`spec.containers[0].x`), and as encoding/json names it,
    by innermost struct and fields (`Container.spec.containers.image`).
    """

    path: str = ""
    struct: str = ""
    fields: str = ""
    go_type: str = ""

    def field(self, key: str, owner: str) -> Place:
        """A field of a struct, by the struct's full name."""
        shape = go_shape(owner)
        inline = shape.inline.get(key)
        path, fields = (
            ".".join(part for part in parts if part) for parts in ((self.path, key), (self.fields, inline, key))
        )
        return Place(path, owner.rpartition(".")[2], fields, shape.types.get(key, ""))

    def item(self, index: object) -> Place:
        path = f"{self.path}[{index}]" if isinstance(index, int) else f"{self.path}.{index}"
        return Place(
            path, self.struct, self.fields, self.go_type.removeprefix("[]") if self.go_type[:2] == "[]" else ""
        )

    def cannot_hold(self, value: object, kind: str) -> str:
        """In the words of encoding/json; `kind` where the field's type has no name of its own."""
        into = f"struct field {self.struct}.{self.fields}" if self.fields else "value"
        got = _got(value)
        if got == "number" and kind.startswith("int"):
            got = f"number {value}"
        return f"json: cannot unmarshal {got} into Go {into} of type {self.go_type or kind}"


_JSON_TYPES: Final[Mapping[type, str]] = {bool: "bool", str: "string", dict: "object", list: "array"}
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_JSON_SCHEMA: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_OR_SCHEMA: Final = (f"{_JSON_SCHEMA}OrBool", f"{_JSON_SCHEMA}OrArray")  # the published schema leaves these open
_MICRO_TIME: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
_SCALARS: Final = {"string": "string", "boolean": "bool", "number": "float64"}


def _got(value: object) -> str:
    return _JSON_TYPES.get(type(value), "number")


def _go_type(schema: Schema) -> str:
    """The Go type that Kubernetes decodes such a value into."""
    if "$ref" in schema:
        group, _, kind = schema["$ref"].removeprefix(_PREFIX).rpartition(".")
        target = resolve(schema)
        return f"{group.rpartition('.')[2]}.{kind}" if "properties" in target else _go_type(target)
    allowed = types(schema)
    if "array" in allowed:
        return "[]uint8" if schema.get("format") == "byte" else f"[]{_go_type(schema.get('items', {}))}"
    if "object" in allowed:
        return f"map[string]{_go_type(_additional(schema))}"
    if "integer" in allowed:
        return str(schema.get("format", "int64"))
    return _SCALARS.get(allowed[0], "interface {}") if allowed else "interface {}"


def _fits(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("integer", "number")
    if isinstance(value, float):
        return kind == "number"
    return _JSON_TYPES.get(type(value)) == kind


_WITHOUT_FIELDS: Final = (".CustomResourceSubresourceStatus",)  # structs; what else declares no fields takes any


def clean(value: Any, schema: Schema, findings: Findings, place: Place = Place()) -> Any:
    """Copy a value as Kubernetes' decoder leaves it: without nulls and unknown fields, with canonical quantities; fills
    `findings`.
    """
    name = schema.get("$ref", "").removeprefix(_PREFIX)
    if name == _QUANTITY:
        return _quantity(value, findings)
    if name in _OR_SCHEMA and isinstance(value, dict):
        name = _JSON_SCHEMA
        schema = named(name)
        findings = Findings(findings.mismatches, [])  # Go's own decoder of these drops unknown fields, strict or not
    elif name == _OR_SCHEMA[0] and not isinstance(value, bool):
        findings.mismatches.append("boolean or JSON schema expected")
        return value
    schema = resolve(schema)
    allowed = types(schema)
    if name == _INT_OR_STRING:
        return _int_or_string(value, findings, place)
    if allowed and not any(_fits(value, kind) for kind in allowed):
        findings.mismatches.append(place.cannot_hold(value, _go_type(schema if not name else {"$ref": _PREFIX + name})))
        return value
    if isinstance(value, int) and not isinstance(value, bool) and "integer" in allowed:
        form = str(schema.get("format", "int64"))
        bound = _INTEGERS.get(form, 1 << 63)
        if not -bound <= value < bound:
            findings.mismatches.append(place.cannot_hold(value, form))
        return value
    if isinstance(value, str):
        if (wrong := _text_fault(value, str(schema.get("format", "")), micro=name == _MICRO_TIME)) is not None:
            findings.mismatches.append(wrong)
        return value
    typed = "properties" in schema or "additionalProperties" in schema or name.endswith(_WITHOUT_FIELDS)
    if isinstance(value, dict) and typed:
        return _clean_object(value, schema, findings, place, name)
    if isinstance(value, list) and "items" in schema:
        items = schema["items"]
        return [
            clean(_zero(items) if item is None else item, items, findings, place.item(index))
            for index, item in enumerate(value)
        ]
    return value


def _zero(schema: Schema) -> Any:
    """Go's zero value for a null in a list or map."""
    if schema.get("$ref") == _PREFIX + _QUANTITY:
        return "0"
    allowed = types(resolve(schema))
    if "$ref" in schema and not allowed:
        return None  # any JSON, null too
    if "string" in allowed:
        return ""
    return 0 if "integer" in allowed else [] if "array" in allowed else {}


def _quantity(value: Any, findings: Findings, *, of_resources: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        findings.mismatches.append(_QUANTITY_RULE)
        return value
    try:
        return canonical_quantity(value, of_resources=of_resources)
    except ValueError as error:
        findings.mismatches.append(str(error))
        return value


def _int_or_string(value: Any, findings: Findings, place: Place) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 31) <= value < 1 << 31:
        findings.mismatches.append(place.cannot_hold(value, "int32"))
    return value


def _text_fault(text: str, form: str, *, micro: bool) -> str | None:
    if form == "byte":
        return _base64_fault(text)
    if form != "date-time":
        return None
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    if not is_time(text):
        return f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"'
    if micro and not re.search(r"\.\d{6}", text):
        rest = text[19:]
        return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as ".000000"'
    return None


_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _base64_fault(text: str) -> str | None:
    """The position of a base64 error, in the words of Go's encoding/base64."""
    plain = text.replace("\n", "").replace("\r", "")
    body = plain.rstrip("=")
    at = next((index for index, char in enumerate(body) if char not in _BASE64), None)
    if at is None:
        padding = len(plain) - len(body)
        if len(plain) % 4 == 0 and padding <= 2:
            return None
        held = len(body) % 4  # characters of the last, unfinished group of four
        if not padding:
            at = len(body) - held
        elif held < 2:
            at = len(body)
        else:
            at = min(len(plain), len(body) + 4 - held)
    return f"illegal base64 data at input byte {at}"


def _clean_object(
    value: dict[str, Any], schema: Schema, findings: Findings, place: Place, owner: str
) -> dict[str, Any]:
    properties, additional = schema.get("properties", {}), schema.get("additionalProperties")
    shape = go_shape(owner)
    result: dict[str, Any] = {}
    for key, item in value.items():
        if key in properties:
            if item is not None:
                held = clean(item, properties[key], findings, place.field(key, owner))
                if not shape.leaves_out(key, held) or _is_struct(properties[key]):
                    result[key] = held
        elif isinstance(additional, Mapping):
            held = _zero(additional) if item is None else item
            if additional.get("$ref") == _PREFIX + _QUANTITY:
                result[key] = _quantity(held, findings, of_resources=True)
            else:
                result[key] = clean(held, additional, findings, place.item(key))
        elif additional or (not properties and not owner.endswith(_WITHOUT_FIELDS)):
            result[key] = item
        else:
            findings.unknown.append(place.field(key, owner).path)
    return result


def _is_struct(schema: Schema) -> bool:
    """Whether a value is a Go struct, which is written though it is empty; so is one that holds any JSON."""
    return "$ref" in schema and types(resolve(schema)) in (("object",), ())


_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def is_time(text: str) -> bool:
    """Whether a text is an RFC 3339 time as Go reads it, of a day and hour that exist, in UTC too."""
    if not _TIME.fullmatch(text):
        return False
    try:
        parse_time(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def reachable(names: list[str]) -> Iterator[str]:
    """The named definitions and all that they refer to."""
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
