"""Objects of custom kinds: decoded, admitted, converted between versions.

Conversion is None: versions of an object differ in `apiVersion` alone. Pure except for look-ups in the store
(k8s.io/apiextensions-apiserver/pkg/registry/customresource). Called by decode, admission and rest, instead of their
functions for built-in kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.custom import fits, rules, structural, values
from chaos.embedded.api.errors import (
    Cause,
    StatusError,
    bad_request,
    duplicate,
    gathered,
    invalid,
    plain_failure,
    required,
    wrong,
)
from chaos.embedded.api.validation.names import dns_1035, dns_label, meta_changes, validate_meta
from chaos.embedded.resources import Custom, Object, Resource
from chaos.embedded.store import copy

Json = dict[str, Any]
Causes = Iterator[Cause]
_META: Final = schemas.named(f"{schemas.META}.ObjectMeta")
_MOST: Final = (1 << 31) - 1
_BLOCKING: Final = (
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    fits.TYPE_FAULT,
)
_SKIPPED: Final = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)


def of(resource: Resource) -> Custom:
    """The custom part of the kind; it must have one."""
    assert resource.custom is not None
    return resource.custom


def decoded(resource: Resource, value: Mapping[str, Any]) -> tuple[Json, list[str]]:
    """(the object in a body, pruned and defaulted; its unknown fields). Raises StatusError 400."""
    custom = of(resource)
    for name in ("kind", "apiVersion"):
        if not value.get(name):
            missing = f"Object '{name[:1].upper()}{name[1:]}' is missing in '{orjson.dumps(value).decode()}'"
            raise bad_request(f"the object provided is unrecognized (must be of type {resource.kind}): {missing}")
    if value["apiVersion"] != resource.api_version:
        raise bad_request(
            f"the API version in the data ({value['apiVersion']}) does not match the expected API version "
            f"({resource.api_version})"
        )
    new = copy(value)
    findings = schemas.Findings([], [])
    meta = schemas.clean(new.get("metadata") or {}, _META, findings, schemas.Place("metadata", "", "metadata"))
    if findings.mismatches:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"{findings.mismatches[0]}"
        )
    new["metadata"] = meta
    unknown = values.prune(new, custom.schema)
    values.fill(new, custom.schema)
    return new, sorted([*findings.unknown, *unknown])


def applied(resource: Resource, value: Any) -> Json:
    """Decode a server-side apply's partial object, without defaults, which nobody owns. Raises StatusError."""
    if not isinstance(value, dict):
        raise bad_request("the object provided is unrecognized")
    new = copy(value)
    unknown = values.prune(copy(value), of(resource).schema)
    if unknown:
        about = value.get("metadata") or {}
        kind = f"{resource.group}/{resource.version}, Kind={resource.kind}"
        subject = f"{about.get('namespace', '')}/{about.get('name', '')}; {kind}"
        raise plain_failure(
            f"failed to create typed patch object ({subject}): .{unknown[0]}: field not declared in schema"
        )
    given, _ = decoded(resource, {**value, "apiVersion": value.get("apiVersion"), "kind": value.get("kind")})
    new["metadata"] = given["metadata"]
    return new


def complete(resource: Resource, new: Json) -> None:
    """Set defaults that an apply left out, in place."""
    values.fill(new, of(resource).schema)


def as_stored(resource: Resource, obj: Object) -> Object:
    """Convert an object to its kind's storage version."""
    return {**obj, "apiVersion": f"{resource.group}/{of(resource).storage}"}


def as_asked(resource: Resource, obj: Object) -> Object:
    """Convert a stored object to the call's version, with defaults that its definition gained since it was stored."""
    custom = of(resource)
    shown = obj
    if int(obj["metadata"].get("resourceVersion") or 0) < custom.since:
        shown = copy(obj)
        values.prune(shown, custom.schema)
        values.fill(shown, custom.schema)
    if shown["apiVersion"] == resource.api_version:
        return shown
    return {**shown, "apiVersion": resource.api_version}


# ---- admission


def admit_create(resource: Resource, new: Json) -> Json:
    """Admit a new object; the object to store. Raises StatusError 422."""
    if "status" in resource.subresources:
        new.pop("status", None)
        values.fill(new, of(resource).schema)  # a status that the schema defaults is there whenever it is read
    new["metadata"]["generation"] = 1
    causes = gathered(chain(validate_meta(resource, new["metadata"]), _typed(resource, new), _whole(resource, new)))
    causes += _rules(resource, new, causes, fits.ABSENT)
    if causes:
        raise invalid(resource, new["metadata"].get("name", ""), causes)
    return new


