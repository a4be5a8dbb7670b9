"""Who owns which fields of an object: `metadata.managedFields`, kept as Kubernetes keeps it through every write.

After k8s.io/apimachinery/pkg/util/managedfields. A write owns what it changed, and takes it from whoever owned it
before; an apply owns what it says, is refused where it would change what another owns, and removes what it said before
and nobody else owns. What controllers and kubelets here write to the store directly has no owner. Pure; called by rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.fieldsets import (
    Fields,
    Path,
    compare,
    dotted,
    fields_of,
    merge,
    named_above,
    read,
    remove,
    written,
)
from chaos.embedded.clock import parse_time
from chaos.embedded.resources import Object, Resource
from chaos.embedded.store import copy

APPLIED: Final = "Apply"
UPDATED: Final = "Update"
SCALE: Final = "scale"
_UNOWNED: Final = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "resourceVersion")
    }
    | {("f:metadata", "f:managedFields")}
)
_MOST_UPDATERS: Final = 10
_OLDER: Final = "ancient-changes"
_BEFORE: Final = "before-first-apply"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
CLIENT_SIDE: Final = "kubectl"  # an apply under this name takes over what `kubectl apply` left


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, and how."""

    manager: str
    api_version: str
    subresource: str = ""
    operation: str = UPDATED


@dataclass(frozen=True, slots=True)
class _Entry:
    writer: Writer
    fields: frozenset[Path]
    time: str = ""

    def is_of(self, writer: Writer) -> bool:
        """Whether it is this writer's: of appliers in whatever version."""
        mine = self.writer
        if mine.operation == APPLIED:
            mine = replace(mine, api_version=writer.api_version)
        return mine == writer


Entries = list[_Entry]


def user_agents_manager(agent: str) -> str:
    """The manager that a request without one is of: the User-Agent up to its version."""
    name, room = "", 128
    for char in agent.split("/")[0]:
        if char.isprintable():
            room -= len(char.encode())
            if room < 0:
                break
            name += char
    return name or "unknown"


def _decoded(held: Sequence[Mapping[str, Any]]) -> Entries:
    return [
        _Entry(
            Writer(
                one.get("manager", ""),
                one.get("apiVersion", ""),
                one.get("subresource", ""),
                one.get("operation", UPDATED),
            ),
            frozenset(read(one.get("fieldsV1") or {})),
            one.get("time", ""),
        )
        for one in held
        if one
    ]


def _encoded(entries: Entries) -> list[dict[str, Any]]:
    def order(one: _Entry) -> tuple[Any, ...]:
        writer = one.writer
        seconds = int(parse_time(one.time).timestamp()) if one.time else -1
        return writer.operation, seconds, writer.manager, writer.api_version, writer.subresource

    return [
        {
            "manager": one.writer.manager,
            "operation": one.writer.operation,
            "apiVersion": one.writer.api_version,
            **({"time": one.time} if one.time else {}),
            "fieldsType": "FieldsV1",
            "fieldsV1": written(one.fields),
            **({"subresource": one.writer.subresource} if one.writer.subresource else {}),
        }
        for one in sorted(_capped(entries), key=order)
    ]


def _capped(entries: Entries) -> Entries:
    """At most ten updaters: older ones are merged, by version."""
    updaters = sorted((one for one in entries if one.writer.operation == UPDATED), key=lambda one: one.time)
    beyond = len(updaters) - _MOST_UPDATERS
    if beyond <= 0:
        return entries
    kept = [one for one in entries if one.writer.operation != UPDATED]
    merged: dict[str, _Entry] = {}
    for one in updaters:
        version = one.writer.api_version
        if beyond > 0 and version in merged:
            older = merged[version]
            merged[version] = _Entry(Writer(_OLDER, version), older.fields | one.fields, one.time)
            beyond -= 1
        elif beyond > 0:
            merged[version] = one
        else:
            kept.append(one)
    return [*kept, *merged.values()]


def _ignored(resource: Resource, subresource: str) -> tuple[Path, ...]:
    """What a write cannot change: the status, and through the status everything else."""
    if subresource == "status":
        return (("f:spec",), ("f:metadata", "f:deletionTimestamp"), ("f:metadata", "f:ownerReferences"))
    return (("f:status",),) if "status" in resource.subresources else ()


def _kept(fields: Fields, ignored: tuple[Path, ...]) -> Fields:
    """Fields that can be owned."""
    return {path for path in fields if path not in _UNOWNED and not any(path[: len(one)] == one for one in ignored)}


def _without(entries: Entries, lost: Fields, removed: Fields) -> Entries:
    left = [replace(one, fields=one.fields - lost - removed) for one in entries]
    return [one for one in left if one.fields]


def updated(
    resource: Resource, old: Object | None, new: Mapping[str, Any], writer: Writer, at: str
) -> list[dict[str, Any]] | None:
    """The managedFields of `new`, a plain update of `old`; None where ownership is not tracked.

    `new` may bring managedFields of its own, which are taken as they are (one empty entry: none).
    """
    given = (new.get("metadata") or {}).get("managedFields") or []
    held = ((old or {}).get("metadata") or {}).get("managedFields") or []
    entries = _decoded(held if writer.subresource or not given else given)
    if old is not None and not entries:
        return None
    return _encoded(_updated(resource, old or {}, new, entries, writer, at))


