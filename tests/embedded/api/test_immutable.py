"""What an update may not change: a row for each kind of object, with the field that is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chaos.embedded.api.immutable import immutable_changes

Object = dict[str, Any]
SELECTOR = {"matchLabels": {"app": "a"}}
ROWS: list[tuple[str, Object, tuple[str, ...], Any]] = [
    (
        "Deployment",
        {"spec": {"selector": SELECTOR, "replicas": 1}},
        ("spec", "selector"),
        {"matchLabels": {"app": "b"}},
    ),
    ("ReplicaSet", {"spec": {"selector": SELECTOR}}, ("spec", "selector"), {"matchLabels": {"app": "b"}}),
    ("DaemonSet", {"spec": {"selector": SELECTOR}}, ("spec", "selector"), None),
    ("EndpointSlice", {"addressType": "IPv4"}, ("addressType",), "IPv6"),
    ("Secret", {"type": "Opaque"}, ("type",), "kubernetes.io/tls"),
]


def changed(obj: Object, path: tuple[str, ...], value: Any) -> Object:
    new = copy.deepcopy(obj)
    inner = new
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return new


@pytest.mark.parametrize(("kind", "old", "path", "value"), ROWS, ids=[row[0] for row in ROWS])
def test_a_field_that_is_fixed_is_named_once_and_only_when_it_changed(
    kind: str, old: Object, path: tuple[str, ...], value: Any
) -> None:
    causes = list(immutable_changes(kind, old, changed(old, path, value)))
    assert [cause.field for cause in causes] == [".".join(path)]
    assert list(immutable_changes(kind, old, copy.deepcopy(old))) == []


def test_what_is_free_may_change() -> None:
    old: Object = {"spec": {"selector": SELECTOR, "replicas": 1}}
    assert list(immutable_changes("Deployment", old, changed(old, ("spec", "replicas"), 5))) == []
    assert list(immutable_changes("StatefulSet", old, changed(old, ("spec", "replicas"), 5))) == []


def test_a_stateful_sets_service_may_not_change() -> None:
    old: Object = {"spec": {"selector": SELECTOR, "serviceName": "a", "replicas": 1}}
    (cause,) = immutable_changes("StatefulSet", old, changed(old, ("spec", "serviceName"), "b"))
    assert "are forbidden" in str(cause)
