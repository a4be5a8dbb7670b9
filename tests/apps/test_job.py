"""The batch Job ends as its requests did."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.load.programs import Programs, free_port


def job(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos.apps.job"],
        env={**os.environ, **environment},
        timeout=30,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.live
def test_a_job_whose_requests_are_answered_completes(programs: Programs) -> None:
    done = job(TARGET=f"http://127.0.0.1:{programs.server().http}", REQUESTS="5")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert (report["ok"], report["failed"], report["first"]) == (5, 0, "ok")


def test_a_job_without_its_server_fails_and_says_how() -> None:
    done = job(TARGET=f"http://127.0.0.1:{free_port()}", REQUESTS="2", TRIES="2")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["first"] == "ConnectionRefusedError"
    assert report["retried"] == 2


def test_a_job_that_waits_for_a_proxy_that_never_comes_gives_up() -> None:
    done = job(TARGET="http://127.0.0.1:1", WAIT_FOR_PROXY=f"http://127.0.0.1:{free_port()}", WAIT_SECONDS="0.3")
    assert done.returncode == 1
    assert "did not answer within" in done.stderr


@pytest.mark.live
def test_a_job_that_waits_starts_when_the_proxy_answers(programs: Programs) -> None:
    server = programs.server()
    done = job(
        TARGET=f"http://127.0.0.1:{server.http}",
        REQUESTS="1",
        WAIT_FOR_PROXY=f"http://127.0.0.1:{server.control}/healthz",
    )
    assert done.returncode == 0


def test_a_job_without_a_target_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chaos.apps.job"], timeout=30, capture_output=True, text=True, check=False
    )
    assert "TARGET" in done.stderr
    assert done.returncode == 1
