"""Receipts in the cluster: one ConfigMap each, in the system namespace, stored before the first effect.

The runner, a restarted runner and the watchdog read the same ones; whoever finds one overdue undoes it. One that cannot
be read is told of, and hides none of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from chaos.errors import EnvironmentUnfit, Misuse, NotFound
from chaos.faults.model import Receipt
from chaos.kube.client import Cluster
from chaos.names import GROUP, LABEL_RUN, SYSTEM_NAMESPACE

LABEL_RECEIPT: Final = f"{GROUP}/receipt"


@dataclass(frozen=True, slots=True)
class UnreadableReceipt:
    """A receipt that holds nothing to undo: changed by hand, cut off, or of another release."""

    id: str
    where: str  # the object that holds it
    why: str

    def __str__(self) -> str:
        return (
            f"the receipt in {self.where} cannot be read ({self.why}): what it broke is not known. Look at it, mend "
            "that by hand, then delete it"
        )


def store(cluster: Cluster, receipt: Receipt) -> str:
    """Store a new receipt, and return its version; raises ApiError when it cannot be stored, and EnvironmentUnfit where
    there is no namespace for it: then inject nothing.
    """
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _name(receipt.id),
            "namespace": SYSTEM_NAMESPACE,
            "labels": {LABEL_RUN: receipt.run, LABEL_RECEIPT: receipt.fault},
        },
        "data": {"receipt": json.dumps(receipt.to_json())},
    }
    try:
        stored = cluster.create(made, unique=True)
    except NotFound as error:
        raise EnvironmentUnfit(
            f"no namespace {SYSTEM_NAMESPACE} in this cluster, where receipts and the watchdog are, which undo a fault "
            "when we cannot: nothing was changed. Apply what `sharedfate render --mode MODE` prints first (mode none: "
            "without a proxy)"
        ) from error
    version: str = stored["metadata"]["resourceVersion"]
    return version


def update(cluster: Cluster, receipt: Receipt, **changes: Any) -> Receipt:
    """Store and return the receipt with changed fields."""
    changed = replace(receipt, **changes)
    patch = {"data": {"receipt": json.dumps(changed.to_json())}}
    cluster.patch("ConfigMap", _name(receipt.id), patch, SYSTEM_NAMESPACE)
    return changed


def close(cluster: Cluster, receipt: Receipt) -> None:
    """Delete the receipt of a fault that is undone."""
    cluster.delete("ConfigMap", _name(receipt.id), SYSTEM_NAMESPACE)


def is_open(cluster: Cluster, receipt: Receipt) -> bool:
    """Whether the receipt is still there: whoever undoes the fault deletes it."""
    return cluster.find("ConfigMap", _name(receipt.id), SYSTEM_NAMESPACE) is not None


def look(cluster: Cluster, run: str | None = None) -> list[tuple[Receipt | UnreadableReceipt, str]]:
    """Return all open receipts, of one run or (None) of all, newest last, each with its version."""
    labels = LABEL_RECEIPT if run is None else f"{LABEL_RECEIPT},{LABEL_RUN}={run}"
    found = []
    for item in cluster.list("ConfigMap", SYSTEM_NAMESPACE, labels=labels):
        name = item["metadata"]["name"]
        text = (item.get("data") or {}).get("receipt", "")
        read = read_receipt(name.removeprefix(_name("")), text, where=f"ConfigMap {SYSTEM_NAMESPACE}/{name}")
        found.append((read, item["metadata"]["resourceVersion"]))
    return sorted(found, key=lambda one: one[0].id)


def open_receipts(cluster: Cluster, run: str | None = None) -> list[Receipt]:
    """Return those receipts of `look` that can be read."""
    return [found for found, _ in look(cluster, run) if isinstance(found, Receipt)]


def read_receipt(receipt_id: str, text: str, *, where: str) -> Receipt | UnreadableReceipt:
    """Parse a stored receipt, which must have that id."""
    try:
        data = json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_number)
        json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair names nothing
        if not isinstance(data, Mapping):
            raise Misuse(f"it is a {type(data).__name__}, want an object")
        receipt = Receipt.from_json(data)
        if receipt.id != receipt_id:
            raise Misuse(f"it says that its id is {receipt.id!r}")
    except (Misuse, ValueError, RecursionError) as error:
        return UnreadableReceipt(receipt_id, where, " ".join(str(error).split())[:200] or type(error).__name__)
    return receipt


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Misuse("it has a key twice")
    return found


def _no_number(text: str) -> float:
    raise Misuse(f"it holds {text}")


def _name(receipt_id: str) -> str:
    return f"receipt-{receipt_id}"
