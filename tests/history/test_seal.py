"""A sealed trial: whatever was touched since is told, and `sharedfate check` never says pass of it nor raises."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chaos.engine.check import check_run
from chaos.history.model import EventKind, Samples
from chaos.history.result import TrialResult
from chaos.history.seal import SEAL_FILE, detect_touched, seal
from chaos.history.store import SAMPLES_FILE, SCHEMA, History, HistoryWriter, batch_of
from chaos.model.flow import WindowKind
from chaos.verdict import Expectation, Thresholds, judge
from proof.synthetic import HarmDone, Noise, Plan, flows, view

A, B = flows(2)
TRIAL = Path("trials/node/proxy-paused")
PLACE = {"mode": "node", "scenario": "proxy-paused"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one trial that passes."""
    return made(tmp_path_factory.mktemp("run"))


def made(run: Path, *, verdict: str = "", reason: str = "") -> Path:
    """Make a run of one trial whose flows pass; `verdict` and `reason` are what the trial as a whole came to."""
    seen = view(np.random.default_rng(1), Plan(fault=10.0), Noise(), {A: HarmDone(error_share=1.0), B: HarmDone()})
    expectation, thresholds = Expectation({A: 1.0, B: 0.0}), Thresholds(bootstrap=0)
    with HistoryWriter(run / TRIAL, {**PLACE, "seed": 1, "run": "r1"}) as writer:
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
        result = TrialResult(
            "node", "proxy-paused", "t", 1, 9.0, {"hurt": [str(A)], "unhurt": [str(B)]}, observed, {},
            verdict or said["verdict"], reason or said["reason"], judgement=said,
        )  # fmt: skip
        writer.end({"verdict": result.verdict, "reason": result.reason}, result=result.text())
    result.write(run / TRIAL)
    (run / "run.json").write_text(json.dumps({"run": "r1"}))
    (run / "report.json").write_text(json.dumps({"trials": [{**PLACE, "verdict": result.verdict}]}))
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
    "a file more": lambda trial: (trial / "more").touch(),
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


def test_a_restart_that_failed_a_trial_fails_it_again(tmp_path: Path) -> None:
    failed = made(tmp_path, verdict="fail", reason="restarted")
    assert list(check_run(failed)) == [("proxy-paused[node]", "fail: restarted", "fail: restarted")]


def _report(*trials: dict[str, str]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        (run / "report.json").write_text(json.dumps({"trials": list(trials)}))

    return edit


def _moved(to: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        (run / to).parent.mkdir(parents=True, exist_ok=True)
        (run / TRIAL).rename(run / to)

    return edit


MOVES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a report as it is": (_report({**PLACE, "verdict": "pass"}), ["pass"]),
    "to another mode": (_moved("trials/sidecar/proxy-paused"), ["inconclusive", "inconclusive"]),
    "to another scenario": (_moved("trials/node/proxy-killed"), ["inconclusive", "inconclusive"]),
    "copied": (lambda run: shutil.copytree(run / TRIAL, run / "trials/none/proxy-paused"), ["pass", "inconclusive"]),
    "its report deleted": (lambda run: (run / "report.json").unlink(), ["pass", "inconclusive"]),
    "its report emptied": (lambda run: (run / "report.json").write_text(""), ["pass", "inconclusive"]),
    "its report of another shape": (lambda run: (run / "report.json").write_text("[1]"), ["pass", "inconclusive"]),
    "of another run": (lambda run: (run / "run.json").write_text('{"run": "r2"}'), ["inconclusive"]),
    "of one of the workers' runs": (lambda run: (run / "run.json").write_text('{"runs": ["r0", "r1"]}'), ["pass"]),
    "of a run that is not known": (lambda run: (run / "run.json").unlink(), ["inconclusive"]),
    "its report says otherwise": (_report({**PLACE, "verdict": "fail"}), ["inconclusive"]),
    "its report does not name it": (_report(), ["inconclusive"]),
    "one that the report names is gone": (
        _report({**PLACE, "verdict": "pass"}, {"mode": "none", "scenario": "proxy-killed", "verdict": "pass"}),
        ["pass", "inconclusive"],
    ),
}


@pytest.mark.parametrize("move", list(MOVES))
def test_a_trial_that_is_not_where_it_was_made_or_not_as_reported_is_inconclusive(
    run: Path, tmp_path: Path, move: str
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    edit, expected = MOVES[move]
    edit(copied)
    assert verdicts(copied) == expected


# Sealed again by whoever edited them: what contradicts the closing event, or no writer could have written.


def _events(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Path], None]:
    def edit(trial: Path) -> None:
        lines = [json.loads(line) for line in (trial / "events.jsonl").read_text().splitlines()]
        (trial / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in change(lines)))

    return edit


