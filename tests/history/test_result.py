"""A trial's result is read as it was written, and what is none is refused with the file's name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.history.files import replacing, write_whole
from chaos.history.result import RESULT_FILE, TrialResult, results_of

RESULT = TrialResult(
    mode="node",
    scenario="proxy-killed",
    target="ns/pod[proxy]",
    seed=7,
    seconds=9.5,
    predicted={"hurt": ["a -> b"], "unhurt": []},
    observed={"hurt": ["a -> b"], "unhurt": [], "inconclusive": []},
    measures={"requests lost": {"value": 3.0, "low": 1.0, "high": 4.0, "unit": "requests"}},
    verdict="pass",
    reason="as expected",
    history="trials/node/proxy-killed",
    judgement={"verdict": "pass"},
)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = tmp_path / "trials" / "node" / "proxy-killed"
    directory.mkdir(parents=True)
    RESULT.write(directory)
    (read,) = results_of(tmp_path)
    assert read == RESULT
    assert read.directory == directory
    assert "directory" not in json.loads((directory / RESULT_FILE).read_text())


def test_what_json_cannot_say_is_read_as_nothing_known(tmp_path: Path) -> None:
    replace(RESULT, measures={"x": {"value": float("nan"), "low": None, "high": 1.0, "unit": "s"}}).write(tmp_path)
    assert TrialResult.read(tmp_path / RESULT_FILE).measures["x"]["value"] is None


@pytest.mark.parametrize(
    "edit",
    [
        {"verdict": "passed"},
        {"verdict": None},
        {"seed": "x"},
        {"seconds": None},
        {"predicted": {}},
        {"observed": []},
        {"measures": [1]},
        {"measures": {"x": 3}},
        {"judgement": "fine"},
    ],
)
def test_what_is_no_result_is_refused_with_the_files_name(tmp_path: Path, edit: dict[str, Any]) -> None:
    RESULT.write(tmp_path)
    path = tmp_path / RESULT_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    with pytest.raises(Misuse, match=RESULT_FILE):
        TrialResult.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_what_is_no_object_is_refused_with_the_files_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / RESULT_FILE
    path.write_text(text)
    with pytest.raises(Misuse, match=RESULT_FILE):
        TrialResult.read(path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_whole(path, "old")
    with pytest.raises(TypeError), replacing(path) as fresh:
        fresh.write_bytes(b"half" + "text")  # type: ignore[operator]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
