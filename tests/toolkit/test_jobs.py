"""What became of a Job: complete, failed, or held by a container beside it that does not end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chaos.toolkit.jobs import detect_fate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pod(ended: float | None, *, beside: bool, exit_code: int = 0) -> dict[str, Any]:
    finished = (NOW - timedelta(seconds=ended or 0)).isoformat().replace("+00:00", "Z")
    work = {"running": {}} if ended is None else {"terminated": {"exitCode": exit_code, "finishedAt": finished}}
    proxy = [{"name": "proxy", "state": {"running": {}}}] if beside else []
    return {"status": {"containerStatuses": [{"name": "job", "state": work}, *proxy]}}


@pytest.mark.parametrize(
    ("conditions", "pods", "value", "verdict"),
    [
        ([{"type": "Complete", "status": "True"}], [], "complete", "pass"),
        ([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}], [], "failed", "fail"),
        ([], [pod(60, beside=True)], "held by its proxy", "fail"),
        ([], [pod(2, beside=True)], "running", "inconclusive"),
        ([], [pod(60, beside=False)], "running", "inconclusive"),
        ([], [pod(60, beside=True, exit_code=1)], "held by its proxy", "fail"),
        ([], [pod(None, beside=True)], "running", "inconclusive"),
    ],
)
def test_the_fate_of_a_job(
    conditions: list[dict[str, str]], pods: list[dict[str, Any]], value: str, verdict: str
) -> None:
    found = detect_fate({"status": {"conditions": conditions}}, pods, now=NOW, patience=10)
    assert (found["value"], found["verdict"]) == (value, verdict)
