"""Our controllers beside real Kubernetes' own, on recorded pods: what they make, count, announce and delete, and
when.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.embedded.controllers import job, job_rules
from tests.parity.compare import compare
from tests.parity.replay import replay

RECORDINGS = Path(__file__).parent / "recordings"
SCENARIOS = sorted(
    folder.name
    for folder in RECORDINGS.iterdir()
    if folder.name.startswith(("job-", "daemonset-", "statefulset-", "deployment-"))
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_controllers_do_what_the_recorded_ones_did(scenario: str, tmp_path: Path) -> None:
    real, ours = replay(RECORDINGS / scenario, tmp_path)
    assert compare(real, ours) == []


def test_a_controller_that_retries_at_once_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_rules, "BACKOFF_FIRST", 0.0)
    assert compare(*replay(RECORDINGS / "job-fails-twice-then-succeeds-never", tmp_path))


def test_a_controller_that_counts_late_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "BATCH", 8.0)
    assert compare(*replay(RECORDINGS / "job-native-sidecar", tmp_path))


def test_two_different_scenarios_do_not_compare_as_the_same() -> None:
    assert compare(RECORDINGS / "job-plain", RECORDINGS / "job-native-sidecar")
