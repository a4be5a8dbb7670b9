"""Sets of an object's fields: what an object holds, and what differs between two, as Kubernetes counts ownership.

After sigs.k8s.io/structured-merge-diff (typed: toset, compare, merge, remove). A field is a path of segments as
FieldsV1 writes them: `f:name`, `k:{...}` (an item by its keys), `v:...` (an item of a set). Pure; called by managed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.schema import Schema

Path = tuple[str, ...]
Fields = set[Path]
_DEFAULT_KEYS: Final = {"protocol": "TCP"}
_PREFIX: Final = "#/$defs/"


class _Absent:
    """No value, which is another thing than null."""


_ABSENT: Final = _Absent()


def kind_of(schema: Schema, value: Any) -> Literal["atomic", "map", "keyed", "set"]:
    """How a value is merged: as a map, keyed (a list of objects by keys), a set, or as a whole."""
    resolved = schemas.resolve(schema)
    if isinstance(value, Mapping):
        atomic = "atomic" in (schema.get("x-kubernetes-map-type"), resolved.get("x-kubernetes-map-type"))
        return "atomic" if atomic else "map"
    if isinstance(value, list):
        declared = schema.get("x-kubernetes-list-type") or resolved.get("x-kubernetes-list-type")
        if declared == "map" and all(isinstance(item, Mapping) for item in value):
            return "keyed"
        return "set" if declared == "set" else "atomic"
    return "atomic"


def key_of(schema: Schema, item: Mapping[str, Any]) -> str:
    """An item's segment in a keyed list."""
    keys = {name: item.get(name, _DEFAULT_KEYS.get(name)) for name in schema.get("x-kubernetes-list-map-keys", [])}
    return "k:" + json.dumps({k: v for k, v in keys.items() if v is not None}, separators=(",", ":"), sort_keys=True)


def _items(schema: Schema, values: list[Any], kind: str) -> dict[str, Any]:
    """The items of a keyed list or set, by segment."""
    if kind == "keyed":
        return {key_of(schema, item): item for item in values}
    return {"v:" + json.dumps(item): item for item in values}


def fields_of(value: Any, schema: Schema, path: Path = ()) -> Iterator[Path]:
    """The fields that a value holds: those that applying it owns."""
    kind = kind_of(schema, value)
    if kind == "map":
        declared = schemas.resolve(schema).get("properties", {})
        for name, item in value.items():
            at = (*path, f"f:{name}")
            yield from fields_of(item, schemas.child(schema, name), at)
            if name not in declared or item is None or (isinstance(item, Mapping) and not item):
                yield at
    elif kind in ("keyed", "set"):
        for segment, item in _items(schema, value, kind).items():
            yield from fields_of(item, schema.get("items", {}), (*path, segment))
            yield (*path, segment)
    else:
        yield path


@cache
def _always_there(definition: str) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of a Go struct that every value has: structs, and lists and maps that are null when there are none."""
    properties = schemas.definitions()[definition].get("properties", {})
    structs = frozenset(
        name
        for name, one in properties.items()
        if schemas.is_struct_field(definition, name) and "properties" in schemas.resolve(one)
    )
    return structs, schemas.go_shape(definition).keep


def _whole(schema: Schema, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object with the fields that its struct always has."""
    name = schema.get("$ref", "").removeprefix(_PREFIX)
    if not name or name not in schemas.definitions():
        return value
    structs, nulls = _always_there(name)
    return {**dict.fromkeys(structs, _EMPTY), **dict.fromkeys(nulls), **value}


_EMPTY: Final[Mapping[str, Any]] = {}


@dataclass(slots=True)
class Comparison:
    """The fields by which one object differs from another."""

    added: Fields = field(default_factory=set)
    modified: Fields = field(default_factory=set)
    removed: Fields = field(default_factory=set)

    @property
    def written(self) -> Fields:
        return self.added | self.modified


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """How an object became another one; `old` is {} for one that is new."""
    found = Comparison()
    _compare(old, new, schema, (), found)
    return found


