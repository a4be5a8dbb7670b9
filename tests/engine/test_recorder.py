"""Kubernetes' own account of a trial is written down as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import urllib3

from chaos.engine.recorder import Recorder, detect_changes, event_facts
from chaos.errors import ApiError, EnvironmentUnfit
from chaos.history.model import Event, EventKind
from chaos.history.store import HistoryWriter
from chaos.kube.client import Cluster, WatchEvent
from chaos.kube.objects import containers_seen


def pod(
    state: dict[str, Any], *, restarts: int = 0, last: dict[str, Any] | None = None, version: str = "1"
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "tenant-a", "name": "server-1", "uid": "u1", "resourceVersion": version},
        "spec": {"nodeName": "node-1"},
        "status": {
            "containerStatuses": [
                {
                    "name": "server",
                    "state": state,
                    "restartCount": restarts,
                    "ready": True,
                    "containerID": f"x://{restarts}",
                    "lastState": last or {},
                }
            ]
        },
    }


RUNNING = {"running": {"startedAt": "2025-01-01T00:00:00Z"}}
KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


def test_a_container_that_is_as_it_was_is_no_change() -> None:
    assert detect_changes(containers_seen(pod(RUNNING)), containers_seen(pod(RUNNING, version="2"))) == []


def test_a_restart_is_a_change_that_tells_how_the_last_one_ended() -> None:
    changes = detect_changes(containers_seen(pod(RUNNING)), containers_seen(pod(RUNNING, restarts=1, last=KILLED)))
    assert [(one.container, one.restarts, one.last_reason, one.last_exit_code) for one in changes] == [
        ("server", 1, "OOMKilled", 137)
    ]


def test_events_of_both_apis_are_read() -> None:
    old = event_facts(
        {
            "metadata": {"namespace": "n"},
            "reason": "Killing",
            "message": "m",
            "count": 3,
            "involvedObject": {"kind": "Pod", "name": "p"},
            "lastTimestamp": "t",
        }
    )
    new = event_facts(
        {
            "metadata": {"namespace": "n"},
            "reason": "Killing",
            "note": "m",
            "series": {"count": 3},
            "regarding": {"kind": "Pod", "name": "p"},
            "eventTime": "t",
        }
    )
    assert old == new


class _Kubernetes:
    """A cluster whose watches say what they are told."""

    def __init__(self) -> None:
        self.changes: dict[str, list[WatchEvent]] = {"Pod": [WatchEvent("ADDED", pod(RUNNING))], "Event": []}
        self.old_event = {"metadata": {"uid": "e0", "resourceVersion": "1"}, "reason": "Old"}
        self.metrics = True

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        if kind == "Event":
            return [self.old_event]
        if not self.metrics:
            raise ApiError("no metrics here", code=404)
        return [{"metadata": {"name": "server-1", "namespace": namespace}, "window": "1s", "containers": []}]

    def follow(self, kind: str, namespace: str, *, stop: threading.Event) -> Iterator[WatchEvent]:
        if kind == "Event":
            yield WatchEvent("ADDED", self.old_event)
        told = 0
        while not stop.is_set():
            while told < len(self.changes[kind]):
                told += 1
                yield self.changes[kind][told - 1]
            time.sleep(0.01)


def eventually(writer: HistoryWriter, wanted: Callable[[Event], bool]) -> Event:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for event in writer.snapshot()[1]:
            if wanted(event):
                return event
        time.sleep(0.01)
    raise AssertionError([event.data for event in writer.snapshot()[1]])


def test_a_recorder_writes_into_the_history_that_is_open(tmp_path: Path) -> None:
    cluster = _Kubernetes()
    with Recorder(cast(Cluster, cluster), ["tenant-a"], run="r", every=0.02) as recorder:
        with HistoryWriter(tmp_path / "one", {}) as first, recorder.into(first):
            eventually(first, lambda event: event.data.get("state") == "running")
            cluster.changes["Pod"].append(WatchEvent("MODIFIED", pod(RUNNING, restarts=1, last=KILLED)))
            killing = {"metadata": {"uid": "e1", "resourceVersion": "2"}, "reason": "Killing"}
            cluster.changes["Event"].append(WatchEvent("ADDED", killing))
            eventually(first, lambda event: event.data.get("last_reason") == "OOMKilled")
            eventually(first, lambda event: event.data.get("reason") == "Killing")
            eventually(first, lambda event: event.kind is EventKind.USAGE)
            assert not [event for event in first.snapshot()[1] if event.data.get("reason") == "Old"]
        with HistoryWriter(tmp_path / "two", {}) as second, recorder.into(second):
            eventually(second, lambda event: event.data.get("restarts") == 1)  # begins with what is
            cluster.changes["Pod"].append(WatchEvent("DELETED", pod(RUNNING, restarts=1)))
            eventually(second, lambda event: event.data.get("state") == "gone")
        assert not recorder.failures


def test_a_cluster_without_metrics_is_said_so_and_the_rest_goes_on(tmp_path: Path) -> None:
    cluster = _Kubernetes()
    cluster.metrics = False
    recorder = Recorder(cast(Cluster, cluster), ["tenant-a"], run="r", every=0.02)
    with HistoryWriter(tmp_path, {}) as writer, recorder.into(writer), recorder:
        eventually(writer, lambda event: event.data.get("recorder") == "usage")
        eventually(writer, lambda event: event.kind is EventKind.CONTAINER)
    assert "no metrics here" in recorder.failures[0]


# How a watch ends beneath a recorder that nobody has stopped: an error in its thread would be nobody's.
ENDS = [
    ApiError("gone", code=410),
    EnvironmentUnfit("the embedded cluster has ended"),
    urllib3.exceptions.ProtocolError("broken"),
    ConnectionResetError("reset"),
]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_a_watch_that_ends_is_noted_and_no_error_of_a_thread(tmp_path: Path, error: Exception) -> None:
    class Ending(_Kubernetes):
        def follow(self, kind: str, namespace: str, *, stop: threading.Event) -> Iterator[WatchEvent]:
            yield from self.changes[kind]
            raise error

    recorder = Recorder(cast(Cluster, Ending()), ["tenant-a"], run="r", every=0.02)
    with HistoryWriter(tmp_path, {}) as writer, recorder.into(writer), recorder:
        eventually(writer, lambda event: str(error) in str(event.data.get("failed")))
    assert any(str(error) in one for one in recorder.failures)
