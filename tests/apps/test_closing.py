"""The client that still calls while it shuts down tells what became of its last calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.load.programs import Programs, free_port


def start(report: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaos.apps.closing"],
        env={**os.environ, "REPORT": str(report), "INTERVAL": "0.01", "LAST": "0.5", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.live
def test_its_calls_before_and_after_the_signal_are_counted_apart(programs: Programs, tmp_path: Path) -> None:
    with start(tmp_path / "report", TARGET=f"http://127.0.0.1:{programs.server().http}") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "answered\n"
        time.sleep(0.2)
        client.send_signal(signal.SIGTERM)
        line = client.stdout.read().splitlines()[-1]
        assert client.wait(10) == 0
    report = json.loads(line)
    assert json.loads((tmp_path / "report").read_text()) == report
    for phase in ("before", "after"):
        assert report[phase]["ok"] > 0
        assert (report[phase]["failed"], report[phase]["first_failed"]) == (0, None)


@pytest.mark.live
def test_a_server_that_goes_with_the_signal_loses_the_last_calls(programs: Programs, tmp_path: Path) -> None:
    server = programs.server()
    with start(tmp_path / "report", TARGET=f"http://127.0.0.1:{server.http}") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "answered\n"
        server.process.kill()
        server.process.wait()
        client.send_signal(signal.SIGTERM)
        client.wait(10)
    after = json.loads((tmp_path / "report").read_text())["after"]
    assert after["failed"] > 0
    assert after["first_failed"] is not None
    assert after["ok"] == 0
    assert set(after["errors"]) <= {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected"}


@pytest.mark.live
def test_one_that_was_never_answered_ends_with_the_signal_too(tmp_path: Path) -> None:
    with start(tmp_path / "report", TARGET=f"http://127.0.0.1:{free_port()}") as client:
        time.sleep(1.0)
        client.send_signal(signal.SIGTERM)
        assert client.wait(10) == 0
    assert json.loads((tmp_path / "report").read_text())["before"]["ok"] == 0
