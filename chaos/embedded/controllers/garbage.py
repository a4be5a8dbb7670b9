"""The garbage collector: delete dependents with their owner (background, foreground, orphan)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from chaos.embedded.clock import Clock
from chaos.embedded.controllers.base import Controller, Keys, Source, is_terminating
from chaos.embedded.deletion import FOREGROUND, ORPHAN
from chaos.embedded.resources import EVENT, RESOURCES, Object, Resource
from chaos.embedded.store import Key, Store, WatchEvent

_WATCHED: Final = tuple(resource for resource in RESOURCES if resource is not EVENT)
_BY_KIND: Final = {(resource.api_version, resource.kind): resource for resource in _WATCHED}


def identity(resource: Resource, obj: Object) -> Key:
    """The queue key of an object of any kind."""
    meta = obj["metadata"]
    return f"{resource.group}/{resource.plural}", f"{meta.get('namespace', '')}/{meta['name']}"


class GarbageCollector(Controller):
    name = "garbage-collector"

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._dependents: dict[str, set[Key]] = {}  # owner's UID -> identities

    def sources(self) -> Sequence[Source]:
        return [(resource, partial(self._concerned, resource)) for resource in _WATCHED]

    def source_of(self, resource: Resource) -> Source:
        return resource, partial(self._concerned, resource)

    def _kinds(self) -> list[Resource]:
        return [resource for resource in self.store.kinds.stored() if resource is not EVENT]

    def _concerned(self, resource: Resource, event: WatchEvent) -> Keys:
        obj = event.object
        meta = obj["metadata"]
        me = identity(resource, obj)
        before = event.before["metadata"].get("ownerReferences", []) if event.before is not None else []
        now = meta.get("ownerReferences", []) if event.type != "DELETED" else []
        for ref in before:
            self._forget(ref["uid"], me)
        for ref in now:
            self._dependents.setdefault(ref["uid"], set()).add(me)
        keys: list[Key] = []
        if event.type == "DELETED":
            keys += self._dependents.pop(meta["uid"], ())
            keys += [owner for ref in before if (owner := self._owner_key(ref, meta)) is not None]  # it may wait for us
        elif now or {FOREGROUND, ORPHAN} & set(meta.get("finalizers", ())):
            keys.append(me)
        return keys

    def _forget(self, uid: str, me: Key) -> None:
        held = self._dependents.get(uid)
        if held is not None:
            held.discard(me)
            if not held:
                del self._dependents[uid]

    def _owner_key(self, ref: Mapping[str, Any], meta: Mapping[str, Any]) -> Key | None:
        named = ref["apiVersion"], ref["kind"]
        resource = _BY_KIND.get(named) or self.store.kinds.by_kind(*named)
        if resource is None:
            return None
        return (
            f"{resource.group}/{resource.plural}",
            f"{meta.get('namespace', '') if resource.namespaced else ''}/{ref['name']}",
        )

    def _find(self, key: Key) -> tuple[Resource, Object] | None:
        resource = next((one for one in self._kinds() if f"{one.group}/{one.plural}" == key[0]), None)
        if resource is None:
            return None
        namespace, _, name = key[1].partition("/")
        obj = self.store.find(resource, namespace, name)
        return None if obj is None else (resource, obj)

    def reconcile(self, key: Key) -> float | None:
        found = self._find(key)
        if found is None:
            return None
        resource, obj = found
        finalizers = obj["metadata"].get("finalizers", [])
        if is_terminating(obj) and ORPHAN in finalizers:
            self._orphan(obj)
            self._unpin(resource, obj, ORPHAN)
        elif is_terminating(obj) and FOREGROUND in finalizers:
            self._foreground(resource, obj)
        elif not is_terminating(obj):
            self._if_ownerless(resource, obj)
        return None

    def _if_ownerless(self, resource: Resource, obj: Object) -> None:
        """Delete an object whose owners are all gone; remove references to missing owners."""
        references = obj["metadata"].get("ownerReferences", [])
        alive = [ref for ref in references if self._exists(ref, obj)]
        if not references or len(alive) == len(references):
            return
        if alive:
            self._change(resource, obj, lambda new: new["metadata"].__setitem__("ownerReferences", alive))
        else:
            self.delete(resource, obj, propagation="Background")

    def _exists(self, ref: Mapping[str, Any], dependent: Object) -> bool:
        """Whether an owner exists; one of an unserved kind counts as alive: nothing is deleted on a guess."""
        key = self._owner_key(ref, dependent["metadata"])
        if key is None:
            return True
        found = self._find(key)
        return found is not None and found[1]["metadata"]["uid"] == ref["uid"]

    def _dependents_of(self, obj: Object) -> Iterator[tuple[Resource, Object, Mapping[str, Any]]]:
        uid = obj["metadata"]["uid"]
        for resource in self._kinds():  # a scan, because the index may lag behind the store
            for other in self.store.list(resource, obj["metadata"].get("namespace")):
                for ref in other["metadata"].get("ownerReferences", ()):
                    if ref["uid"] == uid:
                        yield resource, other, ref

    def _orphan(self, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        for resource, other, _ in list(self._dependents_of(obj)):
            self._change(resource, other, lambda new: _drop_reference(new, uid))

    def _foreground(self, resource: Resource, obj: Object) -> None:
        waiting = False
        for kind, other, ref in list(self._dependents_of(obj)):
            if not is_terminating(other):
                self.delete(
                    kind,
                    other,
                    propagation="Foreground" if self._dependents.get(other["metadata"]["uid"]) else "Background",
                )
            current = self._find(identity(kind, other))
            waiting |= (
                bool(ref.get("blockOwnerDeletion"))
                and current is not None
                and current[1]["metadata"]["uid"] == other["metadata"]["uid"]
            )
        if not waiting:
            self._unpin(resource, obj, FOREGROUND)

    def _unpin(self, resource: Resource, obj: Object, finalizer: str) -> None:
        self._change(
            resource,
            obj,
            lambda new: new["metadata"].__setitem__(
                "finalizers", [name for name in new["metadata"].get("finalizers", []) if name != finalizer]
            ),
        )

    def _change(self, resource: Resource, obj: Object, change: Any) -> None:
        meta = obj["metadata"]
        self.store.mutate(resource, meta.get("namespace", ""), meta["name"], change, uid=meta["uid"])


def _drop_reference(obj: dict[str, Any], uid: str) -> None:
    kept = [ref for ref in obj["metadata"].get("ownerReferences", []) if ref["uid"] != uid]
    if kept:
        obj["metadata"]["ownerReferences"] = kept
    else:
        obj["metadata"].pop("ownerReferences", None)