def _compare(old: Any, new: Any, schema: Schema, path: Path, found: Comparison) -> None:
    shown = old if new is _ABSENT or new is None else new
    kind = kind_of(schema, shown)
    differ = isinstance(old, Mapping | list) and isinstance(shown, Mapping | list) and type(old) is not type(shown)
    if kind == "atomic" or differ:
        _leaf(old, new, path, found)
        return
    below = schema.get("items", {})
    if kind == "map":
        before, after = (_whole(schema, value) if isinstance(value, Mapping) else _EMPTY for value in (old, new))
        parts = {f"f:{name}": (before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in (*before, *after)}
    else:
        before, after = (_items(schema, value, kind) if isinstance(value, list) else _EMPTY for value in (old, new))
        parts = {one: (before.get(one, _ABSENT), after.get(one, _ABSENT)) for one in (*before, *after)}
    if not parts:  # two empty ones are told apart as a whole
        _leaf(old, new, path, found)
        return
    for segment, (one, other) in parts.items():
        inner = schemas.child(schema, segment[2:]) if kind == "map" else below
        _compare(one, other, inner, (*path, segment), found)
    if old is _ABSENT:
        found.added.add(path)
    elif new is _ABSENT:
        found.removed.add(path)


def _leaf(old: Any, new: Any, path: Path, found: Comparison) -> None:
    if old is _ABSENT:
        found.added.add(path)
    elif new is _ABSENT:
        found.removed.add(path)
    elif old != new:
        found.modified.add(path)


def written(fields: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1 of a set: a field that is owned beside others below it is marked by a dot."""
    tree: dict[str, Any] = {}
    for path in sorted(fields):
        here = tree
        for segment in path:
            here = here.setdefault(segment, {})
        here["."] = {}
    return _undotted(tree)


def _undotted(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        segment: {} if list(below) == ["."] else _undotted(below) if segment != "." else {}
        for segment, below in sorted(tree.items())
    }


def read(tree: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """The fields of FieldsV1."""
    for segment, below in tree.items():
        if segment == ".":
            yield path
            continue
        at = (*path, segment)
        if not below:
            yield at
        elif isinstance(below, Mapping):
            yield from read(below, at)


def _get(value: Any, path: Path, schema: Schema) -> Any:
    """The value at a path; raises KeyError when there is none."""
    for segment in path:
        if segment.startswith("f:") and isinstance(value, Mapping):
            value, schema = value[segment[2:]], schemas.child(schema, segment[2:])
        elif segment[:2] in ("k:", "v:") and isinstance(value, list):
            kind = "keyed" if segment.startswith("k:") else "set"
            value, schema = _items(schema, value, kind)[segment], schema.get("items", {})
        else:
            raise KeyError(segment)
    return value


def remove(value: Any, path: Path, schema: Schema) -> None:
    """Remove a field in place, where it is; a map or list that is empty then goes with it."""
    root = schema
    try:
        holder = _get(value, path[:-1], root)
        for segment in path[:-1]:
            schema = schemas.child(schema, segment[2:]) if segment.startswith("f:") else schema.get("items", {})
        found = _get(holder, path[-1:], schema)
    except (KeyError, TypeError):
        return
    if isinstance(holder, dict):
        del holder[path[-1][2:]]
    else:
        holder.remove(found)
    if not holder and len(path) > 1 and path[-2].startswith("f:"):
        del _get(value, path[:-2], root)[path[-2][2:]]


def named_above(path: Path, schema: Schema) -> Iterator[Path]:
    """The declared fields within which a field lies: what is set in them by defaults goes with all that was said."""
    for length, segment in enumerate(path[:-1], 1):
        name = segment[2:]
        if not segment.startswith("f:"):
            schema = schema.get("items", {})
            continue
        declared = name in schemas.resolve(schema).get("properties", {})
        schema = schemas.child(schema, name)
        if declared:
            yield path[:length]


def merge(held: Any, given: Any, schema: Schema) -> Any:
    """What is held with what is given over it."""
    kind = kind_of(schema, given)
    if kind == "map" and isinstance(held, Mapping):
        result = dict(held)
        for name, item in given.items():
            result[name] = merge(result[name], item, schemas.child(schema, name)) if name in result else item
        return result
    if kind in ("keyed", "set") and isinstance(held, list):
        items, known = schema.get("items", {}), _items(schema, held, kind)
        for segment, item in _items(schema, given, kind).items():
            known[segment] = merge(known[segment], item, items) if segment in known else item
        return list(known.values())
    return given


def dotted(path: Path) -> str:
    """A path as messages have it."""
    return "".join(f".{one[2:]}" if one.startswith("f:") else f"[{_as_key(one)}]" for one in path)


def _as_key(segment: str) -> str:
    """An item's segment in messages: `name="a"` for the item with that key, and a set's item as it is."""
    if not segment.startswith("k:"):
        return f"={segment[2:]}"
    return ",".join(f"{name}={json.dumps(value)}" for name, value in json.loads(segment[2:]).items())


def repeated(value: Any, schema: Schema, path: Path = ()) -> tuple[Path, str] | None:
    """The first list with an item twice, and the item as messages have it; None when there is none."""
    kind = kind_of(schema, value)
    if kind == "map":
        inner = ((schemas.child(schema, name), item, f"f:{name}") for name, item in value.items())
    elif kind in ("keyed", "set"):
        segments = [segment for item in value for segment in _items(schema, [item], kind)]
        for index, segment in enumerate(segments):
            if segment in segments[:index]:
                return path, f"[{_as_key(segment)}]"
        inner = ((schema.get("items", {}), item, at) for item, at in zip(value, segments, strict=True))
    else:
        return None
    return next((found for part, item, at in inner if (found := repeated(item, part, (*path, at))) is not None), None)
