"""Watches: from a version, with selectors, bookmarks, and 410."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from typing import Any

import pytest

from chaos.embedded import store as stores
from chaos.errors import ApiError
from chaos.kube.client import Cluster, WatchEvent
from tests.embedded.api.conftest import World, config_map, pod

pytestmark = pytest.mark.live


def collect(
    cluster: Cluster, namespace: str, since: str, count: int, kind: str = "ConfigMap", **options: str
) -> list[WatchEvent]:
    found = []
    for change in cluster.watch(kind, namespace, since=since, seconds=20, **options):
        if change.type != "BOOKMARK":
            found.append(change)
        if len(found) == count:
            break
    return found


def test_a_watch_from_a_version_gives_every_change_after_it(cluster: Cluster, namespace: str) -> None:
    _, since = cluster.list_at("ConfigMap", namespace)
    cluster.create(config_map("a", namespace, k="1"))
    cluster.patch("ConfigMap", "a", {"data": {"k": "2"}}, namespace)
    cluster.delete("ConfigMap", "a", namespace)
    changes = collect(cluster, namespace, since, 3)
    assert [(one.type, one.object["data"]["k"]) for one in changes] == [
        ("ADDED", "1"),
        ("MODIFIED", "2"),
        ("DELETED", "2"),
    ]
    versions = [int(one.object["metadata"]["resourceVersion"]) for one in changes]
    assert versions == sorted(set(versions))


def test_an_object_that_enters_or_leaves_the_selector_is_added_or_deleted(cluster: Cluster, namespace: str) -> None:
    _, since = cluster.list_at("ConfigMap", namespace)
    cluster.create(config_map("a", namespace))
    cluster.patch("ConfigMap", "a", {"metadata": {"labels": {"l": "x"}}}, namespace)
    cluster.patch("ConfigMap", "a", {"data": {"k": "1"}}, namespace)
    cluster.patch("ConfigMap", "a", {"metadata": {"labels": {"l": "y"}}}, namespace)
    assert [one.type for one in collect(cluster, namespace, since, 3, labels="l=x")] == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_by_field_follows_one_nodes_pods(cluster: Cluster, namespace: str) -> None:
    _, since = cluster.list_at("Pod", namespace)
    cluster.create(pod("far", namespace, nodeName="n1"))
    cluster.create(pod("near", namespace, nodeName="n2"))
    changes = collect(cluster, namespace, since, 1, kind="Pod", fields="spec.nodeName=n2")
    assert changes[0].object["metadata"]["name"] == "near"


def test_a_watch_without_a_version_begins_with_what_is_there(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map("a", namespace))
    names = {one.object["metadata"]["name"] for one in collect(cluster, namespace, "0", 2)}
    assert names == {"a", "kube-root-ca.crt"}


def test_a_watch_from_an_expired_version_answers_410(world: World, namespace: str) -> None:
    _, since = world.cluster.list_at("ConfigMap", namespace)

    def numbered(number: int, new: dict[str, Any]) -> None:
        new["data"] = {"n": str(number)}

    def churn() -> None:
        from chaos.embedded.resources import CONFIG_MAP

        world.store.create(CONFIG_MAP, config_map("churn", namespace))
        for number in range(stores.HISTORY + 2):
            world.store.mutate(CONFIG_MAP, namespace, "churn", partial(numbered, number))

    world.call(churn)
    with pytest.raises(ApiError, match="too old resource version") as error:
        collect(world.cluster, namespace, since, 1)
    assert error.value.code == 410


def test_bookmarks_are_sent_when_asked_for(cluster: Cluster, namespace: str) -> None:
    _, since = cluster.list_at("ConfigMap", namespace)
    changes = list(cluster.watch("ConfigMap", namespace, since=since, seconds=1))
    assert [one.type for one in changes] == ["BOOKMARK"]
    assert int(changes[0].object["metadata"]["resourceVersion"]) >= int(since)


def test_initial_events_end_with_a_marked_bookmark(cluster: Cluster, namespace: str) -> None:
    response = cluster.open(
        "GET",
        f"/api/v1/namespaces/{namespace}/configmaps",
        query={
            "watch": "1",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "1",
        },
    )
    events = [json.loads(line) for line in response.read().splitlines()]
    assert [one["type"] for one in events[:2]] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_change_reaches_a_watcher_that_waits_for_it(cluster: Cluster, namespace: str) -> None:
    _, since = cluster.list_at("ConfigMap", namespace)
    seen: list[float] = []
    begun = threading.Event()

    def follow() -> None:
        begun.set()
        for change in cluster.watch("ConfigMap", namespace, since=since, seconds=20):
            if change.type == "ADDED":
                seen.append(time.monotonic())
                return

    thread = threading.Thread(target=follow)
    thread.start()
    begun.wait()
    time.sleep(0.2)
    sent = time.monotonic()
    cluster.create(config_map("a", namespace))
    thread.join(20)
    assert seen
    assert seen[0] >= sent


def test_a_watcher_that_went_away_is_forgotten(world: World, namespace: str) -> None:
    from chaos.embedded.resources import CONFIG_MAP

    def watchers() -> int:
        return int(world.call(lambda: len(world.store._table(CONFIG_MAP).watches)))

    before = watchers()
    responses = [
        world.cluster.open(
            "GET", f"/api/v1/namespaces/{namespace}/configmaps", query={"watch": "1", "resourceVersion": "1000000"}
        )
        for _ in range(5)
    ]
    assert watchers() == before + 5
    for response in responses:
        response.close()
    world.cluster.wait("watches closed", lambda: watchers() == before)
