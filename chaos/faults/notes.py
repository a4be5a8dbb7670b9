"""Notes a fault's receipt on the object whose value it changes, so that a lost receipt does not lose the value.

A fault that overwrites what stood there before (a limit, a number of replicas, a template, schedulability) notes its
receipt in an annotation before that, and takes the annotation away once the value is back. Whoever finds a note whose
receipt is not in the cluster stores that receipt again and undoes it, and nobody takes a value under a note for an
original. A label lets the API server pick the objects that carry one.

Whoever may write the object may write a note, so a note is believed of its own object and of the faults that note
alone, and by operators' commands and new runs alone: the watchdog acts on receipts, which tenants cannot write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.errors import Forbidden, Misuse, NotFound
from chaos.faults.model import Receipt, Target
from chaos.faults.receipts import UnreadableReceipt, read_receipt
from chaos.kube.client import Cluster, Object
from chaos.names import GROUP

LABEL_FAULTED: Final = f"{GROUP}/faulted"
_PREFIX: Final = f"{GROUP}/fault-"
_NOTING: Final = frozenset({"throttle", "scale", "upgrade", "drain"})  # the faults that note
_KINDS: Final = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "Node")


def kind_of(target: Target) -> str:
    """Return the Kubernetes kind of the object that a note of this target is on. Pure."""
    return {"node": "Node", "workload": target.workload_kind}.get(target.kind, "Pod")


def patch_with(receipt: Receipt) -> Object:
    """Return the metadata patch that notes a receipt: apply it before, or with, the change itself. Pure."""
    return {
        "annotations": {_PREFIX + receipt.id: json.dumps(receipt.to_json(), sort_keys=True)},
        "labels": {LABEL_FAULTED: "true"},
    }


def patch_without(receipt: Receipt, obj: Mapping[str, Any]) -> Object:
    """Return the metadata of a merge patch of `obj` that removes this receipt's note. Pure."""
    others = [key for key in _keys(obj) if key != _PREFIX + receipt.id]
    labels = {} if others else {"labels": {LABEL_FAULTED: None}}
    return {"annotations": {_PREFIX + receipt.id: None}, **labels}


def json_patch(metadata: Object, obj: Mapping[str, Any]) -> list[Object]:
    """Return the same change of an object's metadata as operations of a JSON patch. Pure."""
    steps: list[Object] = []
    for part, values in metadata.items():
        there = obj["metadata"].get(part)
        if there is None:
            steps.append({"op": "add", "path": f"/metadata/{part}", "value": {}})
        for key, value in values.items():
            path = f"/metadata/{part}/{key.replace('~', '~0').replace('/', '~1')}"
            if value is not None:
                steps.append({"op": "add", "path": path, "value": value})
            elif key in (there or {}):
                steps.append({"op": "remove", "path": path})
    return steps


def noted_on(obj: Mapping[str, Any]) -> Iterator[Receipt | UnreadableReceipt]:
    """Return the receipts that are noted on an object.

    But for those of another object, and those that came without the label: a Deployment's annotations are copied to its
    ReplicaSets, and come back with a roll-back.
    """
    if LABEL_FAULTED not in (obj["metadata"].get("labels") or {}):
        return
    for key in _keys(obj):
        found = read_receipt(key.removeprefix(_PREFIX), obj["metadata"]["annotations"][key], where=_name(obj))
        if isinstance(found, UnreadableReceipt) or (found.fault in _NOTING and _is_target(found.target, obj)):
            yield found


def refuse_noted(obj: Mapping[str, Any], target: Target) -> None:
    """Raise Misuse when what a fault would take for the original of `target` is another fault's change."""
    for found in noted_on(obj):
        if isinstance(found, UnreadableReceipt):
            raise Misuse(f"{target} carries a note of a fault that cannot be read: {found}")
        if found.target.kind != "container" or found.target.container == target.container:
            raise Misuse(
                f"{target} is changed by {found.fault} already ({found.holder}): what stands there now is not its own. "
                "Wait for it, or undo it with `sharedfate stop`, also when its receipt was lost"
            )


def is_noted(cluster: Cluster, receipt: Receipt) -> bool:
    """Whether the receipt is still noted on its object, so that its change was not undone."""
    target = receipt.target
    try:
        obj = cluster.find(kind_of(target), target.name, target.namespace or None)
    except Forbidden:
        return False  # who may not read the object has not changed it
    return obj is not None and any(
        isinstance(found, Receipt) and found.id == receipt.id for found in noted_on({"kind": kind_of(target), **obj})
    )


def all_noted(cluster: Cluster) -> list[Receipt | UnreadableReceipt]:
    """Return every note in the cluster, as far as objects may be listed; newest last."""
    found: list[Receipt | UnreadableReceipt] = []
    for kind in _KINDS:
        try:
            for obj in cluster.list(kind, labels=LABEL_FAULTED):
                found += noted_on(obj)
        except (Forbidden, NotFound):
            continue  # a user of a few namespaces: a fault of his on such a kind was refused as well
    return sorted(found, key=lambda one: one.id)


def _keys(obj: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in obj["metadata"].get("annotations") or {} if key.startswith(_PREFIX))


def _is_target(target: Target, obj: Mapping[str, Any]) -> bool:
    meta = obj["metadata"]
    same = (obj.get("kind", kind_of(target)), meta["name"]) == (kind_of(target), target.name)
    return same and meta.get("namespace", "") == target.namespace and target.uid in ("", meta["uid"])


def _name(obj: Mapping[str, Any]) -> str:
    meta = obj["metadata"]
    return "/".join(filter(None, (obj.get("kind", ""), meta.get("namespace", ""), meta["name"])))
