"""Pruning and defaulting of custom resources by their structural schema.

Pure except that the given object is changed in place (k8s.io/apiextensions-apiserver/pkg/apiserver/schema). Called
where a custom resource is decoded and where an old one is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.store import copy

Schema = Mapping[str, Any]
HEAD: Final = ("apiVersion", "kind", "metadata")


def below(schema: Schema | None, key: str) -> Schema | None:
    """The schema of a property: its own, or `additionalProperties`."""
    if schema is None:
        return None
    found = (schema.get("properties") or {}).get(key)
    if found is not None:
        return found  # type: ignore[no-any-return]
    return additional(schema)


def additional(schema: Schema) -> Schema | None:
    """`additionalProperties`, if it is a schema."""
    more = schema.get("additionalProperties")
    return more if isinstance(more, Mapping) else None


def prune(value: dict[str, Any], schema: Schema) -> list[str]:
    """Remove unknown fields; their paths, in order. Metadata is left alone."""
    unknown: list[str] = []
    _prune(value, {**schema, "x-kubernetes-embedded-resource": True}, "", unknown)
    return sorted(unknown)


def prune_below(value: Any, schema: Schema, unknown: list[str]) -> None:
    """As `prune`, for a value that is no whole resource; removed paths are added to `unknown`."""
    _prune(value, schema, "", unknown)


def _prune(value: Any, schema: Schema | None, path: str, unknown: list[str]) -> None:
    keeps = schema is not None and bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if isinstance(value, dict):
        _prune_object(value, schema or {}, path, unknown, keeps=keeps)
    elif isinstance(value, list):
        items = (schema or {}).get("items")
        for index, item in enumerate(value):
            if isinstance(items, Mapping) or not keeps:
                _prune(item, items if isinstance(items, Mapping) else None, f"{path}[{index}]", unknown)


def _prune_object(value: dict[str, Any], schema: Schema, path: str, unknown: list[str], *, keeps: bool) -> None:
    properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
    embedded = schema.get("x-kubernetes-embedded-resource")
    for key in list(value):
        where = f"{path}.{key}" if path else key
        if embedded and key in HEAD:
            continue
        if key in properties:
            _prune(value[key], properties[key], where, unknown)
        elif isinstance(more, Mapping):
            _prune(value[key], more, where, unknown)
        elif more is True:
            _prune(value[key], None, where, unknown)
        elif not keeps:
            unknown.append(where)
            del value[key]


def drop_nulls(value: Any, schema: Schema | None) -> None:
    """Remove nulls that are neither nullable nor defaulted."""
    if isinstance(value, dict):
        for key in list(value):
            known = below(schema, key)
            if value[key] is None and known is not None and not known.get("nullable") and "default" not in known:
                del value[key]
            else:
                drop_nulls(value[key], known)
    elif isinstance(value, list):
        items = (schema or {}).get("items")
        for item in value:
            drop_nulls(item, items if isinstance(items, Mapping) else None)


def _unwanted_null(value: Any, schema: Schema) -> bool:
    return value is None and not schema.get("nullable")


def default(value: Any, schema: Schema | None) -> None:
    """Set the schema's defaults."""
    if schema is None:
        return
    if isinstance(value, dict):
        for key, known in (schema.get("properties") or {}).items():
            if "default" in known and (key not in value or _unwanted_null(value[key], known)):
                value[key] = copied(known["default"])
        for key in value:
            known = below(schema, key)
            if known is None:
                continue
            if key not in (schema.get("properties") or {}) and _unwanted_null(value[key], known):
                value[key] = copied(known.get("default"))
            default(value[key], known)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        for index, item in enumerate(value):
            if _unwanted_null(item, items):
                value[index] = copied(items.get("default"))
            default(value[index], items)


def copied(value: Any) -> Any:
    """A deep copy of a JSON value."""
    return copy({"v": value})["v"]


def fill(value: dict[str, Any], schema: Schema) -> None:
    """Drop nulls and set defaults."""
    drop_nulls(value, schema)
    default(value, schema)
