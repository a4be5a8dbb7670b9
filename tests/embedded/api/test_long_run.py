"""A run of hours: its clients outlive their tokens, and miss nothing. The issuer's clock is moved; nobody waits."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import ApiError
from chaos.kube.client import Cluster, WatchEvent
from tests.embedded.api.conftest import World

pytestmark = pytest.mark.live

HOURS = 2
LIFE = 3600  # seconds for which a token holds


@contextmanager
def warped(world: World) -> Iterator[list[float]]:
    """The issuer's clock, ahead of the machine's by the seconds in the list."""
    ahead = [0.0]
    clock, world.issuer._clock = world.issuer._clock, lambda: time.time() + ahead[0]
    try:
        yield ahead
    finally:
        world.issuer._clock = clock


def runner(world: World, namespace: str, folder: Path) -> tuple[Cluster, Path]:
    """A client whose kubeconfig names a file that holds a token, as a CI runner's does; and that file."""
    world.cluster.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        }
    )
    token, config = folder / "token", folder / "kubeconfig"
    authority = base64.b64encode(world.authority.pem).decode()
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "run",
                "clusters": [{"name": "c", "cluster": {"server": world.url, "certificate-authority-data": authority}}],
                "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
                "contexts": [{"name": "run", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    rotate(world, namespace, token)
    return Cluster(config), token


def rotate(world: World, namespace: str, token: Path) -> None:
    """A new token in the old one's place."""
    token.write_text(world.call(lambda: world.issuer.issue(namespace, "default", seconds=LIFE))[0])


def marker(namespace: str, name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}


def test_a_run_of_hours_outlives_each_of_its_tokens_and_its_watch_misses_nothing(
    world: World, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, token = runner(world, namespace, tmp_path)
    seen: list[str] = []
    begun: list[float] = []
    asks = cluster.watch

    def counted(*arguments: Any, **options: Any) -> Iterator[WatchEvent]:
        begun.append(time.monotonic())
        return asks(*arguments, **options)

    monkeypatch.setattr(cluster, "watch", counted)
    stop, failures = threading.Event(), []

    def watch() -> None:
        try:
            for change in cluster.follow("ConfigMap", namespace, stop=stop, seconds=1):
                seen.append(f"{change.type} {change.object['metadata']['name']}")
        except ApiError as error:
            failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with warped(world) as ahead:
            for hour in range(1, HOURS + 1):
                ahead[0] += LIFE + 60
                rotate(world, namespace, token)  # the old one is refused from now on
                watches = len(begun)
                cluster.create(marker(namespace, f"hour-{hour}"))
                cluster.wait(
                    "the watch is asked for anew",
                    lambda watches=watches: len(begun) > watches or failures,  # type: ignore[misc]  # no lambda with defaults is inferred
                    seconds=20,
                )
                cluster.wait(
                    f"hour {hour} is seen",
                    lambda name=f"ADDED hour-{hour}": name in seen or failures,  # type: ignore[misc]
                    seconds=20,
                )
                with pytest.raises(ApiError) as caught:  # an exec too: there is no such pod, and that is what is said
                    cluster.exec(namespace, "none", ["true"])
                assert caught.value.code == 404
    finally:
        stop.set()
        thread.join(30)
        cluster.close()
    assert failures == []
    assert [one for one in seen if " hour-" in one] == [f"ADDED hour-{hour}" for hour in range(1, HOURS + 1)]


def test_an_exec_is_the_first_to_meet_an_expired_token_and_goes_through(
    world: World, namespace: str, tmp_path: Path
) -> None:
    cluster, token = runner(world, namespace, tmp_path)
    try:
        cluster.list("ConfigMap", namespace)
        with warped(world) as ahead:
            ahead[0] += LIFE + 60
            rotate(world, namespace, token)
            with pytest.raises(ApiError) as caught:
                cluster.exec(namespace, "none", ["true"])
            assert (caught.value.code, cluster._renewals) == (404, 1)
    finally:
        cluster.close()


def test_a_token_that_nobody_rotated_ends_the_run_with_a_sentence(world: World, namespace: str, tmp_path: Path) -> None:
    cluster, _ = runner(world, namespace, tmp_path)
    try:
        cluster.list("ConfigMap", namespace)
        with warped(world) as ahead:
            ahead[0] += LIFE + 60
            with pytest.raises(ApiError, match="they have expired, or were revoked"):
                cluster.list("ConfigMap", namespace)
            with pytest.raises(ApiError, match="they have expired, or were revoked"):
                cluster.exec(namespace, "none", ["true"])
    finally:
        cluster.close()
