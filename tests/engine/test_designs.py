"""What of a container's past would be seen in a trial: the kubelet's back-off after an earlier kill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.engine.designs import detect_back_off

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
