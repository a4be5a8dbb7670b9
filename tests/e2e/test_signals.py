"""Whole runs that a signal or a full disk meets: nothing is left, one line is said, what was done is reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.embedded import provider
from proof.endings import signals
from proof.endings.left import leftovers, orphans_come_here

pytestmark = pytest.mark.privileged


def test_a_run_that_is_interrupted_is_undone_and_reported(tmp_path: Path) -> None:
    """One moment; `python -m proof.endings signals` tries a hundred."""
    moment = signals.Moment("none", "app-rolled-out", "SIGTERM", 1, 8.0, (), background=False)
    with orphans_come_here():
        seen = signals.strike(tmp_path / "run", moment)
    assert seen["wrong"] == []
    assert (seen["sent"], seen["code"]) == (1, 143)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["16k", "60k", "160k"], ids=["at-once", "within-the-trial", "late-in-it"])
def test_a_disk_that_fills_up_during_a_run_is_said_and_leaves_nothing(tmp_path: Path, size: str) -> None:
    """In a mount namespace of its own, where `--out` is a file system that holds a run's beginning alone."""
    (tmp_path / "small").mkdir()
    run = f"run --modes none --scenarios app-rolled-out --out={tmp_path}/small/run"
    script = f"mount -t tmpfs -o size={size} none {tmp_path}/small && exec {sys.executable} -m chaos {run}"
    before = {path.name for path in provider.RUN.iterdir()}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=150, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode in (1, 3, 4), text
    assert "Traceback" not in text
    assert "No space left on device" in text
    new = {path.name for path in provider.RUN.iterdir()} - before
    assert [name for name in new if leftovers(name)] == []
