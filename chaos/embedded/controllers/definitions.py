"""CustomResourceDefinitions: accept or refuse names, serve kinds, remove objects before their definition.

Combines the naming, establishing and finalizer controllers of k8s.io/apiextensions-apiserver in one pass. A kind's rows
are in the store's `kinds` from the moment its definition is Established.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api.custom import definitions
from chaos.embedded.api.custom.definitions import FINALIZER
from chaos.embedded.clock import stamp
from chaos.embedded.controllers.base import Controller, Keys, Source, is_terminating, itself, key_of
from chaos.embedded.resources import CUSTOM_RESOURCE_DEFINITION, Object, Resource
from chaos.embedded.store import Key, WatchEvent

_NAMES: Final = ("plural", "singular", "kind", "listKind")


class DefinitionController(Controller):
    name = "customresourcedefinition-controller"

    def sources(self) -> Sequence[Source]:
        return [(CUSTOM_RESOURCE_DEFINITION, self._and_its_group)]

    def source_of(self, resource: Resource) -> Source:
        return resource, lambda event: self._of_deleted(resource, event)

    def _and_its_group(self, event: WatchEvent) -> Keys:
        """Map a change to the definition, and to the rest of its group where it may have freed a name."""
        yield from itself(event)
        if event.type == "DELETED":
            group = event.object["spec"]["group"]
            for other in self.store.list(CUSTOM_RESOURCE_DEFINITION):
                if other["spec"]["group"] == group:
                    yield key_of(other)

    def _of_deleted(self, resource: Resource, event: WatchEvent) -> Keys:
        """Map an object's deletion to its definition, which may wait for it."""
        return [("", f"{resource.plural}.{resource.group}")] if event.type == "DELETED" else []

    def reconcile(self, key: Key) -> float | None:
        definition = self.store.find(CUSTOM_RESOURCE_DEFINITION, *key)
        if definition is None:
            self.store.kinds.forget(key[1])
        elif is_terminating(definition):
            self._end(definition)
        elif FINALIZER not in definition["metadata"].get("finalizers", ()):
            self._add_finalizer(definition)
        else:
            definition = self._name(definition)
            if definitions.established(definition):
                self.store.kinds.define(key[1], definitions.rows(definition))
        return None

    # ---- names

    def _name(self, definition: Object) -> Object:
        """Accept the requested names that are free, and establish the kind when all are."""
        wanted, status = definition["spec"]["names"], definition.get("status") or {}
        accepted, problem = accept(wanted, status.get("acceptedNames") or {}, *self._taken(definition))
        conditions = [dict(one) for one in status.get("conditions") or ()]
        at = stamp(self.clock.now())
        if problem is None:
            _set(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", at)
        else:
            _set(conditions, "NamesAccepted", "False", *problem, at)
        if not definitions.established(definition):
            if problem is None:
                why = "the initial names have been accepted"
                _set(conditions, "Established", "True", "InitialNamesAccepted", why, at)
            else:
                _set(conditions, "Established", "False", "NotAccepted", "not all names are accepted", at)
        return self.set_status(
            CUSTOM_RESOURCE_DEFINITION, definition, {**status, "acceptedNames": accepted, "conditions": conditions}
        )

    def _taken(self, definition: Object) -> tuple[set[str], set[str]]:
        """(resource names, kind names) of the group's other definitions."""
        resources: set[str] = set()
        kinds: set[str] = set()
        for other in self.store.list(CUSTOM_RESOURCE_DEFINITION):
            if other["spec"]["group"] != definition["spec"]["group"] or key_of(other) == key_of(definition):
                continue
            names = (other.get("status") or {}).get("acceptedNames") or {}
            resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
            kinds |= {names.get("kind", ""), names.get("listKind", "")}
        return resources - {""}, kinds - {""}

    def _add_finalizer(self, definition: Object) -> None:
        self.store.mutate(
            CUSTOM_RESOURCE_DEFINITION,
            *key_of(definition),
            lambda new: new["metadata"].__setitem__("finalizers", [*new["metadata"].get("finalizers", ()), FINALIZER]),
        )

    # ---- the end

    def _end(self, definition: Object) -> None:
        """Delete the kind's objects, and release the definition when none is left."""
        if FINALIZER not in definition["metadata"].get("finalizers", ()):
            return
        self._set_terminating(definition)
        if definitions.established(definition):
            self.store.kinds.define(definition["metadata"]["name"], definitions.rows(definition))  # no more to create
            for resource, obj in list(self._instances(definition)):
                if not is_terminating(obj):
                    self.delete(resource, obj)
            if any(True for _ in self._instances(definition)):
                return  # finalizers hold some: each that goes asks for another look
        self.store.mutate(
            CUSTOM_RESOURCE_DEFINITION,
            *key_of(definition),
            lambda new: new["metadata"].__setitem__(
                "finalizers", [one for one in new["metadata"].get("finalizers", ()) if one != FINALIZER]
            ),
        )

    def _instances(self, definition: Object) -> Iterator[tuple[Resource, Object]]:
        for resource in definitions.rows(definition)[:1]:
            for obj in self.store.list(resource):
                yield resource, obj

    def _set_terminating(self, definition: Object) -> None:
        held = definition.get("status") or {}
        conditions = [dict(one) for one in held.get("conditions") or ()]
        why = "CustomResource deletion is in progress"
        _set(conditions, "Terminating", "True", "InstanceDeletionInProgress", why, stamp(self.clock.now()))
        self.set_status(CUSTOM_RESOURCE_DEFINITION, definition, {**held, "conditions": conditions})


def accept(
    wanted: Mapping[str, Any], held: Mapping[str, Any], resources: set[str], kinds: set[str]
) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """(the accepted names, (reason, message) of a refusal or None)."""
    accepted = dict(held)
    problem: tuple[str, str] | None = None
    for name in _NAMES:
        taken = kinds if name in ("kind", "listKind") else resources
        if wanted.get(name) != held.get(name) and wanted.get(name) in taken:
            problem = f"{name[:1].upper()}{name[1:]}Conflict", f'"{wanted[name]}" is already in use'
        else:
            accepted[name] = wanted.get(name)
        if name == "singular":
            used = [one for one in wanted.get("shortNames") or () if one in resources]
            fresh = [one for one in used if one not in (held.get("shortNames") or ())]
            if fresh:
                told = [f'"{one}" is already in use' for one in fresh]
                problem = "ShortNamesConflict", told[0] if len(told) == 1 else f"[{', '.join(told)}]"
            else:
                accepted["shortNames"] = wanted.get("shortNames")
    accepted["categories"] = wanted.get("categories")
    return {name: value for name, value in accepted.items() if value}, problem


def _set(conditions: list[dict[str, Any]], kind: str, status: str, reason: str, message: str, at: str) -> None:
    """Set a condition; its time is its last transition's."""
    new = {"lastTransitionTime": at, "message": message, "reason": reason, "status": status, "type": kind}
    for index, held in enumerate(conditions):
        if held["type"] == kind:
            if held["status"] == status:
                new["lastTransitionTime"] = held.get("lastTransitionTime", at)
            conditions[index] = new
            return
    conditions.append(new)
