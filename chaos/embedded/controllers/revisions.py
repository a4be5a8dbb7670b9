"""ControllerRevisions: the recorded templates of DaemonSets and StatefulSets, numbered, for rollback."""

from __future__ import annotations

from typing import Any, Final

from chaos.embedded.controllers.base import controller_of, owner_reference, safe_hash
from chaos.embedded.deletion import delete
from chaos.embedded.resources import CONTROLLER_REVISION, POD, STATEFUL_SET, Object, Resource
from chaos.embedded.store import Store

REVISION_HASH: Final = "controller-revision-hash"


def revisions_of(store: Store, owner: Object) -> list[Object]:
    """The owner's revisions, oldest first."""
    meta = owner["metadata"]
    found = [
        one
        for one in store.list(CONTROLLER_REVISION, meta["namespace"])
        if (controller_of(one) or {}).get("uid") == meta["uid"]
    ]
    return sorted(found, key=lambda one: one["revision"])


def current_revision(store: Store, resource: Resource, owner: Object) -> Object:
    """The revision of the owner's present template: created, or renumbered as the newest when the template returns."""
    data = {"spec": {"template": owner["spec"]["template"] | {"$patch": "replace"}}}
    revisions = revisions_of(store, owner)
    newest = revisions[-1]["revision"] if revisions else 0
    for one in reversed(revisions):
        if one["data"] == data:
            if one["revision"] == newest:
                return one
            return store.mutate(
                CONTROLLER_REVISION,
                one["metadata"]["namespace"],
                one["metadata"]["name"],
                lambda new: new.__setitem__("revision", newest + 1),
            )
    meta = owner["metadata"]
    digest = safe_hash(data)
    collisions = 0
    while store.find(CONTROLLER_REVISION, meta["namespace"], f"{meta['name']}-{digest}") is not None:
        collisions += 1
        digest = safe_hash(data, collisions)
    name = f"{meta['name']}-{digest}"
    # a StatefulSet's pods carry the revision's whole name, a DaemonSet's the bare hash
    label = name if resource is STATEFUL_SET else digest
    new: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "ownerReferences": [owner_reference(resource, owner)],
            "labels": {**owner["spec"]["template"].get("metadata", {}).get("labels", {}), REVISION_HASH: label},
        },
        "data": data,
        "revision": newest + 1,
    }
    created = store.create(CONTROLLER_REVISION, new)
    prune(store, owner, created)
    return created


def prune(store: Store, owner: Object, current: Object) -> None:
    """Delete the oldest unused revisions beyond the owner's history limit."""
    meta = owner["metadata"]
    in_use = {
        pod["metadata"].get("labels", {}).get(REVISION_HASH)
        for pod in store.list(POD, meta["namespace"])
        if (controller_of(pod) or {}).get("uid") == meta["uid"]
    }
    in_use.add(current["metadata"]["labels"][REVISION_HASH])
    for field in ("currentRevision", "updateRevision"):
        in_use.add(owner.get("status", {}).get(field))
    idle = [one for one in revisions_of(store, owner) if one["metadata"]["labels"][REVISION_HASH] not in in_use]
    for one in idle[: max(0, len(idle) - owner["spec"].get("revisionHistoryLimit", 10))]:
        delete(store, CONTROLLER_REVISION, meta["namespace"], one["metadata"]["name"])
