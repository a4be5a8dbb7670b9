"""What a client left of its last calls is read, and said in words."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from chaos.engine.closing import ClosingSeen, parse_report
from chaos.errors import ExperimentFailure

BEFORE: Final[dict[str, Any]] = {"ok": 10, "failed": 0, "first_failed": None, "last_ok": 1.0, "errors": {}}
REFUSED: Final = {"ConnectionRefusedError": 39}
AFTER: Final[dict[str, Any]] = {"ok": 1, "failed": 39, "first_failed": 0.12, "last_ok": 0.05, "errors": REFUSED}


def test_a_report_is_read() -> None:
    seen = parse_report(json.dumps({"before": BEFORE, "after": AFTER}))
    assert seen == ClosingSeen(10, 0, 1, 39, 0.12, REFUSED)
    assert seen.last_calls() == (
        "1 of 40 calls after SIGTERM were answered; the first was lost 0.1 s after it (39 ConnectionRefusedError)"
    )


@pytest.mark.parametrize("left", ["", "Traceback", "[]", "{}", '{"before": 1}', '{"before": {}, "after": {}}'])
def test_a_client_that_left_no_report_is_no_result(left: str) -> None:
    with pytest.raises(ExperimentFailure, match="before it could tell"):
        parse_report(left)
