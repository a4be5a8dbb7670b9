"""The verbs on stored objects: get, list, watch, create, update, patch, delete, deletecollection.

Each works on a `Call` and returns a `Reply`; the server turns that into HTTP. A writing verb suspends only for a
webhook; without one it is a single step, and a patch's read-modify-write is atomic. When the object changes while
webhooks run, the verb starts again, unless the caller gave a resourceVersion.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from chaos.embedded import deletion
from chaos.embedded.api import decode, discovery, managed, options, selectors, tables, warnings
from chaos.embedded.api.admission import (
    admit_update,
    begin_create,
    check_place,
    check_quota,
    finish_create,
    plug_in,
    review_pod_security,
)
from chaos.embedded.api.asked import Asked, Gate, OpenGate
from chaos.embedded.api.calls import APPLY, Call, Reply, inward, outward
from chaos.embedded.api.convert import as_stored
from chaos.embedded.api.custom import objects as custom
from chaos.embedded.api.defaults import apply_defaults
from chaos.embedded.api.errors import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    invalid_kind,
    not_acceptable,
    not_found,
    not_served,
    plain_failure,
    unsupported_media,
    wrong,
)
from chaos.embedded.api.paging import Page, page_asked, write_continue
from chaos.embedded.api.patching import (
    decoded_patch,
    internal,
    parsed,
    patched_object,
    refuse_other_type,
    refuse_repeated,
    refuse_undeclared,
)
from chaos.embedded.clock import Clock
from chaos.embedded.resources import CUSTOM_RESOURCE_DEFINITION, NAMESPACE, POD, Object, Resource
from chaos.embedded.store import QUOTA, AlreadyExists, Conflict, Expired, NotFound, Store, copy, now

PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)
CUSTOM_PATCH_TYPES: Final = (PATCH_TYPES[0], PATCH_TYPES[1], APPLY)
_RETURNED: Final = (
    "Pod",
    "ServiceAccount",
    "Service",
    "PersistentVolumeClaim",
)  # DELETE answers with the object itself


Guard = Callable[[Call, Object | None, Object], None]  # raises for what the user may not write: call, old, new


_ATTEMPTS: Final = 5  # of a write whose object changes while webhooks are asked


class _Overtaken(Exception):
    """The object changed while webhooks reviewed its change."""


def _anything(_call: Call, _old: Object | None, _new: Object) -> None:
    """A guard that allows everything."""


class Rest:
    """The verbs on a store."""

    def __init__(self, store: Store, clock: Clock, guard: Guard = _anything, gate: Gate | None = None) -> None:
        self.store = store
        self.clock = clock
        self.gate = gate or OpenGate()
        self._guard = guard  # refuses what the user may not write (roles that grant more than he has)

    # ---- reading

    def find(self, call: Call) -> Object:
        """Get the object; raises StatusError 404."""
        found = self.store.find(call.stored, call.namespace, call.name)
        if found is None:
            raise not_found(call.resource, call.name)
        return found

    def get(self, call: Call) -> Reply:
        options.version_asked(call.query, self.store.version, listing=False)
        if wants_metadata_list(call.accept):
            raise not_acceptable(
                "you requested PartialObjectMetadataList, but the requested object is not a list "
                f"(*{internal(call.resource)}.{call.resource.kind})"
            )
        return Reply(self.shown(call, self.find(call)))

    def shown(self, call: Call, obj: Object) -> Any:
        """The object in the form of the answer: a Table, another group and version, or plain."""
        obj = outward(call, obj)
        if wants_table(call.accept):
            meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return tables.table(
                call.stored,
                [self._core(call, obj)],
                self.clock.now(),
                tables.included(call.query),
                meta,
                form=tables.version(call.accept),
            )
        if wants_metadata(call.accept):
            return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
        return obj

    @staticmethod
    def _core(call: Call, obj: Object) -> Object:
        return as_stored(call.resource, obj)

    def predicate(self, call: Call) -> selectors.Predicate | None:
        chosen = selectors.both(
            selectors.label_selector(call.query.get("labelSelector", "")),
            selectors.field_selector(call.resource, call.query.get("fieldSelector", "")),
        )
        if call.name:
            name = call.name
            return selectors.both(chosen, lambda obj: obj["metadata"]["name"] == name)
        return chosen

    def list(self, call: Call) -> Reply:
        options.check_list(call.query, watching=False)
        if wants_metadata(call.accept) and not wants_metadata_list(call.accept):
            raise not_acceptable(
                "you requested PartialObjectMetadata, but the requested object is a list "
                f"(*{internal(call.resource)}.{call.resource.list_kind})"
            )
        predicate = self.predicate(call)
        page = page_asked(call.query, self.store.version)
        version, limit = self.store.version if page.version is None else page.version, page.limit
        objects = self._held_at(call, page)
        if page.after is not None:
            bound = page.after
            objects = [obj for obj in objects if _key(obj) > bound]
        if predicate is not None:
            objects = [obj for obj in objects if predicate(obj)]
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if limit is not None and limit < len(objects):
            meta["continue"] = write_continue(version, _key(objects[limit - 1]))
            if predicate is None:
                meta["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
        if wants_table(call.accept):
            if call.stored is call.resource:
                objects = [outward(call, obj) for obj in objects]
            form = tables.version(call.accept)
            shown = tables.table(call.stored, objects, self.clock.now(), tables.included(call.query), meta, form=form)
            return Reply(shown)
        if wants_metadata(call.accept):
            items: list[Any] = [
                {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
                for obj in objects
            ]
            return Reply(
                {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}
            )
        plain = [outward(call, obj) for obj in objects]
        return Reply(
            {
                "kind": call.resource.list_kind,
                "apiVersion": call.resource.api_version,
                "metadata": meta,
                "items": [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in plain],
            }
        )

    def _held_at(self, call: Call, page: Page) -> Sequence[Object]:
        """The objects at the page's version; raises StatusError 410 when it is no longer kept."""
        if page.version is None:
            return self.store.list(call.stored, call.namespace or None)
        try:
            return self.store.list_at(call.stored, call.namespace or None, page.version)
        except Expired:
            raise page.expired() from None

    # ---- writing

    def _stored_form(self, call: Call, found: decode.Decoded) -> decode.Decoded:
        """Decode in the group in which objects of the call's kind are stored."""
        if call.stored is not call.resource:
            return decode.Decoded(dict(as_stored(call.resource, found.object)), found.faults)
        return found

    def _body(self, call: Call, strictness: str) -> decode.Decoded:
        found = decode.body_object(call.resource, call.body, call.content_type, strictness=strictness)
        for fault in found.faults:  # which an error carries too
            call.said.warn(fault)
        return self._stored_form(call, found)

    async def create(self, call: Call) -> Reply:
        refuse_listed(call.resource)
        asked = call.options()
        return await self._create(call, self._body(call, asked.strictness), asked)

    async def _create(self, call: Call, found: decode.Decoded, asked: options.WriteOptions) -> Reply:
        new, meta = found.object, found.object["metadata"]
        if call.resource.namespaced:
            if meta.get("namespace", call.namespace) != call.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            meta["namespace"] = call.namespace
        if meta.get("resourceVersion"):
            raise plain_failure("resourceVersion should not be set on objects to be created")
        owned = meta.get("managedFields")
        applied = bool(owned) and call.verb == "patch"  # the owners are known already

        def own(written: dict[str, Any]) -> None:
            nonlocal owned
            if not applied:
                brought = {**written, "metadata": {**written["metadata"], "managedFields": owned}}
                owned = managed.updated(call.resource, None, brought, call.writer(asked.manager), now())

        admitted = begin_create(self.store, call.stored, new, own)
        admitted = await self._mutated(call, call.asked("CREATE", admitted, dry=asked.dry))
        self._guard(call, None, admitted)  # who may not write it is not told what else is wrong with it
        finish_create(self.store, call.stored, admitted, dry=asked.dry, written=call.resource)
        if owned:
            admitted["metadata"]["managedFields"] = owned
        said = review_pod_security(self.store, call.stored, None, admitted, call.subresource)
        name = admitted["metadata"]["name"]
        if (held := self.store.find(call.stored, call.namespace, name)) is not None:
            raise already_exists(call.resource, name, ending="deletionTimestamp" in held["metadata"])
        await self.gate.validate(call.asked("CREATE", admitted, dry=asked.dry))
        check_quota(self.store, call.stored, admitted)
        told = (*_warnings(found, call.stored, admitted, None), *said.warnings)
        if asked.dry:
            admitted["metadata"].setdefault("uid", str(uuid.uuid4()))
            admitted["metadata"]["creationTimestamp"] = now()
            return Reply(self.shown(call, admitted), 201, told, said.audit)
        self._check_room(admitted)
        try:
            made = self.store.create(call.stored, inward(call, admitted))
            return Reply(self.shown(call, made), 201, told, said.audit)
        except AlreadyExists:
            raise already_exists(call.resource, name) from None

    async def _mutated(self, call: Call, asked: Asked) -> dict[str, Any]:
        """Apply the mutating webhooks, and decode the result."""

        def again(new: dict[str, Any]) -> None:
            if asked.operation == "CREATE" and not asked.subresource:
                plug_in(self.store, call.stored, new)

        new = await self.gate.mutate(asked, again) or {}
        check_place(call.stored, call.namespace, new)
        if asked.operation == "UPDATE" and new["metadata"].get("name") != call.name:
            why = wrong("metadata.name", new["metadata"].get("name"), "field is immutable")
            raise invalid(call.resource, call.name, [why])
        return new

    def _check_room(self, new: Object, old: Object | None = None) -> None:
        """Refuse a write that grows the store beyond its quota, in etcd's words; shrinking is always allowed."""
        grows = len(orjson.dumps(new)) - (len(orjson.dumps(old)) if old is not None else 0)
        if grows > 0 and self.store.size + grows > QUOTA:
            raise StatusError(507, "etcdserver: mvcc: database space exceeded", reason="InsufficientStorage")

    async def _again(self, call: Call, attempt: Callable[[], Awaitable[Reply]]) -> Reply:
        """Repeat the step until the object did not change while webhooks ran."""
        for _ in range(_ATTEMPTS):
            try:
                return await attempt()
            except _Overtaken:
                continue
        raise conflict(call.resource, call.name)

    async def update(self, call: Call) -> Reply:
        return await self._again(call, lambda: self._update(call))

    async def _update(self, call: Call) -> Reply:
        asked = call.options()
        found = self._body(call, asked.strictness)
        meta = found.object["metadata"]
        _check_name(call, meta)
        if call.resource.namespaced and meta.get("namespace", call.namespace) != call.namespace:
            raise bad_request(
                f"the namespace of the object ({meta['namespace']}) does not match the namespace on the request "
                f"({call.namespace})"
            )
        made_so = call.resource.kind in _CREATED_BY_UPDATE and not call.subresource
        if made_so and self.store.find(call.stored, call.namespace, call.name) is None:
            return await self._create(call, found, asked)
        old = self.find(call)
        _read_version(meta)
        if not meta.get("resourceVersion") and _conditional(call.resource):
            why = wrong("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid_kind(call.resource.group, call.resource.plural, call.name, [why])
        return await self._store_update(call, old, found, asked)

    async def _store_update(self, call: Call, old: Object, found: decode.Decoded, asked: options.WriteOptions) -> Reply:
        new = found.object
        new["metadata"]["name"] = call.name
        if call.resource.namespaced:
            new["metadata"]["namespace"] = call.namespace
        about = call.asked("UPDATE", new, old, dry=asked.dry)
        if call.resource.custom is None:
            apply_defaults(call.stored.kind, new)
        owned = new["metadata"].get("managedFields")
        if call.content_type.partition(";")[0].strip() != APPLY:  # an apply knows its owners already
            owned = managed.updated(call.resource, outward(call, old), new, call.writer(asked.manager), now())
        if self.gate.concerns(about):
            new = await self._mutated(call, about)
            self._check_overtaken(call, old)
        self._guard(call, old, new)
        if call.resource is NAMESPACE and call.subresource == "finalize":
            admitted = copy(old)
            admitted["spec"] = {"finalizers": new.get("spec", {}).get("finalizers", [])}
        else:
            admitted = admit_update(
                self.store, call.stored, old, new, call.subresource, dry=asked.dry, written=call.resource
            )
        said = review_pod_security(self.store, call.stored, old, admitted, call.subresource)
        meta = admitted["metadata"]
        held = old["metadata"]
        meta.pop("managedFields", None)
        if owned:
            meta["managedFields"] = owned
        if _but_for_times(admitted) == _but_for_times(old) and "managedFields" in held:
            meta["managedFields"] = held["managedFields"]  # nothing is written: it was not now
        if meta.get("uid") not in (None, "", held["uid"]):
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {held['uid']}"
            raise conflict(call.resource, call.name, why)
        if meta.get("resourceVersion") not in (None, "", held["resourceVersion"]):
            raise conflict(call.resource, call.name)
        await self.gate.validate(call.asked("UPDATE", admitted, old, dry=asked.dry))
        self._check_overtaken(call, old)
        told = (*_warnings(found, call.stored, admitted, old), *said.warnings)
        if asked.dry:
            for name in ("uid", "resourceVersion", "creationTimestamp"):
                meta[name] = held[name]
            return Reply(self.shown(call, admitted), 200, told, said.audit)
        self._check_room(admitted, old)
        try:
            stored = self.store.update(call.stored, inward(call, admitted))
            return Reply(self.shown(call, stored), 200, told, said.audit)
        except Conflict:
            raise conflict(call.resource, call.name) from None
        except NotFound:
            raise not_found(call.resource, call.name) from None

    def _check_overtaken(self, call: Call, old: Object) -> None:
        if self.store.find(call.stored, call.namespace, call.name) is not old:
            raise _Overtaken

    async def patch(self, call: Call) -> Reply:
        return await self._again(call, lambda: self._patch(call))

    async def _patch(self, call: Call) -> Reply:
        kind = call.content_type.partition(";")[0].strip().lower()
        accepted = PATCH_TYPES if call.resource.custom is None else CUSTOM_PATCH_TYPES
        if kind not in accepted:
            if call.resource.custom is None:
                raise StatusError(415, "415: Unsupported Media Type")
            raise unsupported_media(kind, accepted)
        if kind == APPLY:
            refuse_listed(call.resource)
        asked = call.options(applying=kind == APPLY)
        patch = parsed(call.body, kind)
        if kind == APPLY:
            return await self._apply(call, patch, asked)
        old = self.find(call)
        shown = outward(call, old)
        patched = patched_object(call.resource, shown, kind, patch)
        found = self._stored_form(call, decoded_patch(call.resource, patched, asked.strictness))
        meta = found.object["metadata"]
        _check_name(call, meta)
        _read_version(meta)
        if call.resource.namespaced and meta.get("namespace", call.namespace) != call.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if meta.get("uid") not in (None, "", old["metadata"]["uid"]):  # a precondition of a PUT is a change here
            raise invalid(call.resource, call.name, [wrong("metadata.uid", meta["uid"], "field is immutable")] * 2)
        return await self._store_update(call, old, found, asked)

    async def _apply(self, call: Call, config: Any, asked: options.WriteOptions) -> Reply:
        """Server-side apply: the applied object may be partial; the result must be complete."""
        if isinstance(config, dict):
            refuse_other_type(call.resource, config)
        if call.resource.custom is not None:
            given = decode.Decoded(custom.applied(call.resource, config))
        else:
            given = decode.as_object(call.resource, config, strictness="Ignore")
            refuse_undeclared(call, config)
        refuse_repeated(call, config)
        decoded = self._stored_form(call, given)
        meta = decoded.object["metadata"]
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if "name" in meta:
            _check_name(call, meta)
        old = self.store.find(call.stored, call.namespace, call.name)
        if old is None and call.subresource:
            raise not_found(call.resource, call.name)
        if old is not None and meta.get("uid") not in (None, "", old["metadata"]["uid"]):
            raise invalid(call.resource, call.name, [wrong("metadata.uid", meta["uid"], "field is immutable")] * 2)
        merged = managed.applied(
            call.resource,
            old if old is None else outward(call, old),
            decoded.object,
            writer=call.writer(asked.manager, managed.APPLIED),
            force=asked.force,
            at=now(),
        )
        if call.resource.custom is not None:
            custom.complete(call.resource, merged)
        if old is None:
            merged["metadata"].setdefault("name", call.name)
            return await self._create(call, decode.Decoded(merged), asked)
        return await self._store_update(call, old, decode.Decoded(merged), asked)

    # ---- deleting

    async def delete(self, call: Call) -> Reply:
        asked = options.delete_options(call.query, call.body, call.content_type)
        old = self.find(call)
        await self._ask_deletion(call, old, asked)
        old = self.find(call)
        obj, gone = self._delete(call, old, asked)
        if gone and (call.resource.custom is not None or call.resource.kind not in _RETURNED):
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

    async def _ask_deletion(self, call: Call, old: Object | None, asked: options.DeleteOptions) -> None:
        about = replace(call.asked("DELETE", None, old, dry=asked.dry), options=asked.as_object())
        if old is not None and not call.name:  # one of many
            about = replace(about, name=old["metadata"]["name"], namespace=old["metadata"].get("namespace", ""))
        if self.gate.concerns(about):
            if old is None or call.name:
                await self.gate.mutate(about, lambda _: None)
            if old is not None:
                await self.gate.validate(about)

    def _delete(self, call: Call, old: Object, asked: options.DeleteOptions) -> tuple[Object, bool]:
        name = old["metadata"]["name"]
        check_preconditions(call.resource, old, asked)
        if call.resource is NAMESPACE and name in ("default", "kube-system", "kube-public"):
            raise forbidden(NAMESPACE, name, "this namespace may not be deleted")
        if asked.dry:
            return old, True
        try:
            return deletion.delete(
                self.store,
                call.stored,
                old["metadata"].get("namespace", ""),
                name,
                grace=asked.grace if call.resource is POD else None,
                propagation=asked.propagation,
                clock=self.clock,
            )
        except NotFound:
            raise not_found(call.resource, name) from None

    async def delete_collection(self, call: Call) -> Reply:
        asked = options.delete_options(call.query, call.body, call.content_type)
        options.check_list(call.query, watching=False)
        predicate = self.predicate(call)
        doomed = [
            obj for obj in self.store.list(call.stored, call.namespace or None) if predicate is None or predicate(obj)
        ]
        await self._ask_deletion(call, None, asked)
        for obj in doomed:
            await self._ask_deletion(call, obj, asked)
            if self.store.find(call.stored, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) is not None:
                self._delete(call, obj, asked)
        return Reply(
            {
                "kind": call.resource.list_kind,
                "apiVersion": call.resource.api_version,
                "metadata": {"resourceVersion": str(self.store.version)},
                "items": [
                    {k: v for k, v in outward(call, obj).items() if k not in ("kind", "apiVersion")} for obj in doomed
                ],
            }
        )


def _but_for_times(obj: Object) -> Object:
    """An object without the moments of its owners' writes."""
    meta = obj["metadata"]
    entries = [{key: value for key, value in one.items() if key != "time"} for one in meta.get("managedFields") or ()]
    rest = {key: value for key, value in meta.items() if key not in ("resourceVersion", "managedFields")}
    return {**obj, "metadata": {**rest, "managedFields": entries}}


_CREATED_BY_UPDATE: Final = (  # which a PUT makes where there is none
    "Endpoints",
    "Event",
    "Lease",
    "LimitRange",
    "PriorityClass",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Service",
)


def _check_name(call: Call, meta: Mapping[str, Any]) -> None:
    """Refuse an object with another name than the path's, or none."""
    if not meta.get("name"):
        raise bad_request(
            f"the name of the object ({call.name} based on URL) was undeterminable: name must be provided"
        )
    if meta["name"] != call.name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})")


