"""Whole runs that a signal meets at a random moment: nothing is left, one line is said, what was done is reported."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.embedded import provider
from tests.embedded.test_leftovers import leftovers

pytestmark = pytest.mark.privileged
LONGEST = 40.0  # seconds within which the moment lies: about the length of the run
ENDS = 90.0  # seconds after a signal


def strike(out: Path, *, number: signal.Signals, after: float, background: bool, again: float) -> str:
    """One run and its signal (twice, when `again` is not 0); AssertionError with what is not as it should be."""
    command = ["run", "--modes", "none,sidecar", "--scenarios", "app-rolled-out", f"--out={out}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL),
    )
    story = f"{number.name} after {after:.2f} s" + (", in the background" if background else "")
    try:
        time.sleep(after)
        over = process.poll() is not None
        if not over:
            process.send_signal(number)
        if again and not over:
            time.sleep(again)
            process.send_signal(number)
        text, _ = process.communicate(timeout=ENDS)
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in text, f"{story}: {text[-2000:]}"
    if over:
        return "over"
    begun = (out / "run.json").exists()
    late = process.returncode in (0, 1)
    expected = {128 + number} | ({-number} if not begun else set()) | ({0, 1} if late else set())
    assert process.returncode in expected, f"{story}: exit {process.returncode}: {text[-2000:]}"
    trials = sorted(path for path in (out / "trials").glob("*/*") if path.is_dir())
    if trials:
        report = json.loads((out / "report.json").read_text())
        told = {(one["mode"], one["scenario"]) for one in report["trials"]}
        missing = {f"{path.name}[{path.parent.name}]" for path in trials} - {f"{s}[{m}]" for m, s in told}
        assert missing <= set(map(str, report.get("unfinished", ()))), f"{story}: {missing} of {trials}"
    if begun:
        name = f"sf-{json.loads((out / 'run.json').read_text()).get('run', '')}"
        assert leftovers(name) == [], story
        assert not provider._is_alive(provider.RUN / name), story
    return "interrupted" if process.returncode > 1 else "late"


@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_a_run_ends_in_order_whenever_a_signal_comes(tmp_path: Path, count: int) -> None:
    """SHAREDFATE_TEST_SLICE=FIRST:LAST takes some of the moments, for a machine that others use."""
    chance = random.Random(count)
    moments = [
        {
            "number": chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]),
            "after": chance.uniform(0.2, LONGEST) if count > 1 else 8.0,
            "background": chance.random() < 0.3,
            "again": chance.choice([0.0, 0.0, 0.3, 2.0]),
        }
        for _ in range(count)
    ]
    first, _, last = os.environ.get("SHAREDFATE_TEST_SLICE", f"0:{count}").partition(":")
    for number, moment in list(enumerate(moments))[int(first) : int(last)]:
        end = strike(tmp_path / str(number), **moment)  # type: ignore[arg-type]
        print(number, moment, end, flush=True)
