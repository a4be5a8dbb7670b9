"""The command as a gate calls it: its exit codes, and what it says of errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli import main
from chaos.engine import clean
from chaos.errors import Misuse, RecoveryFailed
from chaos.report import write_reports
from tests.report.synthetic import make_run


def test_reports_of_a_saved_run_are_written_again_with_the_time_that_it_took(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    write_reports(tmp_path, seconds=61.5)
    (tmp_path / "report.html").unlink()
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").exists()
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] == 61.5


def test_a_run_without_reports_is_said_to_have_taken_as_long_as_its_trials(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node", "sidecar"))
    assert CliRunner().invoke(main, ["report", str(tmp_path)]).exit_code == 0
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] == 25.0


def test_the_exit_code_of_compare_is_0_1_or_4(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    write_reports(tmp_path, seconds=1)
    worse = tmp_path / "worse.json"
    report = json.loads((tmp_path / "report.json").read_text())
    report["trials"][0]["verdict"] = "inconclusive"
    worse.write_text(json.dumps(report))
    policy = tmp_path / "policy.yaml"
    policy.write_text("may_be_inconclusive: [{mode: node}]")

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
        return result.exit_code, result.output

    assert run(tmp_path, tmp_path) == (0, "nothing got worse\n")
    code, said = run(tmp_path, worse)
    assert code == 1
    assert "pass -> inconclusive" in said
    assert run(tmp_path, worse, "--policy", policy)[0] == 0
    code, said = run(tmp_path, tmp_path / "missing.json")
    assert code == 4
    assert "missing.json: no such file" in said


def test_several_errors_are_a_line_each_and_one_that_nobody_meant_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures: list[Exception] = [
        Misuse("namespace shop is not ours"),
        ExceptionGroup("two faults", [RecoveryFailed("gone")]),
    ]

    def fails(*_: object, **__: object) -> list[str]:
        raise ExceptionGroup("removed 3 things, but 2 things were not undone", failures)

    monkeypatch.setattr(clean, "clean_cluster", fails)
    said = CliRunner().invoke(main, ["clean"])
    assert (said.exit_code, said.output.splitlines()) == (
        1,
        ["sharedfate: removed 3 things, but 2 things were not undone", "  namespace shop is not ours", "  gone"],
    )
    failures.append(KeyError("uid"))
    assert isinstance(CliRunner().invoke(main, ["clean"]).exception, ExceptionGroup)
