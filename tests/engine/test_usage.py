"""What containers use is read where a reading is quick, and from meters elsewhere."""

from __future__ import annotations

import json
import math
import time
from typing import Any, cast

import pytest

from chaos.engine.usage import Key, Meters, MetricsApi, choose_reader, digits_of, metered, seconds_of, usage_facts
from chaos.errors import ApiError, NotFound
from chaos.kube.client import Cluster
from chaos.names import LABEL_ROLE, SYSTEM_NAMESPACE

SECOND = 1_000_000_000
KNOWN: dict[str, Key] = {"aaaaaaaaaaaa": ("t", "p", "app"), "bbbbbbbbbbbb": ("t", "p", "proxy")}


def line(second: float, **used: tuple[int, int]) -> str:
    containers = {name * 12: [cpu, held] for name, (cpu, held) in used.items()}
    return json.dumps({"at": int(second * SECOND), "containers": containers})


@pytest.mark.parametrize(
    ("text", "cores"), [("250m", 0.25), ("1", 1.0), ("12345n", 12345e-9), ("0", 0.0), ("7u", 7e-6)]
)
def test_usage_is_in_cores_and_bytes(text: str, cores: float) -> None:
    metrics: dict[str, Any] = {"metadata": {"name": "p", "namespace": "n"}, "window": "15.1s", "containers": []}
    metrics["containers"] = [{"name": "c", "usage": {"cpu": text, "memory": "2Ki"}}]
    facts = usage_facts(metrics)
    assert facts["containers"] == {"c": {"cores": pytest.approx(cores), "bytes": 2048}}
    assert (facts["namespace"], facts["pod"], facts["window"]) == ("n", "p", "15.1s")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param(
            [line(0, a=(0, 5), b=(SECOND, 7)), line(0.5, a=(1, 5)), line(2, a=(SECOND, 6), b=(2 * SECOND, 8))],
            {"app": {"cores": 0.5, "bytes": 6}, "proxy": {"cores": 0.5, "bytes": 8}},
            id="over the time from the first to the last line",
        ),
        pytest.param([line(0, a=(0, 5))], {}, id="one line is no time"),
        pytest.param([], {}, id="a meter that starts"),
        pytest.param(["Traceback", line(0, a=(0, 5)), line(1, a=(1, 5))[:9]], {}, id="what is cut off is not read"),
        pytest.param(
            [line(0, b=(0, 1)), line(1, a=(SECOND, 1), b=(SECOND, 1))],
            {"proxy": {"cores": 1.0, "bytes": 1}},
            id="a container that began meanwhile has no reading yet",
        ),
        pytest.param([line(0, c=(0, 1)), line(1, c=(5, 1))], {}, id="a container of nobody that we know"),
        pytest.param([line(1, a=(0, 1)), line(1, a=(5, 1))], {}, id="no time passed"),
        pytest.param([line(0, a=(0, 1)), line(9, a=(SECOND, 1))], {}, id="a meter that was starved is not quick"),
        pytest.param(
            [line(0, a=(0, 1)), line(8, a=(0, 1)), line(9, a=(SECOND, 1))],
            {"app": {"cores": 1.0, "bytes": 1}},
            id="of a meter that was starved the last lines count",
        ),
    ],
)
def test_a_meters_lines_are_a_reading(lines: list[str], found: dict[str, Any]) -> None:
    facts = metered(lines, KNOWN)
    assert [(one["namespace"], one["pod"]) for one in facts] == ([("t", "p")] if found else [])
    assert (facts[0]["containers"] if facts else {}) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("15.118s", 15.118),
        ("1m0s", 60.0),
        ("500ms", 0.5),
        ("1h2m3s", 3723.0),
        ("", math.inf),
        ("1", math.inf),
        ("soon", math.inf),
        ("1s!", math.inf),
    ],
)
def test_a_window_is_a_duration_of_go(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


def test_an_id_is_known_by_its_first_digits_whatever_the_runtime() -> None:
    assert digits_of("containerd://0123456789abcdef") == digits_of("cri-o://0123456789abcdef") == "0123456789ab"


class _Kubernetes:
    """A cluster of one pod, with or without a metrics API."""

    def __init__(self, *, window: str = "", code: int = 0) -> None:
        self.window, self.code = window, code
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.printed: list[str] | ApiError = []

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        if kind == "Pod":
            return [{"spec": {"nodeName": "n1"}}, {"spec": {}}]
        if self.code:
            raise ApiError("no metrics here", code=self.code)
        meta = {"name": "p", "namespace": namespace}
        return [{"metadata": meta, "window": self.window, "containers": []}] if self.window else []

    def create(self, obj: dict[str, Any]) -> None:
        self.made.append(obj)

    def delete(self, kind: str, name: str, namespace: str, *, grace: int) -> None:
        self.deleted.append(name)

    def logs(self, namespace: str, pod: str, *, tail: int) -> str:
        assert (namespace, pod) == (SYSTEM_NAMESPACE, self.made[-1]["metadata"]["name"])
        if isinstance(self.printed, ApiError):
            raise self.printed
        return "\n".join(self.printed[-tail:])


def chosen(cluster: _Kubernetes) -> object:
    return choose_reader(cast(Cluster, cluster), ["t"], run="r", containers=lambda: KNOWN)


@pytest.mark.parametrize(
    ("cluster", "reader"),
    [
        (_Kubernetes(window="1s"), MetricsApi),
        (_Kubernetes(window="15.1s"), Meters),
        (_Kubernetes(code=404), Meters),
        (_Kubernetes(code=403), Meters),
        (_Kubernetes(code=503), Meters),
    ],
    ids=["quick", "too slow", "not served", "not allowed", "broken"],
)
def test_the_metrics_api_is_read_where_it_is_quick(cluster: _Kubernetes, reader: type) -> None:
    assert type(chosen(cluster)) is reader


def test_a_meter_starts_on_each_node_and_is_read_from_its_log() -> None:
    cluster = _Kubernetes(code=404)
    reader = chosen(cluster)
    assert isinstance(reader, Meters)
    assert reader.read() == []
    (pod,) = cluster.made
    assert (pod["spec"]["nodeName"], pod["spec"]["hostPID"]) == ("n1", True)
    assert pod["metadata"]["labels"][LABEL_ROLE] == "helper"  # no part of the placement
    for code in (400, 500, 503):
        cluster.printed = ApiError("container is creating", code=code)
        assert reader.read() == []
    cluster.printed = [line(second, a=(second * SECOND // 4, 3)) for second in range(9)]
    assert [one["containers"] for one in reader.read()] == [{"app": {"cores": 0.25, "bytes": 3}}]
    assert len(cluster.made) == 1


def test_a_meter_that_somebody_deleted_is_made_again() -> None:
    cluster = _Kubernetes(code=404)
    reader = chosen(cluster)
    assert isinstance(reader, Meters)
    reader.read()
    cluster.printed = NotFound("no such pod", code=404)
    assert reader.read() == []
    reader.read()
    assert len(cluster.made) == 2


def test_a_meter_that_says_nothing_new_is_no_reading_and_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _Kubernetes(code=404)
    reader = chosen(cluster)
    assert isinstance(reader, Meters)
    reader.read()
    cluster.printed = [line(second, a=(second * SECOND, 3)) for second in range(9)]
    assert len(reader.read()) == 1
    assert reader.read() == []  # what it said last is no news
    now = time.monotonic()
    monkeypatch.setattr("chaos.engine.usage.time.monotonic", lambda: now + 60)
    assert reader.read() == []
    assert cluster.deleted == [cluster.made[0]["metadata"]["name"]]
    reader.read()
    assert len(cluster.made) == 2


def test_a_meter_that_may_not_be_made_says_so() -> None:
    class Refusing(_Kubernetes):
        def create(self, obj: dict[str, Any]) -> None:
            raise ApiError("pods is forbidden", code=403)

    reader = chosen(Refusing(code=404))
    assert isinstance(reader, Meters)
    with pytest.raises(ApiError, match="forbidden"):
        reader.read()
