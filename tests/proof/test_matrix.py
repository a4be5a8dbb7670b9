"""Runs of the whole matrix are counted as they were: a wrong trial is seen, an observation is counted once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.observation import covered
from proof.matrix import Made, Trial, outside, page, read


def trial(**given: object) -> dict[str, object]:
    return {
        "mode": "node",
        "scenario": "proxy-killed",
        "verdict": "pass",
        "seconds": 9.0,
        "predicted": {"hurt": ["a"], "unhurt": ["c"]},
        "observed": {"hurt": ["a"], "unhurt": ["c"]},
        **given,
    }


def made(directory: Path, *trials: dict[str, object], unfinished: list[str] | None = None) -> Made:
    directory.mkdir(exist_ok=True)
    (directory / "report.json").write_text(
        json.dumps({"seconds": 30.0, "trials": list(trials), "unfinished": unfinished or []})
    )
    return read(directory)


def test_windows_that_overlap_count_once() -> None:
    assert covered([(10, 20), (0, 12), (15, 18), (30, 31)]) == 21
    assert covered([]) == 0


def test_a_trial_that_fails_or_finds_hurt_whom_the_model_spares_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "idle-1" / "trials" / "node" / "proxy-killed" / "attempt-1").mkdir(parents=True)
    sound = made(tmp_path / "idle-1", trial())
    assert [one.wrong for one in sound.trials] == [False]
    odd = made(
        tmp_path / "loaded-1",
        trial(verdict="fail"),
        trial(observed={"hurt": ["a", "c"], "unhurt": []}),
        trial(verdict="inconclusive"),
    )
    assert (odd.kind, [one.wrong for one in odd.trials]) == ("loaded", [True, True, False])
    text = page([sound, odd], machine="here")
    assert "| 1 | default matrix, nothing else runs | 1 | 1 | 0 | 0 | 1 |" in text
    assert "| 1 | default matrix, a loop of arithmetic on each core | 3 | 3 | 2 | 1 | 0 |" in text
    assert "| `proxy-killed[node]` | loaded | pass | c | 1 |" in text


def test_a_trial_that_came_to_no_result_is_wrong(tmp_path: Path) -> None:
    run = made(tmp_path / "all-1", trial(), unfinished=["noisy-bodies[sidecar]"])
    assert [(one.name, one.wrong) for one in run.trials] == [
        ("proxy-killed[node]", False),
        ("noisy-bodies[sidecar]", True),
    ]


def test_a_trial_is_observed_for_its_windows_or_for_all_of_it_where_it_judges_no_traffic() -> None:
    run = Made("idle", 30.0, (Trial("a", "pass", 10.0, 6.0, ()), Trial("job", "pass", 4.0, 0.0, ())))
    assert run.ratio == 3.0


def test_memory_is_that_of_a_process_and_of_its_children() -> None:
    child = "x = bytearray(60 << 20); x[::4096] = b'1' * len(x[::4096]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        held = outside(process.pid)
        process.stdin.close()
    assert 60 < held < 200
