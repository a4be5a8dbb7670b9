"""The guard: it aborts once, says whom it found, and says so when it dies."""

from __future__ import annotations

import threading

import pytest

from chaos.toolkit import handler
from chaos.toolkit.gate import KEY, judge_journal
from chaos.toolkit.guard import BystanderGuard
from chaos.verdict import Verdict


def test_a_bystander_that_is_hurt_aborts_the_experiment() -> None:
    aborted = threading.Event()
    looks = iter([[], ["tenant-c/client -> tenant-c/server"]])
    guard = BystanderGuard(lambda: next(looks), aborted.set, every=0.01)
    guard.start()
    assert aborted.wait(5)
    guard.stop()
    assert "tenant-c/client" in guard.alarm


def test_nobody_hurt_aborts_nothing() -> None:
    aborted = threading.Event()
    looked = threading.Semaphore(0)

    def look() -> list[str]:
        looked.release()
        return []

    guard = BystanderGuard(look, aborted.set, every=0.01)
    guard.start()
    for _ in range(5):
        assert looked.acquire(timeout=5)
    guard.stop()
    assert not aborted.is_set()
    assert not guard.alarm
    assert not guard.failure


def test_a_guard_that_raised_makes_the_experiment_inconclusive() -> None:
    def look() -> list[str]:
        raise ValueError("no samples")

    guard = BystanderGuard(look, lambda: pytest.fail("aborted"), every=0.01)
    guard.start()
    guard._thread.join(5)
    kept = handler.ExperimentHandler(handler.SharedRun())
    kept.guard = guard
    journal = {
        "status": "completed",
        "deviated": False,
        "experiment": {"method": []},
        "run": [{"status": "succeeded", "activity": {}}],
        "rollbacks": [],
        "steady_states": {"before": None, "after": None, "during": []},
    }
    kept.finish(journal)
    assert journal[KEY]["doubts"] == ["the guard failed: ValueError: no samples"]  # type: ignore[index]
    assert journal["status"] == "failed"
    assert judge_journal(journal).verdict is Verdict.INCONCLUSIVE


def test_an_alarm_fails_the_experiment() -> None:
    journal = {
        "status": "interrupted",
        "deviated": False,
        "experiment": {},
        "run": [{"status": "succeeded", "activity": {}}],
        "rollbacks": [],
        "steady_states": {"before": None, "after": None, "during": []},
        KEY: {"alarm": "tenant-c hurt"},
    }
    assert judge_journal(journal).verdict is Verdict.FAIL
