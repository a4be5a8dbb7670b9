"""OpenAPI version 2 of all served kinds, in JSON and protobuf, against which Helm and kubectl (for a List) validate.

The protobuf form is gnostic's openapi.v2.Document, with the field numbers in kubectl, restricted to what clients read:
paths with their kinds and parameters, and definitions. Pure; called by the server, which caches the last document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED: Final = (MEDIA_TYPE, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")  # the latter is no MIME type
_REFERENCE: Final = "#/definitions/"
_KEPT: Final = frozenset(
    (
        *("$ref", "format", "title", "description", "default", "multipleOf", "maximum", "exclusiveMaximum", "minimum"),
        *("exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "type"),
        *("maxProperties", "minProperties", "required", "enum", "additionalProperties", "items", "properties"),
    )
)


def schema(part: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a published or custom schema to version 2: plain references, one type, no junctors."""
    if "$ref" in part:
        found: dict[str, Any] = {"$ref": _REFERENCE + part["$ref"].removeprefix("#/$defs/")}
        kept = {key: value for key, value in part.items() if key == "description" or key.startswith("x-kubernetes-")}
        return found | kept
    result: dict[str, Any] = {}
    for key, value in part.items():
        if value is None or not (key in _KEPT or key.startswith("x-kubernetes-")):
            continue
        if key == "type" and isinstance(value, list):
            value = next(one for one in value if one != "null")
        elif key == "properties":
            value = {name: schema(one) for name, one in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            value = schema(value)
        result[key] = value
    if "oneOf" in part and "type" not in result:  # a quantity, or a number or a name
        result["type"] = "string"
    return result


def document(version: str, paths: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The whole document as JSON; `paths` are those of version 3."""
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": {path: {action: _operation(one) for action, one in item.items()} for path, item in paths.items()},
        "definitions": dict(definitions),
    }


def _operation(one: Mapping[str, Any]) -> dict[str, Any]:
    parameters = [{**named, "type": named["schema"]["type"]} for named in one.get("parameters", ())]
    for named in parameters:
        del named["schema"]
    return {**one, **({"parameters": parameters} if parameters else {})}


# ---- protobuf


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, value: bytes | str | bool | int) -> bytes:
    if isinstance(value, bool | int):
        return _varint(number << 3) + _varint(int(value))
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _any(value: Any) -> bytes:
    return _field(2, orjson.dumps(value))  # JSON is YAML


def _extensions(number: int, values: Mapping[str, Any]) -> Iterator[bytes]:
    for name, value in values.items():
        if name.startswith("x-"):
            yield _field(number, _field(1, name) + _field(2, _any(value)))


_TEXTS: Final = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_FLAGS: Final = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16}
_COUNTS: Final = {
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "maxProperties": 17,
    "minProperties": 18,
}


def _schema(one: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    for names in (_TEXTS, _FLAGS, _COUNTS):
        parts += [_field(number, one[name]) for name, number in names.items() if one.get(name)]
    if "default" in one:
        parts.append(_field(5, _any(one["default"])))
    parts += [_field(19, name) for name in one.get("required", ())]
    parts += [_field(20, _any(value)) for value in one.get("enum", ())]
    more = one.get("additionalProperties")
    if more is not None:
        parts.append(_field(21, _field(1, _schema(more)) if isinstance(more, Mapping) else _field(2, bool(more))))
    if "type" in one:
        parts.append(_field(22, _field(1, one["type"])))
    if "items" in one:
        parts.append(_field(23, _field(1, _schema(one["items"]))))
    if "properties" in one:
        parts.append(_field(25, _named(one["properties"])))
    return b"".join([*parts, *_extensions(31, one)])


def _named(schemas: Mapping[str, Any]) -> bytes:
    """Encode definitions and properties: schemas by name."""
    return b"".join(_field(1, _field(1, name) + _field(2, _schema(one))) for name, one in schemas.items())


_ACTIONS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _path(item: Mapping[str, Any]) -> bytes:
    return b"".join(_field(_ACTIONS[action], _wire_operation(one)) for action, one in item.items())


def _wire_operation(one: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = [_field(5, one["operationId"])]
    for named in one.get("parameters", ()):
        query = _field(2, named["in"]) + _field(4, named["name"]) + _field(6, named["type"])
        parts.append(_field(8, _field(1, _field(2, _field(3, query)))))
    return b"".join([*parts, *_extensions(13, one)])


def encoded(whole: Mapping[str, Any]) -> bytes:
    """Encode the document in protobuf."""
    info = _field(1, whole["info"]["title"]) + _field(2, whole["info"]["version"])
    paths: Iterable[bytes] = (
        _field(2, _field(1, path) + _field(2, _path(item))) for path, item in whole["paths"].items()
    )
    head = _field(1, whole["swagger"]) + _field(2, info)
    return head + _field(8, b"".join(paths)) + _field(9, _named(whole["definitions"]))
