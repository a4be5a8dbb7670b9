"""Restarts that nobody expected are found by comparing container states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from chaos.engine.restarts import apart, compare_restarts, container_snapshot
from chaos.kube.client import Cluster
from chaos.kube.objects import ContainerSeen
from chaos.names import LABEL_ROLE, SYSTEM_NAMESPACE


def state(
    *, container_id: str = "c1", restarts: int = 0, namespace: str = "tenant-a", container: str = "server"
) -> ContainerSeen:
    return ContainerSeen(
        namespace,
        "server-1",
        "u",
        "n1",
        container,
        False,
        "running",
        "",
        None,
        None,
        restarts,
        container_id,
        True,
        "",
        None,
    )


def test_an_application_container_that_restarted_is_named() -> None:
    problems = compare_restarts({("u", "server"): state()}, {("u", "server"): state(container_id="c2", restarts=1)})
    assert problems == ["tenant-a/server-1[server] restarted (0 -> 1)"]


def test_a_pod_that_went_is_named() -> None:
    assert compare_restarts({("u", "server"): state()}, {}) == ["tenant-a/server-1[server] is gone"]


def test_a_pod_that_still_ends_is_as_good_as_gone() -> None:
    """A Deployment is rolled out while its old pods still end."""
    status = {"containerStatuses": [{"name": "server", "containerID": "c1", "restartCount": 0}]}
    pods = [
        {
            "metadata": {
                "uid": "old",
                "name": "a",
                "namespace": "tenant-a",
                "deletionTimestamp": "2026-01-01T00:00:05Z",
            },
            "status": status,
        },
        {"metadata": {"uid": "new", "name": "b", "namespace": "tenant-a"}, "spec": {}, "status": status},
    ]
    cluster = SimpleNamespace(list=lambda kind, namespace: pods)
    assert set(container_snapshot(cast(Cluster, cluster), ["tenant-a"])) == {("new", "server")}


def test_the_restart_of_the_target_itself_is_expected() -> None:
    before, after = {("u", "server"): state()}, {("u", "server"): state(container_id="c2", restarts=1)}
    assert compare_restarts(before, after, excused=[("u", "server")]) == []


def test_nothing_changed_is_no_problem() -> None:
    assert compare_restarts({("u", "server"): state()}, {("u", "server"): state()}) == []


@pytest.mark.parametrize(("namespace", "seen"), [(SYSTEM_NAMESPACE, set()), ("tenant-a", {("h", "helper")})])
def test_a_helper_of_ours_may_begin_within_a_trial_and_a_tenants_pod_with_its_label_may_not(
    namespace: str, seen: set[tuple[str, str]]
) -> None:
    meta = {"uid": "h", "name": "helper-meter-1", "namespace": namespace, "labels": {LABEL_ROLE: "helper"}}
    status = {"containerStatuses": [{"name": "helper", "restartCount": 0}]}
    cluster = SimpleNamespace(list=lambda kind, of: [{"metadata": meta, "spec": {}, "status": status}])
    assert set(container_snapshot(cast(Cluster, cluster), [namespace])) == seen


@pytest.mark.parametrize(
    ("namespace", "container", "ours"),
    [
        (SYSTEM_NAMESPACE, "watchdog", True),
        (SYSTEM_NAMESPACE, "proxy", False),
        (SYSTEM_NAMESPACE, "control-plane", False),
        ("tenant-a", "watchdog", False),
    ],
)
def test_a_watchdog_of_ours_is_told_from_what_is_tried(namespace: str, container: str, ours: bool) -> None:
    whole = {("u", container): state(namespace=namespace, container=container)}
    assert apart(whole) == (({}, whole) if ours else (whole, {}))
