"""What of the past bears on a trial: the kubelet's back-off after an earlier kill, and how far earlier ramps came."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.engine.designs import Held, detect_back_off, resumed
from chaos.faults.overload import Overload
from chaos.model.flow import Window, WindowKind

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC).timestamp()
RUNNING_SINCE = {"11:59:50": True, "11:50:01": True, "11:49:59": False, "03:00:00": False}


@pytest.mark.parametrize("since", RUNNING_SINCE)
def test_a_restart_counts_until_the_kubelet_has_forgotten_it(since: str) -> None:
    status: dict[str, Any] = {"restartCount": 2, "state": {"running": {"startedAt": f"2026-01-01T{since}Z"}}}
    assert detect_back_off(status, now=NOW) is RUNNING_SINCE[since]
    assert not detect_back_off({**status, "restartCount": 0}, now=NOW)


def test_a_container_that_waits_for_its_restart_is_backed_off_from() -> None:
    assert detect_back_off({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}, now=NOW)
    assert not detect_back_off({}, now=NOW)


def held(**evidence: Any) -> Held:
    return Held(Window(WindowKind.FAULT, 1, 2), (evidence,))


RAMPS: dict[str, tuple[list[Held], float]] = {
    "none before": ([], 500.0),
    "one that gave out": ([held(saturated_at=2000.0, why="slow")], 1400.0),
    "the lowest of several": ([held(saturated_at=2000.0), held(saturated_at=1000.0)], 700.0),
    "one that the path carried to its end": ([held(saturated_at=4000.0, why="max-rate")], 2800.0),
    "one that gave out at once": ([held(saturated_at=500.0, why="shed")], 500.0),
    "one that says nothing of its rate": ([held(rate=9.0, saturated_at=0.0)], 500.0),
    "a fault that has no ramp": ([held()], 500.0),
}


@pytest.mark.parametrize("before", RAMPS)
def test_a_ramp_begins_at_what_the_path_is_known_to_bear(before: str) -> None:
    on, start = RAMPS[before]
    assert resumed(Overload(server="a/s"), on).start_rate == pytest.approx(start)
