"""The verbs on stored objects: get, list, watch, create, update, patch, delete, deletecollection.

Each works on a `Call` (who asks for what) and answers with a `Reply`; the server turns that into HTTP. All but the
watch are synchronous, so that a read-modify-write of a patch is atomic.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from chaos.embedded import deletion
from chaos.embedded.api import apply, decode, patches, selectors, tables
from chaos.embedded.api import schema as schemas
from chaos.embedded.api.admission import admit_create, admit_update, review_pod_security
from chaos.embedded.api.auth import User
from chaos.embedded.api.convert import from_events_group, to_events_group
from chaos.embedded.api.errors import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    method_not_allowed,
    not_found,
    unsupported_media,
)
from chaos.embedded.clock import Clock
from chaos.embedded.resources import EVENT, EVENTS_EVENT, NAMESPACE, POD, Object, Resource
from chaos.embedded.store import AlreadyExists, Conflict, NotFound, Store, copy, now

APPLY: Final = "application/apply-patch+yaml"
PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)
_RETURNED: Final = (
    "Pod",
    "ServiceAccount",
    "Service",
    "PersistentVolumeClaim",
)  # DELETE answers with the object itself


@dataclass(frozen=True, slots=True)
class Call:
    """One request on a resource."""

    user: User
    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    accept: str = ""
    body: bytes = b""

    @property
    def stored(self) -> Resource:
        """The kind under which the objects are stored."""
        return EVENT if self.resource is EVENTS_EVENT else self.resource

    @property
    def dry(self) -> bool:
        value = self.query.get("dryRun", "")
        if value not in ("", "All"):
            raise bad_request(f'dryRun: Unsupported value: "{value}": supported values: "All"')
        return value == "All"


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON answer."""

    body: Any
    code: int = 200
    warnings: tuple[str, ...] = ()
    audit: str = ""  # what the audit log is to say beside the request


Guard = Callable[[Call, Object | None, Object], None]  # raises for what the user may not write: call, old, new


def _anything(_call: Call, _old: Object | None, _new: Object) -> None:
    """A guard that lets everything pass."""


