"""A sealed trial: whatever was touched since is told, and `sharedfate check` never says pass of it nor raises."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chaos.engine.check import check_run
from chaos.history.model import EventKind
from chaos.history.result import TrialResult
from chaos.history.seal import SEAL_FILE, detect_touched, seal
from chaos.history.store import HistoryWriter
from chaos.model.flow import WindowKind
from chaos.verdict import Expectation, Thresholds, judge
from proof.synthetic import HarmDone, Noise, Plan, flows, view

A, B = flows(2)
TRIAL = Path("trials/node/proxy-paused")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one trial that passes."""
    run = tmp_path_factory.mktemp("run")
    seen = view(np.random.default_rng(1), Plan(fault=10.0), Noise(), {A: HarmDone(error_share=1.0), B: HarmDone()})
    expectation, thresholds = Expectation({A: 1.0, B: 0.0}), Thresholds(bootstrap=0)
    with HistoryWriter(run / TRIAL, {"mode": "node", "scenario": "proxy-paused", "seed": 1}) as writer:
        writer.note(expectation=expectation.as_dict(), thresholds=thresholds.as_dict())
        for flow, rows in seen.flows.items():
            numbered = rows.copy()
            numbered["flow"] = writer.flow(flow)
            writer.append(numbered)
        for window in seen.windows:
            data = {"kind": str(window.kind), "begin": window.begin, "end": window.end}
            writer.event(EventKind.WINDOW, data, at=window.end)
        fault = seen.windows_of(WindowKind.FAULT)[0]
        writer.event(EventKind.FAULT, {"phase": "injected"}, at=fault.begin)
        writer.event(EventKind.FAULT, {"phase": "recovered"}, at=fault.end)
    said = judge(seen, expectation, thresholds).as_dict()
    observed = {"hurt": [str(A)], "unhurt": [str(B)], "inconclusive": []}
    TrialResult(
        "node", "proxy-paused", "t", 1, 9.0, {"hurt": [str(A)], "unhurt": [str(B)]}, observed, {}, said["verdict"],
        said["reason"], judgement=said,
    ).write(run / TRIAL)  # fmt: skip
    return run


def verdicts(run: Path) -> list[str]:
    return [now.partition(":")[0] for _, _, now in check_run(run)]


def test_a_run_that_nobody_touched_is_judged_as_it_was(run: Path) -> None:
    assert verdicts(run) == ["pass"]


def _cut(name: str, keep: float) -> Callable[[Path], None]:
    def edit(trial: Path) -> None:
        data = (trial / name).read_bytes()
        (trial / name).write_bytes(data[: int(len(data) * keep)])

    return edit


def _claim(trial: Path) -> None:
    result = json.loads((trial / "result.json").read_text())
    result["judgement"]["checks"] = [{"name": "x", "verdict": "pass", "sentence": "y", "value": 0.0, "unit": ""}]
    (trial / "result.json").write_text(json.dumps(result))


EDITS: dict[str, Callable[[Path], None]] = {
    "events cut": _cut("events.jsonl", 0.5),
    "samples torn": _cut("samples.arrows", 0.9),
    "header emptied": _cut("trial.json", 0.0),
    "a claim by hand": _claim,
    "result missing": lambda trial: (trial / "result.json").unlink(),
    "seal missing": lambda trial: (trial / SEAL_FILE).unlink(),
    "a file more": lambda trial: (trial / "more").write_text(""),
}


@pytest.mark.parametrize("edit", list(EDITS))
def test_a_trial_that_was_touched_is_inconclusive(run: Path, tmp_path: Path, edit: str) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    EDITS[edit](copied / TRIAL)
    assert detect_touched(copied / TRIAL)
    assert verdicts(copied) == ["inconclusive"]


@pytest.mark.parametrize("edit", ["events cut", "samples torn", "header emptied"])
def test_sealed_again_or_not_a_torn_history_is_no_pass(run: Path, tmp_path: Path, edit: str) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    EDITS[edit](copied / TRIAL)
    seal(copied / TRIAL)
    assert verdicts(copied) == ["inconclusive"]


def test_a_restart_that_failed_a_trial_fails_it_again(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    result = json.loads((copied / TRIAL / "result.json").read_text())
    (copied / TRIAL / "result.json").write_text(json.dumps({**result, "verdict": "fail", "reason": "restarted"}))
    seal(copied / TRIAL)
    assert list(check_run(copied)) == [("proxy-paused[node]", "fail: restarted", "fail: restarted")]


def test_a_trial_that_the_report_names_and_that_is_gone_is_inconclusive(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "report.json").write_text(json.dumps({"trials": [{"mode": "none", "scenario": "proxy-killed"}]}))
    assert verdicts(copied) == ["pass", "inconclusive"]


def mutate(trial: Path, chance: random.Random) -> None:
    """One change of one file: bytes flipped, cut out, doubled, or all of it replaced."""
    path = chance.choice(sorted(path for path in trial.iterdir() if path.is_file()))
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    length = chance.randint(1, 40)
    match chance.randrange(5):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            del data[at : at + length]
        case 2:
            data[at:at] = data[at : at + length]
        case 3:
            data = data[:at]
        case 4:
            data = bytearray(chance.choice([b"", b"[]", b"{}", b"null", b"NaN", b"[" * 100_000, bytes(range(256))]))
    if bytes(data) != path.read_bytes():
        path.write_bytes(bytes(data))
    else:
        path.unlink()


@pytest.mark.parametrize("resealed", [False, True])
def test_no_mutation_raises_and_none_that_is_not_sealed_again_passes(run: Path, tmp_path: Path, resealed: bool) -> None:
    chance = random.Random(17)
    for number in range(25 if resealed else 150):
        copied = shutil.copytree(run, tmp_path / str(number))
        mutate(copied / TRIAL, chance)
        if resealed:
            seal(copied / TRIAL)
            list(check_run(copied))
        else:
            assert verdicts(copied) == ["inconclusive"]
        shutil.rmtree(copied)
