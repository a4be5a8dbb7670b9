"""A few threads ask many loaders, and those that hang do not keep the others from being heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from chaos.history.store import HistoryWriter
from chaos.kube.client import Cluster
from chaos.kube.control_key import secret
from chaos.load.collector import Collector, Loader
from chaos.load.detail import Detail
from proof.replayed import Replayed
from proof.synthetic import HarmDone, Noise, Plan, flows, view
from tests.load.programs import KEY, eventually

HANGING = 40
HEARD = 40


class _Loaders:
    """A cluster of loaders that have measured everything already; of those that hang no answer comes."""

    def __init__(self) -> None:
        flow = flows(1)[0]
        made = view(np.random.default_rng(1), Plan(baseline=1.0, fault=1.0, after=0.0), Noise(), {flow: HarmDone()})
        self.loaders = [
            Replayed(f"client-{number}", made.flows, [], epoch=f"e{number}") for number in range(HANGING + HEARD)
        ]
        for loader in self.loaders:
            loader.play(1 << 62)
        self.asked = [0] * len(self.loaders)
        self.released = threading.Event()

    def pod_http(self, namespace: str, pod: str, port: int, path: str, **how: Any) -> bytes:
        number = int(pod.rpartition("-")[2])
        self.asked[number] += 1
        if number < HANGING:
            self.released.wait(1.0)
            raise OSError("timed out")
        return self.loaders[number].ask(path, how.get("body"))

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return secret(KEY, run="r")


@pytest.fixture
def cluster() -> Iterator[_Loaders]:
    found = _Loaders()
    yield found
    found.released.set()


@pytest.mark.parametrize("detail", Detail)
def test_loaders_that_hang_do_not_keep_the_others_from_being_heard(
    cluster: _Loaders, tmp_path: Path, detail: Detail
) -> None:
    chosen = [Loader("tenant-0", f"client-{number}") for number in range(HANGING + HEARD)]
    before = threading.active_count()
    with (
        HistoryWriter(tmp_path / "trial", {}) as writer,
        Collector(cast(Cluster, cluster), chosen, writer, every=0.1, patience=60, detail=detail) as collector,
    ):
        eventually(lambda: all(cluster.asked[:HANGING]))  # each is doubtful once it has hung
        began, counted = time.monotonic(), sum(cluster.asked[HANGING:])
        eventually(lambda: min(cluster.asked[HANGING:]) >= 8)
        assert time.monotonic() - began < 5
        assert sum(cluster.asked[HANGING:]) > counted
        assert threading.active_count() - before <= 17
        assert not collector.failures
        cluster.released.set()
        whole = sum(loader.recorder.log.total for loader in cluster.loaders[HANGING:])
        assert len(writer.snapshot()[0]) == whole


def test_a_loader_that_stays_away_is_a_failure_and_is_asked_no_more(cluster: _Loaders, tmp_path: Path) -> None:
    cluster.released.set()
    chosen = [Loader("tenant-0", f"client-{number}") for number in (0, HANGING)]
    with (
        HistoryWriter(tmp_path / "trial", {}) as writer,
        Collector(cast(Cluster, cluster), chosen, writer, every=0.02, patience=0.2) as collector,
    ):
        eventually(lambda: collector.failures)
        assert "unreachable" in collector.failures[chosen[0]]
        asked = cluster.asked[0]
        heard = cluster.asked[HANGING]
        eventually(lambda: cluster.asked[HANGING] >= heard + 5)
        collector.poll_now()
        assert cluster.asked[0] == asked