def admit_update(resource: Resource, old: Object, new: Json) -> Json:
    """Admit a changed object; the object to store. Raises StatusError 422."""
    held = as_asked(resource, old)
    if "status" in resource.subresources:
        new.pop("status", None)
        if "status" in held:
            new["status"] = values.copied(held["status"])
    meta = new["metadata"]
    if _substance(new) != _substance(held):
        meta["generation"] = held["metadata"].get("generation", 0) + 1
    causes = gathered(chain(meta_changes(held["metadata"], meta), validate_meta(resource, meta), _typed(resource, new)))
    causes += fits.misfits(new, of(resource).schema, old=held)
    causes += [*_scale(resource, new), *_embedded(new, of(resource).schema, "")]
    if not list(_lists(held, of(resource).schema, "")):
        causes += _lists(new, of(resource).schema, "")
    causes += _rules(resource, new, causes, held)
    if causes:
        raise invalid(resource, meta.get("name", ""), causes)
    return new


def admit_status(resource: Resource, old: Object, new: Json) -> Json:
    """Admit a changed status; the object to store. Raises StatusError 422."""
    held = as_asked(resource, old)
    result = copy(held)
    for name in ("resourceVersion", "uid", "managedFields"):
        if name in new["metadata"]:
            result["metadata"][name] = new["metadata"][name]
    result.pop("status", None)
    if "status" in new:
        result["status"] = new["status"]
    schema = of(resource).schema
    of_status = (schema.get("properties") or {}).get("status")
    causes: list[Cause] = []
    if "status" in result and of_status is not None:
        causes += fits.misfits(result["status"], of_status, "status", old=held.get("status", fits.ABSENT))
    causes += _scale(resource, result)
    if not list(_lists(held, schema, "")):
        causes += _lists(result, schema, "")
    causes += _rules(resource, result, causes, held)
    if causes:
        raise invalid(resource, result["metadata"].get("name", ""), causes)
    return result


def _substance(obj: Object) -> Json:
    return {name: value for name, value in obj.items() if name not in ("metadata", "apiVersion")}


def _typed(resource: Resource, obj: Object) -> Causes:
    if obj.get("kind") != resource.kind:
        yield wrong("kind", obj.get("kind", ""), f"must be {resource.kind}")


def _whole(resource: Resource, obj: Object) -> Causes:
    schema = of(resource).schema
    yield from fits.misfits(obj, schema)
    yield from _scale(resource, obj)
    yield from _embedded(obj, schema, "")
    yield from _lists(obj, schema, "")


_PLANS: Final[WeakKeyDictionary[Custom, rules.Plan | None]] = WeakKeyDictionary()


def _rules(resource: Resource, obj: Object, causes: list[Cause], old: Any) -> list[Cause]:
    """Violations of the definition's own rules, if the object is valid enough to evaluate them."""
    custom = of(resource)
    if custom not in _PLANS:
        _PLANS[custom] = rules.plan(custom.schema)
    if _PLANS[custom] is None:
        return []
    if any(cause.reason in _BLOCKING for cause in causes):
        return [wrong("<nil>", None, _SKIPPED)]
    return rules.Check().run(obj, _PLANS[custom], old=old)


def _scale(resource: Resource, obj: Object) -> Causes:
    """Validate the fields of the scale subresource."""
    scale = of(resource).scale
    if scale is None:
        return
    for name in ("specReplicasPath", "statusReplicasPath"):
        path = str(scale[name])
        value = at_path(obj, path)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            why = f"{path} accessor error: {orjson.dumps(value).decode()} is of the type {_go(value)}, expected int64"
            yield wrong(path, 0, why)
        elif value < 0:
            yield wrong(path, value, "should be a non-negative integer")
        elif value > _MOST:
            yield wrong(path, value, f"should be less than or equal to {_MOST}")


def _go(value: Any) -> str:
    kinds = {str: "string", bool: "bool", float: "float64", list: "[]interface {}"}
    return kinds.get(type(value), "map[string]interface {}")


def at_path(obj: Any, path: str) -> Any:
    """The value at a simple JSON path, None where there is none."""
    for part in path.removeprefix(".").split("."):
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(part)
    return obj


def _embedded(value: Any, schema: Mapping[str, Any] | None, path: str) -> Causes:
    """Validate embedded resources: version, kind and metadata."""
    if schema is None:
        return
    if isinstance(value, list):
        items = schema.get("items")
        for index, item in enumerate(value):
            yield from _embedded(item, items if isinstance(items, Mapping) else None, f"{path}[{index}]")
    if not isinstance(value, Mapping):
        return
    if schema.get("x-kubernetes-embedded-resource"):
        yield from _head(value, path)
    for name, item in value.items():
        yield from _embedded(item, values.below(schema, name), f"{path}.{name}" if path else name)


