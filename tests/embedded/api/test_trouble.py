"""Trouble on request: whom it meets, whom it spares, and that it ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.trouble import parse_trouble
from chaos.errors import ApiError
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from tests.embedded.api.conftest import World

pytestmark = pytest.mark.live


@pytest.fixture
def jane(world: World) -> Iterator[Cluster]:
    """Somebody who may all."""
    with contextlib.closing(world.user("jane", "system:masters")) as cluster:
        yield cluster


def begin(world: World, name: str, **trouble: Any) -> dict[str, Any]:
    found: dict[str, Any] = world.cluster.request("POST", f"/embedded/trouble/{name}", trouble)
    return found


def end(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.cluster.request("POST", f"/embedded/trouble/{name}/end")
    return found


def raw(cluster: Cluster) -> float:
    """Seconds of one list, without retries."""
    began = time.monotonic()
    cluster.open("GET", "/api/v1/nodes").release_conn()
    return time.monotonic() - began


def test_errors_meet_one_user_and_spare_the_others(world: World, jane: Cluster) -> None:
    begin(world, "errors", user="jane", code=503, seconds=30)
    with pytest.raises(ApiError, match="injected trouble: code") as caught:
        raw(jane)
    assert caught.value.code == 503
    raw(world.cluster)
    assert end(world, "errors")["met"] == 1
    raw(jane)


def test_about_the_share_that_is_asked_for_is_met(world: World, jane: Cluster) -> None:
    begin(world, "half", user="jane", code=500, share=0.5, seconds=30)
    failed = 0
    for _ in range(100):
        try:
            raw(jane)
        except ApiError:
            failed += 1
    assert failed == end(world, "half")["met"]
    assert 25 <= failed <= 75  # half, and five standard deviations


def test_a_delay_is_waited_for_and_answered_rightly(world: World, jane: Cluster) -> None:
    begin(world, "late", user="jane", delay=0.3, seconds=30)
    assert raw(jane) >= 0.3
    end(world, "late")


def test_silence_cuts_a_watch_and_ends_by_itself(world: World) -> None:
    version = world.cluster.list_at("Node")[1]
    events = world.cluster.watch("Node", since=version, seconds=30)
    threading.Timer(0.3, begin, (world, "silence"), {"silent": True, "seconds": 1.0}).start()
    began = time.monotonic()
    with pytest.raises(urllib3.exceptions.HTTPError):
        next(events)
    world.cluster.list("Node")  # retried until it is answered again
    assert time.monotonic() - began >= 0.9
    assert world.cluster.request("GET", "/embedded/trouble") == {}


def test_trouble_is_for_those_who_may(world: World) -> None:
    with contextlib.closing(world.user("nobody")) as nobody, pytest.raises(ApiError) as caught:
        nobody.request("POST", "/embedded/trouble/x", {"code": 500, "seconds": 5})
    assert caught.value.code == 403


def test_what_cannot_be_is_refused_with_every_reason(world: World) -> None:
    with pytest.raises(ApiError, match=r"whom is not known here.*code is 200.*share is 3.*seconds is 0"):
        begin(world, "x", whom="jane", share=3, code=200)


def test_whoever_holds_the_runners_role_can_grant_the_mesh_and_the_watchdog_theirs(world: World) -> None:
    world.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sharedfate-system"}})
    for obj in manifests.load("rbac/runner.yaml", {}):
        world.cluster.apply(obj)
    world.cluster.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "runner"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sharedfate-runner"},
            "subjects": [{"kind": "User", "name": "ci", "apiGroup": "rbac.authorization.k8s.io"}],
        }
    )
    with contextlib.closing(world.user("ci")) as runner:
        for file in ("control-plane", "node-proxy", "watchdog"):
            for obj in manifests.load(f"rbac/{file}.yaml", {}):
                runner.create(obj)


def test_trouble_of_the_api_server_that_means_nothing_is_refused() -> None:
    with pytest.raises(StatusError, match=r"code is 200.*share is 2.*seconds is 0"):
        parse_trouble({"share": 2, "code": 200})
    with pytest.raises(StatusError, match="nothing would happen"):
        parse_trouble({"seconds": 5})