def _read_version(meta: dict[str, Any]) -> None:
    """Read the precondition: no number is a failure, and 0 is none."""
    version = meta.get("resourceVersion", "")
    if version and not (version.isascii() and version.isdigit()):
        raise plain_failure(f'strconv.ParseUint: parsing "{version}": invalid syntax')
    if version == "0":
        del meta["resourceVersion"]


def _conditional(resource: Resource) -> bool:
    """Whether a kind is replaced only with a resourceVersion."""
    return resource.custom is not None or resource is CUSTOM_RESOURCE_DEFINITION or resource.kind in _CONDITIONAL


_CONDITIONAL: Final = (
    "Lease",
    "MutatingWebhookConfiguration",
    "PodDisruptionBudget",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
)


def refuse_listed(resource: Resource) -> None:
    """Raise StatusError 501 for a kind that this cluster only lists."""
    if (resource.group, resource.version, resource.plural) in discovery.listed():
        raise not_served(f"{resource.api_version} {resource.plural}: they can be listed, not created")


def check_preconditions(resource: Resource, old: Object, asked: options.DeleteOptions) -> None:
    """Raise StatusError 409 when a deletion's preconditions do not match the object."""
    meta = old["metadata"]
    kind = replace(resource, group="", plural=resource.kind)  # these messages name the kind, not the resource
    if asked.uid not in (None, meta["uid"]):
        why = (
            f"the UID in the precondition ({asked.uid}) does not match the UID in record ({meta['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(kind, meta["name"], why)
    if asked.resource_version not in (None, meta["resourceVersion"]):
        why = (
            f"the ResourceVersion in the precondition ({asked.resource_version}) does not match the ResourceVersion "
            f"in record ({meta['resourceVersion']}). The object might have been modified"
        )
        raise conflict(kind, meta["name"], why)


def _warnings(found: decode.Decoded, resource: Resource, new: Object, old: Object | None) -> tuple[str, ...]:
    return (*found.faults, *warnings.of(resource, new, old))


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def wants_table(accept: str) -> bool:
    return "as=Table" in accept.partition(",")[0] and "g=meta.k8s.io" in accept


def wants_metadata_list(accept: str) -> bool:
    return "as=PartialObjectMetadataList" in accept.partition(",")[0]


def wants_metadata(accept: str) -> bool:
    return "as=PartialObjectMetadata" in accept.partition(",")[0]
