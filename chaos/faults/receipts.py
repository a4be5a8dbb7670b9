"""Receipts in the cluster: one ConfigMap each, in the system namespace, stored before the first effect.

The runner, a restarted runner and the watchdog read the same ones; whoever finds one overdue undoes it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from chaos.faults.model import Receipt
from chaos.kube.client import Cluster
from chaos.names import GROUP, LABEL_RUN, SYSTEM_NAMESPACE

LABEL_RECEIPT: Final = f"{GROUP}/receipt"


def store(cluster: Cluster, receipt: Receipt) -> None:
    """Store a new receipt; raises ApiError when it cannot be stored, and then nothing may be injected."""
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": _name(receipt.id),
                "namespace": SYSTEM_NAMESPACE,
                "labels": {LABEL_RUN: receipt.run, LABEL_RECEIPT: receipt.fault},
            },
            "data": {"receipt": json.dumps(receipt.to_json())},
        },
        unique=True,
    )


def update(cluster: Cluster, receipt: Receipt, **changes: Any) -> Receipt:
    """Store and return the receipt with changed fields."""
    changed = replace(receipt, **changes)
    patch = {"data": {"receipt": json.dumps(changed.to_json())}}
    cluster.patch("ConfigMap", _name(receipt.id), patch, SYSTEM_NAMESPACE)
    return changed


def close(cluster: Cluster, receipt: Receipt) -> None:
    """Take a receipt whose fault is undone out of the cluster."""
    cluster.delete("ConfigMap", _name(receipt.id), SYSTEM_NAMESPACE)


def is_open(cluster: Cluster, receipt: Receipt) -> bool:
    """Whether the receipt is still there: whoever undid the fault took it away."""
    return cluster.find("ConfigMap", _name(receipt.id), SYSTEM_NAMESPACE) is not None


def open_receipts(cluster: Cluster, run: str | None = None) -> list[Receipt]:
    """All receipts that are not closed, of one run or (None) of all, the newest last."""
    labels = LABEL_RECEIPT if run is None else f"{LABEL_RECEIPT},{LABEL_RUN}={run}"
    found = [
        Receipt.from_json(json.loads(item["data"]["receipt"]))
        for item in cluster.list("ConfigMap", SYSTEM_NAMESPACE, labels=labels)
    ]
    return sorted(found, key=lambda receipt: receipt.id)


def _name(receipt_id: str) -> str:
    return f"receipt-{receipt_id}"
