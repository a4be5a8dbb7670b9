"""Whole runs that a signal meets: nothing is left, one line is said, what was done is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from proof.endings import signals
from proof.endings.left import orphans_come_here

pytestmark = pytest.mark.privileged


def test_a_run_that_is_interrupted_is_undone_and_reported(tmp_path: Path) -> None:
    """One moment; `python -m proof.endings signals` tries a hundred."""
    moment = signals.Moment("none", "app-rolled-out", "SIGTERM", 1, 8.0, (), background=False)
    with orphans_come_here():
        seen = signals.strike(tmp_path / "run", moment)
    assert seen["wrong"] == []
    assert (seen["sent"], seen["code"]) == (1, 143)