class Rest:
    """The verbs, over a store."""

    def __init__(self, store: Store, clock: Clock, guard: Guard = _anything) -> None:
        self.store = store
        self.clock = clock
        self._guard = guard  # refuses what the user may not write (roles that grant more than he has)

    # ---- reading

    def find(self, call: Call) -> Object:
        """The object; StatusError 404."""
        found = self.store.find(call.stored, call.namespace, call.name)
        if found is None:
            raise not_found(call.resource, call.name)
        return found

    def get(self, call: Call) -> Reply:
        return Reply(self.shown(call, self.find(call)))

    def shown(self, call: Call, obj: Object) -> Any:
        """The object as the asker wants it: as a Table, in the group asked for, or plain."""
        if call.resource is EVENTS_EVENT:
            obj = to_events_group(obj)
        if wants_table(call.accept):
            return tables.table(
                call.stored, [self._core(call, obj)], self.clock.now(), call.query.get("includeObject", "Metadata"), {}
            )
        if wants_metadata(call.accept):
            return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
        return obj

    @staticmethod
    def _core(call: Call, obj: Object) -> Object:
        return from_events_group(obj) if call.resource is EVENTS_EVENT else obj

    def predicate(self, call: Call) -> selectors.Predicate | None:
        chosen = selectors.both(
            selectors.label_selector(call.query.get("labelSelector", "")),
            selectors.field_selector(call.stored, call.query.get("fieldSelector", "")),
        )
        if call.name:
            name = call.name
            return selectors.both(chosen, lambda obj: obj["metadata"]["name"] == name)
        return chosen

    def list(self, call: Call) -> Reply:
        predicate = self.predicate(call)
        limit = _natural(call.query.get("limit", ""), "limit")
        version, after = self.store.version, None
        if token := call.query.get("continue", ""):
            version, after = _read_continue(token)
            if version > self.store.version:
                raise bad_request("continue key is not valid: it names a version that is not there yet")
        _natural(call.query.get("resourceVersion", ""), "resourceVersion")
        objects = self.store.list(call.stored, call.namespace or None)
        if after is not None:
            bound = after
            objects = [obj for obj in objects if _key(obj) > bound]
        if predicate is not None:
            objects = [obj for obj in objects if predicate(obj)]
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if limit and len(objects) > limit:
            meta["continue"] = _write_continue(version, _key(objects[limit - 1]))
            if predicate is None:
                meta["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
        if wants_table(call.accept):
            return Reply(
                tables.table(call.stored, objects, self.clock.now(), call.query.get("includeObject", "Metadata"), meta)
            )
        if wants_metadata(call.accept):
            items: list[Any] = [
                {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
                for obj in objects
            ]
            return Reply(
                {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}
            )
        plain = [to_events_group(obj) for obj in objects] if call.resource is EVENTS_EVENT else objects
        return Reply(
            {
                "kind": f"{call.resource.kind}List",
                "apiVersion": call.resource.api_version,
                "metadata": meta,
                "items": [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in plain],
            }
        )

    # ---- writing

    def decoded(self, call: Call, value: Any) -> decode.Decoded:
        """A parsed body as an object of the call's kind, in the group in which it is stored."""
        strictness = decode.strictness_of(call.query.get("fieldValidation", ""))
        found = decode.as_object(call.resource, value, strictness=strictness)
        return (
            decode.Decoded(from_events_group(found.object), found.unknown) if call.resource is EVENTS_EVENT else found
        )

    def create(self, call: Call) -> Reply:
        found = self.decoded(call, decode.parse(call.body, call.content_type))
        return self._create(call, found)

    def _create(self, call: Call, found: decode.Decoded) -> Reply:
        new, meta = found.object, found.object["metadata"]
        if call.resource.namespaced:
            if meta.get("namespace", call.namespace) != call.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            meta["namespace"] = call.namespace
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        managed = meta.get("managedFields")
        admitted = admit_create(self.store, call.stored, new)
        if managed:
            admitted["metadata"]["managedFields"] = managed
        self._guard(call, None, admitted)
        said = review_pod_security(self.store, call.stored, None, admitted, call.subresource)
        warnings = (*_warnings(found), *said.warnings)
        name = admitted["metadata"]["name"]
        if self.store.find(call.stored, call.namespace, name) is not None:
            raise already_exists(call.resource, name)
        if call.dry:
            admitted["metadata"].setdefault("uid", str(uuid.uuid4()))
            admitted["metadata"]["creationTimestamp"] = now()
            return Reply(self.shown(call, admitted), 201, warnings, said.audit)
        try:
            return Reply(self.shown(call, self.store.create(call.stored, admitted)), 201, warnings, said.audit)
        except AlreadyExists:
            raise already_exists(call.resource, name) from None

    def update(self, call: Call) -> Reply:
        found = self.decoded(call, decode.parse(call.body, call.content_type))
        meta = found.object["metadata"]
        if meta.get("name", call.name) != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
            )
        if call.resource.namespaced and meta.get("namespace", call.namespace) != call.namespace:
            raise bad_request(
                f"the namespace of the object ({meta['namespace']}) does not match the namespace on the request "
                f"({call.namespace})"
            )
        old = self.find(call)
        return self._store_update(call, old, found)

    def _store_update(self, call: Call, old: Object, found: decode.Decoded) -> Reply:
        new = found.object
        new["metadata"]["name"] = call.name
        if call.resource.namespaced:
            new["metadata"]["namespace"] = call.namespace
        if call.resource is NAMESPACE and call.subresource == "finalize":
            admitted = copy(old)
            admitted["spec"] = {"finalizers": new.get("spec", {}).get("finalizers", [])}
        else:
            admitted = admit_update(self.store, call.stored, old, new, call.subresource)
        self._guard(call, old, admitted)
        said = review_pod_security(self.store, call.stored, old, admitted, call.subresource)
        warnings = (*_warnings(found), *said.warnings)
        meta = admitted["metadata"]
        held = old["metadata"]
        if "managedFields" in held and "managedFields" not in meta and not call.subresource:
            meta["managedFields"] = copy({"v": held["managedFields"]})["v"]
        for field_name, stored in (("uid", held["uid"]), ("resourceVersion", held["resourceVersion"])):
            if meta.get(field_name) not in (None, "", stored):
                raise conflict(
                    call.resource,
                    call.name,
                    f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {stored}"
                    if field_name == "uid"
                    else "",
                )
        if "deletionTimestamp" in held:
            fresh = set(meta.get("finalizers", [])) - set(held.get("finalizers", []))
            if fresh:
                from chaos.embedded.api.errors import invalid, not_allowed

                raise invalid(
                    call.resource,
                    call.name,
                    [
                        not_allowed(
                            "metadata.finalizers",
                            "no new finalizers can be added if the "
                            f"object is being deleted, found new finalizers {sorted(fresh)}",
                        )
                    ],
                )
        if call.dry:
            return Reply(self.shown(call, admitted), 200, warnings, said.audit)
        try:
            return Reply(self.shown(call, self.store.update(call.stored, admitted)), 200, warnings, said.audit)
        except Conflict:
            raise conflict(call.resource, call.name) from None
        except NotFound:
            raise not_found(call.resource, call.name) from None

    def patch(self, call: Call) -> Reply:
        kind = call.content_type.partition(";")[0].strip().lower()
        if kind not in PATCH_TYPES:
            raise unsupported_media(kind, PATCH_TYPES)
        patch = decode.parse(call.body, APPLY if kind == APPLY else "application/json")
        if kind == APPLY:
            return self._apply(call, patch)
        old = self.find(call)
        shown = to_events_group(old) if call.resource is EVENTS_EVENT else old
        patched = patched_object(call.resource, shown, kind, patch)
        found = self.decoded(call, patched)
        meta = found.object["metadata"]
        for name, mine in (("name", call.name), ("namespace", call.namespace)):
            if meta.get(name, mine) != mine:
                raise bad_request(
                    f"the {name} of the object ({meta[name]}) does not match the {name} on the URL ({mine})"
                )
        return self._store_update(call, old, found)

    def _apply(self, call: Call, config: Any) -> Reply:
        """Server-side apply."""
        manager = call.query.get("fieldManager", "")
        if not manager:
            raise bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        decoded = self.decoded(call, config)  # types and, when strict, unknown fields of what is applied
        meta = decoded.object["metadata"]
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if meta.get("name", call.name) != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
            )
        old = self.store.find(call.stored, call.namespace, call.name)
        merged = apply.server_side_apply(
            call.stored, old, decoded.object, manager=manager, force=call.query.get("force") == "true", at=now()
        )
        if old is None:
            merged["metadata"].setdefault("name", call.name)
            return self._create(call, decode.Decoded(merged, decoded.unknown))
        return self._store_update(call, old, decode.Decoded(merged, decoded.unknown))

    # ---- deleting

    def delete(self, call: Call) -> Reply:
        options = _delete_options(call)
        old = self.find(call)
        obj, gone = self._delete(call, old, options)
        if gone and call.resource.kind not in _RETURNED:
            details: dict[str, Any] = {
                "name": call.name,
                "kind": call.resource.plural,
                "uid": obj["metadata"].get("uid", ""),
            }
            if call.resource.group:
                details["group"] = call.resource.group
            return Reply(
                {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            )
        return Reply(self.shown(call, obj))

    def _delete(self, call: Call, old: Object, options: Mapping[str, Any]) -> tuple[Object, bool]:
        name = old["metadata"]["name"]
        conditions = options.get("preconditions") or {}
        if conditions.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise conflict(
                call.resource,
                name,
                f"Precondition failed: ResourceVersion in precondition: {conditions['resourceVersion']}, "
                f"ResourceVersion in object meta: {old['metadata']['resourceVersion']}",
            )
        if conditions.get("uid") not in (None, old["metadata"]["uid"]):
            raise conflict(
                call.resource,
                name,
                f"Precondition failed: UID in precondition: {conditions['uid']}, UID in object meta: "
                f"{old['metadata']['uid']}",
            )
        if call.resource is NAMESPACE and name in ("default", "kube-system", "kube-public"):
            from chaos.embedded.api.errors import forbidden

            raise forbidden(NAMESPACE, name, "this namespace may not be deleted")
        propagation = options.get("propagationPolicy")
        if options.get("orphanDependents"):
            propagation = "Orphan"
        if call.dry:
            return old, True
        try:
            return deletion.delete(
                self.store,
                call.stored,
                old["metadata"].get("namespace", ""),
                name,
                grace=options.get("gracePeriodSeconds") if call.resource is POD else None,
                propagation=propagation,
                clock=self.clock,
            )
        except NotFound:
            raise not_found(call.resource, name) from None

    def delete_collection(self, call: Call) -> Reply:
        options = _delete_options(call)
        predicate = self.predicate(call)
        doomed = [
            obj for obj in self.store.list(call.stored, call.namespace or None) if predicate is None or predicate(obj)
        ]
        for obj in doomed:
            if self.store.find(call.stored, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) is not None:
                self._delete(call, obj, options)
        return Reply(
            {
                "kind": f"{call.resource.kind}List",
                "apiVersion": call.resource.api_version,
                "metadata": {"resourceVersion": str(self.store.version)},
                "items": doomed,
            }
        )


def patched_object(resource: Resource, old: Object, kind: str, patch: Any) -> Any:
    """The object with a JSON, merge or strategic merge patch."""
    if kind == "application/json-patch+json":
        return patches.json_patch(old, patch)
    if not isinstance(patch, dict):
        raise bad_request(f"error decoding patch: a {kind} is a JSON object")
    if kind == "application/merge-patch+json":
        return patches.merge(old, patch)
    return patches.strategic(old, patch, schemas.of(resource))


def _delete_options(call: Call) -> Mapping[str, Any]:
    options: dict[str, Any] = {}
    if call.body.strip():
        value = decode.parse(call.body, call.content_type)
        if not isinstance(value, dict) or value.get("kind") not in (None, "DeleteOptions"):
            raise bad_request("the body of a delete is a DeleteOptions object")
        schema = schemas.definitions()["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]
        findings = schemas.Findings([], [], [])
        value.pop("apiVersion", None)
        options = schemas.clean(value, schema, findings)
        if findings.mismatches:
            raise bad_request(f"DeleteOptions cannot be handled: {findings.mismatches[0]}")
    for name in ("propagationPolicy",):
        if name in call.query:
            options.setdefault(name, call.query[name])
    if "gracePeriodSeconds" in call.query:
        options.setdefault("gracePeriodSeconds", _natural(call.query["gracePeriodSeconds"], "gracePeriodSeconds"))
    if options.get("propagationPolicy") not in (None, "Background", "Foreground", "Orphan"):
        raise StatusError(
            422,
            'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: '
            f'"{options["propagationPolicy"]}": supported values: "Background", "Foreground", "Orphan"',
        )
    if (options.get("gracePeriodSeconds") or 0) < 0:
        raise StatusError(
            422, 'DeleteOptions.meta.k8s.io "" is invalid: gracePeriodSeconds: must be greater than or equal to 0'
        )
    return options


def _warnings(found: decode.Decoded) -> tuple[str, ...]:
    return tuple(f'unknown field "{name}"' for name in found.unknown[:10])


def _natural(text: str, name: str) -> int | None:
    if text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_request(
            f'{name}: Invalid value: "{text[:60]}": strconv.ParseUint: parsing "{text[:60]}": invalid syntax'
        )
    return int(text)


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _write_continue(version: int, key: tuple[str, str]) -> str:
    return (
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": key}))
        .decode()
        .rstrip("=")
    )


def _read_continue(token: str) -> tuple[int, tuple[str, str]]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, (namespace, name) = int(value["rv"]), value["start"]
        return version, (str(namespace), str(name))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise bad_request("continue key is not valid: not one that this server gave out") from None


def wants_table(accept: str) -> bool:
    return "as=Table" in accept.partition(",")[0] and "g=meta.k8s.io" in accept


def wants_metadata(accept: str) -> bool:
    return "as=PartialObjectMetadata" in accept.partition(",")[0]


__all__ = [
    "APPLY",
    "PATCH_TYPES",
    "Call",
    "Reply",
    "Rest",
    "method_not_allowed",
    "patched_object",
    "wants_metadata",
    "wants_table",
]
