"""A run: its directory, its attempts, and which errors belong to the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from chaos.engine.run import detect_not_recovered, keep_attempt, set_aside, unfit, unfit_for_trial
from chaos.errors import (
    EnvironmentUnfit,
    Forbidden,
    GuardTripped,
    Misuse,
    NoEffect,
    NotReady,
    RecoveryFailed,
    Stopped,
    TargetVanished,
    UndoneEarly,
)
from chaos.history.spans import read_trace
from tests.engine.options import settings


@pytest.mark.parametrize(
    ("error", "sentences"),
    [
        (RecoveryFailed("x: still stopped"), ["x: still stopped"]),
        (ExceptionGroup("undo", [RecoveryFailed("a"), TargetVanished("b"), RecoveryFailed("c\nd")]), ["a", "c d"]),
        (ExceptionGroup("undo", [ExceptionGroup("more", [RecoveryFailed("a")])]), ["a"]),
        (ExceptionGroup("undo", [TargetVanished("b")]), []),
        (NoEffect("n"), []),
    ],
)
def test_what_an_undo_did_not_restore_is_told_from_other_errors(error: Exception, sentences: list[str]) -> None:
    assert detect_not_recovered(error) == sentences


@pytest.mark.parametrize(
    ("error", "is_the_clusters"),
    [
        (EnvironmentUnfit("e"), True),
        (Forbidden("f", code=403), True),
        (NotReady("n"), True),
        (ExceptionGroup("both", [EnvironmentUnfit("e"), NotReady("n")]), True),
        *[
            (kind("x"), False)
            for kind in (RecoveryFailed, NoEffect, TargetVanished, UndoneEarly, Stopped, GuardTripped)
        ],
        (ExceptionGroup("both", [EnvironmentUnfit("e"), RecoveryFailed("x")]), False),
        (ValueError("v"), False),
    ],
)
def test_a_broken_experiment_is_not_taken_for_an_unfit_cluster(error: Exception, is_the_clusters: bool) -> None:
    assert (unfit_for_trial(error) is not None) is is_the_clusters


_POOL = urllib3.HTTPSConnectionPool("127.0.0.1", 6443)
_POD = "/api/v1/namespaces/tenant-a/pods/client-1:9990/proxy/state"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            urllib3.exceptions.MaxRetryError(
                _POOL, f"{_POD}?a=b", urllib3.exceptions.ReadTimeoutError(_POOL, _POD, "t")
            ),
            f"{_POD}: connected, and no answer within the time-out: is it down, or too busy?",
        ),
        (
            urllib3.exceptions.MaxRetryError(_POOL, _POD, urllib3.exceptions.ConnectTimeoutError("t")),
            f"{_POD}: no connection within the time-out: is the cluster up, and its address that of the kubeconfig?",
        ),
        (urllib3.exceptions.ProtocolError("reset"), "the connection broke: reset"),
    ],
)
def test_an_api_server_that_does_not_answer_is_told_of_in_a_sentence(error: Exception, says: str) -> None:
    assert unfit(error) == says


def test_an_earlier_run_is_set_aside_and_anything_else_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("first", "second", "third"):
        set_aside(out)
        out.mkdir()
        (out / "run.json").write_text(text)
        (out / "trials").mkdir()
    assert (tmp_path / "out.previous" / "run.json").read_text() == "second"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(Misuse, match="none of an earlier run"):
        settings(out=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_run_that_was_refused_does_not_stand_in_the_way_of_the_next(tmp_path: Path) -> None:
    earlier, out = tmp_path / "out.previous", tmp_path / "out"
    earlier.mkdir()
    (earlier / "run.json").write_text("sound")
    command = [sys.executable, "-m", "chaos.cli", "run", "--cluster", "context:nobodys", "--out", str(out)]
    for traced in ([], ["--", "--chaos-trace"]):
        refused = subprocess.run(
            [*command, *traced],
            env={**os.environ, "KUBECONFIG": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 4
        assert "no kubeconfig at /nonexistent" in refused.stdout + refused.stderr
        assert {"junit.xml", "report.json", "run.json"} <= {path.name for path in out.iterdir()}
    assert [span.name for span in read_trace(out)] == ["cluster", "report"]
    set_aside(out)
    assert not out.exists()
    assert (earlier / "run.json").read_text() == "sound"


def test_the_first_attempt_of_a_trial_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "proxy-killed"
    directory.mkdir()
    (directory / "events.jsonl").write_text("{}")
    keep_attempt(directory)
    assert [path.relative_to(directory).as_posix() for path in directory.rglob("*.jsonl")] == ["attempt-1/events.jsonl"]
    (directory / "events.jsonl").write_text("{}")
    keep_attempt(directory)
    assert len(list(directory.rglob("events.jsonl"))) == 2
    assert not list(directory.glob("*.jsonl"))
