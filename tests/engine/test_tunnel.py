"""Whether large answers waited for their slow reader."""

from __future__ import annotations

import pytest

from chaos.engine.tunnel import WAITING, judge_waiting


@pytest.mark.parametrize(
    ("sent", "read", "verdict"),
    [(3 * WAITING, 0, "pass"), (3 * WAITING, 2 * WAITING, "fail"), (WAITING - 1, 0, "fail"), (0, 0, "fail")],
)
def test_answers_that_were_read_did_not_wait(sent: int, read: int, verdict: str) -> None:
    own = {"name": "http", "sent": 1000, "ok": 1000}
    assert str(judge_waiting([own, {"name": "aggressor-slow-readers", "sent": sent, "ok": read}]).verdict) == verdict