def _head(value: Mapping[str, Any], path: str) -> Causes:
    for name in ("apiVersion", "kind"):
        field = f"{path}.{name}"
        if name not in value:
            yield required(field)
        elif not isinstance(value[name], str):
            yield wrong(field, value[name], "must be a string")
        elif not value[name]:
            yield wrong(field, "", "must not be empty")
        elif name == "kind" and (faults := dns_1035(value["kind"].lower())):
            start = "may have mixed case, but should otherwise match: "
            yield wrong(field, value["kind"], start + ",".join(faults))
        elif name == "apiVersion" and value["apiVersion"].count("/") > 1:
            yield wrong(field, value["apiVersion"], f"unexpected GroupVersion string: {value['apiVersion']}")
    meta = value.get("metadata")
    if isinstance(meta, Mapping):
        findings = schemas.Findings([], [])
        schemas.clean(dict(meta), _META, findings)
        for why in findings.mismatches[:1]:
            yield wrong(f"{path}.metadata", dict(meta), why)
        if not findings.mismatches and (space := meta.get("namespace")):
            for why in dns_label(space):
                yield wrong(f"{path}.metadata.namespace", space, why)


def _lists(value: Any, schema: Mapping[str, Any] | None, path: str) -> Causes:
    """Validate that sets hold each item once, and map lists each key."""
    if schema is None:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _lists(item, values.below(schema, name), f"{path}.{name}" if path else name)
    if not isinstance(value, list):
        return
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        for index in _repeated([orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in value]):
            yield duplicate(f"{path}[{index}]", value[index])
    elif kind == "map":
        yield from _map_list(value, schema.get("x-kubernetes-list-map-keys") or [], path)
    items = schema.get("items")
    for index, item in enumerate(value):
        yield from _lists(item, items if isinstance(items, Mapping) else None, f"{path}[{index}]")


def _map_list(value: list[Any], keys: list[str], path: str) -> Causes:
    for index, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            yield wrong(f"{path}[{index}]", item, "must be an object for an array of list-type map")
            return
    held = [{key: item[key] for key in keys if key in item} if item is not None else {} for item in value]
    for index in _repeated([orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in held]):
        yield duplicate(f"{path}[{index}]", held[index])


def _repeated(texts: list[bytes]) -> list[int]:
    """Indexes of repeated texts."""
    seen: dict[bytes, int] = {}
    found = []
    for index, text in enumerate(texts):
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            found.append(index)
    return found


# ---- the scale subresource


def scale_of(resource: Resource, obj: Object) -> Json:
    """The object's Scale; StatusError 500 where it has no number of replicas."""
    scale = of(resource).scale
    assert scale is not None
    replicas = at_path(obj, scale["specReplicasPath"])
    if replicas is None:
        path = scale["specReplicasPath"]
        raise StatusError(500, f'Internal error occurred: the spec replicas field "{path}" does not exist')
    seen = at_path(obj, scale["statusReplicasPath"]) or 0
    selector = at_path(obj, scale["labelSelectorPath"]) if scale.get("labelSelectorPath") else None
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": seen, **({"selector": selector} if selector else {})},
    }


def path_of_replicas(resource: Resource) -> tuple[str, ...]:
    """The path of the number of replicas in an object of the kind."""
    scale = of(resource).scale
    assert scale is not None
    return tuple(str(scale["specReplicasPath"]).removeprefix(".").split("."))


def with_replicas(resource: Resource, obj: Object, replicas: int) -> Json:
    """The object with this number of replicas."""
    new = copy(obj)
    *parents, last = path_of_replicas(resource)
    here = new
    for name in parents:
        here = here.setdefault(name, {})
    here[last] = replicas
    return new


# ---- printer columns


def cell(column: Mapping[str, Any], obj: Object) -> Any:
    """The value of a printer column; None when there is none of its type."""
    found = structural.select(obj, str(column["jsonPath"]))
    if not found:
        return None
    value, kind = found[0], column["type"]
    if value is None:
        return None
    if kind == "string":
        return value if isinstance(value, str) else _printed(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if kind == "integer":
        return int(value) if isinstance(value, int | float) else None
    if kind == "number":
        return value if isinstance(value, int | float) else None
    return value if isinstance(value, str) else None  # a date: the table makes an age of it


def _printed(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)
