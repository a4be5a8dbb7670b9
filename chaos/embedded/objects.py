"""What every part of the embedded cluster reads in an object: its conditions, and where a kind has its pods' template.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from chaos.embedded.clock import parse_time
from chaos.embedded.resources import Object

TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {  # kind -> path of what has a pod's metadata and spec
    "Pod": (),
    **dict.fromkeys(("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def condition(obj: Object, type: str) -> Mapping[str, Any] | None:
    """The object's condition of that type, or None."""
    for entry in (obj.get("status") or {}).get("conditions") or ():
        if entry.get("type") == type:
            return entry  # type: ignore[no-any-return]
    return None


def true_condition(obj: Object, type: str) -> Mapping[str, Any] | None:
    """The object's condition of that type if its status is True, or None."""
    found = condition(obj, type)
    return found if found is not None and found.get("status") == "True" else None


def is_true(obj: Object, type: str) -> bool:
    """Whether the object's condition of that type is True."""
    return true_condition(obj, type) is not None


def turned_at(entry: Mapping[str, Any]) -> datetime | None:
    """The last transition of a condition; None when its writer omitted it, as the API permits."""
    text = entry.get("lastTransitionTime")
    return parse_time(text) if text else None
