"""`pytest experiments/`: each file an item, one for each mode that is asked for; wrong files are collection errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toolkit.experiments import CONTROL, experiment, probe, step

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def directory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = pytester.path / "experiments"
    found.mkdir()
    return found


def test_files_are_items_and_the_gate_decides(pytester: pytest.Pytester, directory: Path) -> None:
    (directory / "good.json").write_text(json.dumps(experiment(probes=[probe("steady")], control=True)))
    (directory / "green-for-a-wrong-reason.json").write_text(json.dumps(experiment([step("fail")], control=True)))
    (directory / "other.json").write_text("{}")
    result = pytester.runpytest_subprocess("experiments", "-v", "--chaos-inconclusive=fail")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*inconclusive", "*action 'fail' raised*", "*journal *"])


def test_a_doubtful_experiment_may_be_skipped(pytester: pytest.Pytester, directory: Path) -> None:
    (directory / "doubtful.json").write_text(json.dumps(experiment([step("fail")], control=True)))
    result = pytester.runpytest_subprocess("experiments", "--chaos-inconclusive=skip")
    result.assert_outcomes(skipped=1)


def test_a_wrong_file_is_a_collection_error_with_its_path(pytester: pytest.Pytester, directory: Path) -> None:
    wrong = experiment([{**step("act"), "type": "acton"}], control=True)
    (directory / "wrong.json").write_text(json.dumps(wrong))
    result = pytester.runpytest_subprocess("experiments/wrong.json")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*wrong.json: method[[]0].type: is 'acton': want action or probe*"])


def test_each_mode_that_is_asked_for_is_an_item(pytester: pytest.Pytester, directory: Path) -> None:
    control = json.loads(json.dumps(CONTROL))
    control["provider"]["arguments"]["mode"] = "${mode}"
    found = experiment(controls=[control])
    found["configuration"] = {"mode": "sidecar"}
    (directory / "claim.json").write_text(json.dumps(found))
    result = pytester.runpytest_subprocess("experiments", "--collect-only", "-q", "--chaos-modes=sidecar,node")
    result.stdout.fnmatch_lines(["experiments/claim.json::sidecar", "experiments/claim.json::node"])