def _updated(
    resource: Resource, old: Mapping[str, Any], new: Mapping[str, Any], entries: Entries, writer: Writer, at: str
) -> Entries:
    found = compare(_plain(old), _plain(new), schemas.reference(resource) or schemas.of(resource))
    ignored = _ignored(resource, writer.subresource)
    lost, removed = _kept(found.written, ignored), _kept(found.removed, ignored)
    taken, left = lost - removed, _without(entries, lost, removed)
    if not taken:
        return left
    mine = next((one.fields for one in left if one.is_of(writer)), frozenset[Path]())
    time = "" if writer.subresource == SCALE else at  # through a Scale the moment is not kept
    return [*(one for one in left if not one.is_of(writer)), _Entry(writer, mine | taken, time)]


def _plain(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what the server writes of it."""
    meta = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    return {**{key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}, "metadata": meta}


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


def _told(entry: _Entry) -> str:
    writer = entry.writer
    if writer.operation == APPLIED:
        return f'"{writer.manager}"'
    through = f' with subresource "{writer.subresource}"' if writer.subresource else ""
    return f'"{writer.manager}"{through} using {writer.api_version}'


def applied(
    resource: Resource, old: Object | None, config: Mapping[str, Any], *, writer: Writer, force: bool, at: str
) -> dict[str, Any]:
    """The object after a server-side apply, with its managedFields; StatusError 409 on conflicts without `force`."""
    schema = schemas.reference(resource) or schemas.of(resource)
    given = copy(config)
    for name in ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"):
        given["metadata"].pop(name, None)
    held = copy(old) if old is not None else {}
    entries = _decoded((held.get("metadata") or {}).get("managedFields") or [])
    if old is not None and not entries:
        entries = _updated(resource, {}, held, [], Writer(_BEFORE, resource.api_version), at)
    said = _kept(set(fields_of(given, schema)), _ignored(resource, writer.subresource))
    mine = next((one for one in entries if one.is_of(writer)), None)
    others = [one for one in entries if one is not mine]
    merged: dict[str, Any] = merge(held, given, schema) if held else given
    if mine is not None:
        _prune(merged, mine.fields, said, others, schema)
    found = compare(_plain(held), _plain(merged), schema)
    clashes = [(_told(one), path) for one in others for path in sorted(one.fields & found.written)]
    if clashes and not force and writer.manager == CLIENT_SIDE:
        allowed = _client_sides(held, schema)
        clashes = [(by, path) for by, path in clashes if path not in allowed]
    if clashes and not force:
        raise _conflicting([(by, dotted(path)) for by, path in clashes])
    others = _without(others, found.written, found.removed)
    changes = bool(found.added or found.modified or found.removed) or old is None
    time = at if changes else mine.time if mine is not None else ""
    if writer.manager == CLIENT_SIDE and LAST_APPLIED in ((held.get("metadata") or {}).get("annotations") or {}):
        annotations = {**merged["metadata"].get("annotations", {}), LAST_APPLIED: _as_last_applied(config)}
        merged["metadata"] = {**merged["metadata"], "annotations": annotations}
    mine = _Entry(writer, frozenset(said), time)
    merged.setdefault("metadata", {})["managedFields"] = _encoded([*others, *([mine] if said else ())])
    return merged


_IN_SCALE: Final[Path] = ("f:spec", "f:replicas")


def of_scale(held: Sequence[Mapping[str, Any]], replicas: Path, scale: str) -> list[dict[str, Any]]:
    """The managedFields of an object's Scale: who owns the number of replicas, as a field of the kind `scale`."""
    return _encoded(
        [
            _Entry(replace(one.writer, api_version=scale), frozenset({_IN_SCALE}), one.time)
            for one in _decoded(held)
            if replicas in one.fields
        ]
    )


def with_scale(
    held: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], replicas: Path, version: str
) -> list[dict[str, Any]]:
    """The managedFields of an object whose Scale has become `given`: who owns the number there owns it here."""
    owners = {replace(one.writer, api_version=version) for one in _decoded(given) if _IN_SCALE in one.fields}
    kept: Entries = []
    for one in _decoded(held):
        if replace(one.writer, api_version=version) not in owners:
            one = replace(one, fields=one.fields - {replicas})
        else:
            owners.discard(replace(one.writer, api_version=version))
            one = replace(one, fields=one.fields | {replicas})
        if one.fields:
            kept.append(one)
    return _encoded([*kept, *(_Entry(writer, frozenset({replicas})) for writer in owners)])


def _prune(merged: dict[str, Any], before: frozenset[Path], said: Fields, others: Entries, schema: Any) -> None:
    """Remove what the applier said before, says no more, and nobody else owns."""
    owned = said.union(*(one.fields for one in others))
    dropped = before | {path for one in before for path in named_above(one, schema)}
    for path in sorted(dropped - owned - _UNOWNED, key=len):  # an item before the fields by which it is found
        if not any(other[: len(path)] == path for other in owned):
            remove(merged, path, schema)


def _as_last_applied(config: Mapping[str, Any]) -> str:
    """The annotation that the next `kubectl apply` on the client's side will compare with."""
    return orjson.dumps(config, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE).decode()


def _client_sides(held: Mapping[str, Any], schema: Any) -> Fields:
    """What `kubectl apply` set and is still so: an apply on the server's side takes it over."""
    text = ((held.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED, "")
    try:
        last = orjson.loads(text)
    except orjson.JSONDecodeError:
        return set()
    found = compare(_plain(last), _plain(held), schema)
    return set(fields_of(last, schema)) - found.added - found.modified - found.removed