def _samples(change: Callable[[Samples], Samples]) -> Callable[[Path], None]:
    def edit(trial: Path) -> None:
        samples = change(History.load(trial).samples)
        with pa.OSFile(str(trial / SAMPLES_FILE), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
            stream.write_batch(batch_of(samples))

    return edit


def _strange(name: str, value: int) -> Callable[[Samples], Samples]:
    def change(samples: Samples) -> Samples:
        changed = samples.copy()
        changed[name][7] = value
        return changed

    return change


def _stamped(samples: Samples) -> Samples:
    changed = samples.copy()
    changed["outcome"][np.flatnonzero(samples["outcome"])[:1]] = 0
    return changed


def _exchanged(samples: Samples) -> Samples:
    changed = samples.copy()
    changed["flow"][samples["flow"] == 0], changed["flow"][samples["flow"] == 2] = 2, 0
    return changed


def _document(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(trial: Path) -> None:
        document = json.loads((trial / name).read_text())
        change(document)
        (trial / name).write_text(json.dumps(document, indent=1, sort_keys=name == "result.json") + "\n")

    return edit


CONTRADICTIONS: dict[str, Callable[[Path], None]] = {
    "closing event cut": _events(lambda lines: lines[:-1]),
    "an event cut out": _events(lambda lines: lines[:1] + lines[2:]),
    "an event added": _events(lambda lines: [lines[0], *lines]),
    "an event after the end": _events(lambda lines: [*lines, lines[0]]),
    "counts of the closing event": _events(lambda lines: [*lines[:-1], {**lines[-1], "data": {"end": True}}]),
    "samples cut": _samples(lambda samples: samples[:-50]),
    "failed samples left out": _samples(lambda samples: samples[samples["outcome"] == 0]),
    "a sample twice": _samples(lambda samples: np.concatenate([samples, samples[:1]])),
    "outcome 99": _samples(_strange("outcome", 99)),
    "cause 200": _samples(_strange("cause", 200)),
    "a flow that is not there": _samples(_strange("flow", 77)),
    "a failure stamped as answered": _samples(lambda samples: _stamped(samples)),
    "another instant": _samples(_strange("done", 7)),
    "samples of two flows exchanged": _samples(lambda samples: _exchanged(samples)),
    "an event's time": _events(lambda lines: [{**lines[0], "at": 7}, *lines[1:]]),
    "what an event says": _events(lambda lines: [lines[0], {**lines[1], "data": {}}, *lines[2:]]),
    "the margins": _document("trial.json", lambda header: header["thresholds"].update(errors_margin=0.5)),
    "what was expected": _document("trial.json", lambda header: header["expectation"].clear()),
    "the seed": _document("trial.json", lambda header: header.update(seed=2)),
    "the reason": _document("result.json", lambda result: result.update(reason="all is well")),
    "what was observed": _document("result.json", lambda result: result["observed"].update(hurt=[])),
    "the judge's figures": _document("result.json", lambda result: result["judgement"].update(flows=[])),
    "the target": _document("result.json", lambda result: result.update(target="another")),
}


@pytest.mark.parametrize("edit", list(CONTRADICTIONS))
def test_what_contradicts_the_closing_event_is_inconclusive_though_sealed_again(
    run: Path, tmp_path: Path, edit: str
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    CONTRADICTIONS[edit](copied / TRIAL)
    seal(copied / TRIAL)
    assert verdicts(copied) == ["inconclusive"]


def mutated(data: bytes, chance: random.Random) -> bytes | None:
    """One change of a file: bytes flipped, cut out, doubled, or all of it replaced; None: the file is removed."""
    at, length = chance.randrange(len(data)), chance.randint(1, 40)
    match chance.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + data[at : at + length] + data[at:]
        case 3:
            return data[:at]
        case 4:
            return chance.choice([b"", b"[]", b"{}", b"null", b"NaN", b"[" * 100_000, bytes(range(256))])
    return None


def edited(value: Any, chance: random.Random) -> Any:
    """One value somewhere in a JSON document made another: of another type, out of range, or gone."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        if chance.random() < 0.15:
            return {key: one for key, one in value.items() if key != name}
        return {**value, name: edited(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], edited(value[at], chance), *value[at + 1 :]]
    return chance.choice([None, -1, 2**70, 1e308, float("nan"), "", "pass", [], {}, True, [[]], {"end": True}])


def test_of_a_thousand_mutations_none_passes_and_none_raises(run: Path, tmp_path: Path) -> None:
    trial = shutil.copytree(run, tmp_path / "run") / TRIAL
    whole = {path: path.read_bytes() for path in sorted(trial.iterdir()) if path.is_file()}
    chance, passed = random.Random(17), 0
    for _ in range(1000):
        path = chance.choice(list(whole))
        if (data := mutated(whole[path], chance)) is None:
            path.unlink()
        else:
            path.write_bytes(data)
        if data != whole[path]:
            passed += verdicts(tmp_path / "run") != ["inconclusive"]
        path.write_bytes(whole[path])
    assert passed == 0
    assert verdicts(tmp_path / "run") == ["pass"]


def _alike(one: History, other: History) -> bool:
    closing, closed = one.events[-1], other.events[-1]
    return (
        bool((one.samples == other.samples).all())
        and (*one.events[:-1], replace(closing, at=0)) == (*other.events[:-1], replace(closed, at=0))
        and one.header == other.header
    )


def test_a_mutation_that_is_sealed_again_is_no_pass_and_never_raises(run: Path, tmp_path: Path) -> None:
    """But for what nothing rests on: bytes between an Arrow file's columns, and the closing event's own time."""
    trial = shutil.copytree(run, tmp_path / "run") / TRIAL
    whole = {path: path.read_bytes() for path in sorted(trial.iterdir()) if path.is_file() and path.name != SEAL_FILE}
    recorded = History.load(trial)
    chance, texts = random.Random(18), [path for path in whole if path.suffix == ".json"]
    passed = []
    for number in range(300):
        path = chance.choice(list(whole) if number % 3 == 0 else texts)
        if number % 3 == 0:
            path.write_bytes(mutated(whole[path], chance) or b"")
        else:
            path.write_text(json.dumps(edited(json.loads(whole[path]), chance), indent=1))
        seal(trial)
        (said,) = verdicts(tmp_path / "run")
        if said != "inconclusive" and path.read_bytes() != whole[path] and not _alike(History.load(trial), recorded):
            passed.append((number, path.name, said))
        path.write_bytes(whole[path])
    assert not passed
