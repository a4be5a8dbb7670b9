"""The same Event in its two API groups: core v1, as it is stored, and events.k8s.io/v1. Pure; called by rest."""

from __future__ import annotations

from typing import Any, Final

from chaos.embedded.resources import Object

_NAMES: Final = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("count", "deprecatedCount"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("reportingComponent", "reportingController"),
)


def to_events_group(event: Object) -> dict[str, Any]:
    names = dict(_NAMES)
    return {names.get(key, key): value for key, value in event.items()} | {"apiVersion": "events.k8s.io/v1"}


def from_events_group(event: Object) -> dict[str, Any]:
    names = {new: old for old, new in _NAMES}
    return {names.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}
