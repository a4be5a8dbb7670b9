"""Server-side apply: field ownership, conflicts between appliers, and removal of fields that their owner drops.

Ownership is kept per leaf in metadata.managedFields, in Kubernetes' own FieldsV1 form. Unlike Kubernetes only appliers
are tracked, not plain updates: an apply over a field that a plain update set is no conflict. Pure; called by rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.schema import Schema
from chaos.embedded.resources import Object, Resource
from chaos.embedded.store import copy

Path = tuple[str, ...]  # segments as FieldsV1 writes them: f:name, k:{...}, v:...
_UNOWNED: Final = {
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata", "f:name"),
    ("f:metadata", "f:namespace"),
    ("f:metadata",),
}
_DEFAULT_KEYS: Final = {"protocol": "TCP"}


def _kind(schema: Schema, value: Any) -> str:
    """How a value is merged: as a map, keyed (a list of objects by keys), a set, or atomic."""
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


def _key(schema: Schema, item: Mapping[str, Any]) -> str:
    keys = {name: item.get(name, _DEFAULT_KEYS.get(name)) for name in schema.get("x-kubernetes-list-map-keys", [])}
    return "k:" + json.dumps({k: v for k, v in keys.items() if v is not None}, separators=(",", ":"), sort_keys=True)


def leaves(value: Any, schema: Schema, path: Path = ()) -> Iterator[Path]:
    """The paths that applying the value would own."""
    kind = _kind(schema, value)
    if kind == "map":
        if not value and path:
            yield path
        for name, item in value.items():
            yield from leaves(item, schemas.child(schema, name), (*path, f"f:{name}"))
    elif kind == "keyed":
        for item in value:
            at = (*path, _key(schema, item))
            yield at
            yield from leaves(item, schema.get("items", {}), at)
    elif kind == "set":
        for item in value:
            yield (*path, "v:" + json.dumps(item))
    else:
        yield path


def _fields(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        here = tree
        for segment in path:
            here = here.setdefault(segment, {})
    return tree


def _paths(tree: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    for segment, below in tree.items():
        if segment == ".":
            continue
        at = (*path, segment)
        if not below or segment.startswith("k:"):
            yield at
        if isinstance(below, Mapping):
            yield from _paths(below, at)


def _get(value: Any, path: Path, schema: Schema) -> Any:
    """The value at a path; raises KeyError when there is none."""
    for segment in path:
        if segment.startswith("f:") and isinstance(value, Mapping):
            value, schema = value[segment[2:]], schemas.child(schema, segment[2:])
        elif segment.startswith("k:") and isinstance(value, list):
            value = next((item for item in value if isinstance(item, Mapping) and _key(schema, item) == segment), None)
            if value is None:
                raise KeyError(segment)
            schema = schema.get("items", {})
        elif segment.startswith("v:") and isinstance(value, list):
            wanted = json.loads(segment[2:])
            if wanted not in value:
                raise KeyError(segment)
            value = wanted
        else:
            raise KeyError(segment)
    return value


def _remove(value: Any, path: Path, schema: Schema) -> None:
    try:
        holder = _get(value, path[:-1], schema)
        for segment in path[:-1]:
            schema = schemas.child(schema, segment[2:]) if segment.startswith("f:") else schema.get("items", {})
        found = _get(holder, path[-1:], schema)
    except KeyError:
        return
    if isinstance(holder, dict):
        del holder[path[-1][2:]]
    else:
        holder.remove(found)


def _merge(held: Any, given: Any, schema: Schema) -> Any:
    kind = _kind(schema, given)
    if kind == "map" and isinstance(held, Mapping):
        result = dict(held)
        for name, item in given.items():
            result[name] = _merge(result[name], item, schemas.child(schema, name)) if name in result else item
        return result
    if kind == "keyed" and isinstance(held, list):
        items = schema.get("items", {})
        merged = list(held)
        places = {_key(schema, item): index for index, item in enumerate(held) if isinstance(item, Mapping)}
        for item in given:
            index = places.get(_key(schema, item))
            if index is None:
                merged.append(item)
            else:
                merged[index] = _merge(merged[index], item, items)
        return merged
    if kind == "set" and isinstance(held, list):
        return [*held, *(item for item in given if item not in held)]
    return given


def _dotted(path: Path) -> str:
    return "".join(f".{one[2:]}" if one.startswith("f:") else f"[{one[2:]}]" for one in path)


def _conflicting(clashes: Sequence[tuple[str, str]]) -> StatusError:
    """StatusError 409 with each conflicting field and its manager."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, path in clashes
    ]
    if len(clashes) == 1:
        told = f"1 conflict: conflict with {clashes[0][0]}: {clashes[0][1]}"
    else:
        lines = []
        for manager in sorted({manager for manager, _ in clashes}):
            lines += [f"conflicts with {manager}:", *(f"- {path}" for by, path in clashes if by == manager)]
        told = f"{len(clashes)} conflicts: " + "\n".join(lines)
    return StatusError(409, f"Apply failed with {told}", details={"causes": causes})


def server_side_apply(
    resource: Resource, old: Object | None, config: Mapping[str, Any], *, manager: str, force: bool, at: str
) -> dict[str, Any]:
    """The object after the apply, with its managedFields; StatusError 409 on conflicts without `force`."""
    schema = schemas.of(resource)
    given = copy(config)
    for name in ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"):
        given["metadata"].pop(name, None)
    owned = {path for path in leaves(given, schema) if path not in _UNOWNED}
    held = copy(old) if old is not None else {}
    entries = held.get("metadata", {}).get("managedFields") or []
    others: list[dict[str, Any]] = []
    before: set[Path] = set()
    clashes: list[tuple[str, str]] = []
    kept: set[Path] = set()
    for entry in entries:
        theirs = set(_paths(entry.get("fieldsV1") or {}))
        if entry["manager"] == manager:
            before = theirs
            continue
        lost = {
            path for path in theirs & owned if not path[-1].startswith("k:") and _differs(held, given, path, schema)
        }
        by = f'"{entry["manager"]}"' + ("" if entry.get("operation") == "Apply" else f" using {entry['apiVersion']}")
        clashes += [(by, _dotted(path)) for path in sorted(lost)]
        kept |= theirs - lost
        others.append(entry | {"fieldsV1": _fields(theirs - lost)})
    if clashes and not force:
        raise _conflicting(clashes)
    merged = _merge(held, given, schema) if held else given
    for path in sorted(before - owned - kept, key=len, reverse=True):
        if not any(other[: len(path)] == path for other in owned | kept):
            _remove(merged, path, schema)
    mine = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": resource.api_version,
        "time": at,
        "fieldsType": "FieldsV1",
        "fieldsV1": _fields(owned),
    }
    previous = next((entry for entry in entries if entry["manager"] == manager), None)
    if previous is not None and previous.get("fieldsV1") == mine["fieldsV1"]:
        mine["time"] = previous.get("time", at)  # nothing new is owned: an apply that changes nothing stores nothing
    result: dict[str, Any] = merged
    result["metadata"]["managedFields"] = [*others, mine]
    return result


def _differs(held: Any, given: Any, path: Path, schema: Schema) -> bool:
    try:
        return bool(_get(held, path, schema) != _get(given, path, schema))
    except KeyError:
        return True
