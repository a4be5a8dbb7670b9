"""The control plane against a real Envoy (tests/mesh/controlplane/loopback.py, in a network namespace of its own)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.updates import measure

pytestmark = pytest.mark.privileged
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def result() -> Any:
    script = f"ip link set lo up; exec {sys.executable} -m tests.mesh.controlplane.loopback"
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_envoy_takes_every_resource(result: Any) -> None:
    assert {kind: status["refused"] for kind, status in result["status"].items() if status["refused"]} == {}
    assert result["status"]["Listener"]["acked"]
    assert result["status"]["Secret"]["acked"]


def test_envoy_has_an_update_within_half_a_second(result: Any) -> None:
    assert result["update_seconds"] < 0.5


@pytest.mark.slow
def test_a_hundred_real_envoys_have_an_update_within_half_a_second() -> None:
    found = asyncio.run(measure(100, updates=10))
    assert min(found.seconds) < 0.5, found.sentence


def test_envoy_uses_a_renewed_certificate(result: Any) -> None:
    assert result["rotated"]


def test_a_restarted_control_plane_sends_nothing_that_envoy_has(result: Any) -> None:
    assert result["reconnected_without_resend"]


def test_envoy_was_handed_its_own_identity_alone(result: Any) -> None:
    assert result["handed"] == ["spiffe://cluster.local/ns/tenant-a/sa/server"]
