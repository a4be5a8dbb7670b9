"""The known false greens of Chaos Toolkit: a plain run is green, and the gate is not, through the real library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from chaoslib.experiment import run_experiment
from chaoslib.types import Strategy

from chaos.toolkit.gate import KEY, judge_journal
from chaos.toolkit.runner import run_loaded
from chaos.verdict import Verdict
from tests.toolkit.experiments import Experiment, experiment, probe, step, tolerance

RELEASE = tuple(map(int, version("chaostoolkit-lib").split(".")[:2]))
ROOT = Path(__file__).resolve().parents[2]
FAIL, DOUBT = Verdict.FAIL, Verdict.INCONCLUSIVE
RAISING = {"name": "safeguard", "provider": {"type": "python", "module": "tests.toolkit.raising_control"}}
MISSING = {"name": "gone", "provider": {"type": "python", "module": "a_package_that_is_not_installed"}}

Done = tuple[subprocess.CompletedProcess[str], dict[str, Any]]
Case = tuple[Callable[[str, bool], Experiment], Verdict, str]

CASES: dict[str, Case] = {
    "the gate was not met and the method never ran": (
        lambda _, c: experiment(probes=[probe("steady", value=False)], control=c),
        DOUBT,
        "method, which never ran",
    ),
    "an action raised": (
        lambda _, c: experiment([step("fail"), step("act")], control=c),
        DOUBT,
        "action 'fail' raised",
    ),
    "a rollback raised": (
        lambda _, c: experiment(rollbacks=[step("fail_to_recover")], control=c),
        FAIL,
        "rollback 'fail to recover' raised",
    ),
    "a continuous hypothesis failed and recovered": (
        lambda file, c: experiment(
            [step("wait")], probes=[probe("flicker", counter=file, failing=3)], strategy="continuously", control=c
        ),
        FAIL,
        "failed 1 of",
    ),
    "a during-only hypothesis failed and recovered": (
        lambda file, c: experiment(
            [step("wait")], probes=[probe("flicker", counter=file, failing=2)], strategy="during-method-only", control=c
        ),
        FAIL,
        "failed 1 of",
    ),
    "a control raised": (lambda _, c: experiment(controls=[RAISING], control=c), DOUBT, "the safeguard did not work"),
    "a control is not installed": (
        lambda _, c: experiment(controls=[MISSING], control=c),
        DOUBT,
        "could not be loaded",
    ),
    "SIGTERM came inside an action": (
        lambda _, c: experiment([step("take_sigterm"), step("act")], control=c),
        DOUBT,
        "SIGTERM",
    ),
    "nothing was selected": (
        lambda _, c: experiment([step("select_nothing")], control=c),
        DOUBT,
        "nothing matches, so nothing would be tested",
    ),
    "no effect was seen": (
        lambda _, c: experiment([step("have_no_effect")], control=c),
        DOUBT,
        "nothing was seen to change",
    ),
    "the method is empty": (
        lambda _, c: experiment([], probes=[probe("steady")], control=c),
        DOUBT,
        "no activity of the method ran",
    ),
    "nothing was checked": (lambda _, c: experiment(control=c), DOUBT, "nothing was checked"),
    "a reading stayed in doubt": (
        lambda _, c: experiment(
            probes=[probe("reading", tolerance("at_most", limit=0.02, doubt="wait"), value=0.01, low=0.0, high=0.05)],
            control=c,
        ),
        DOUBT,
        "cannot tell",
    ),
}
case = pytest.mark.parametrize("name", list(CASES))


def library_run(found: Experiment) -> dict[str, Any]:
    strategy = Strategy.from_string(found["runtime"]["hypothesis"]["strategy"])
    journal: dict[str, Any] = run_experiment(found, settings={"runtime": found["runtime"]}, strategy=strategy)
    return journal


@case
def test_a_plain_run_is_green_where(name: str, tmp_path: Path) -> None:
    journal = library_run(CASES[name][0](str(tmp_path / "calls"), False))
    if name.startswith("SIGTERM") and RELEASE >= (1, 45):
        assert journal["status"] == "interrupted"  # the one of them that the library has mended since
        return
    assert journal["status"] == "completed"
    assert not journal["deviated"]


@case
def test_the_gate_is_not_green_where(name: str, tmp_path: Path) -> None:
    make, verdict, says = CASES[name]
    outcome = run_loaded(make(str(tmp_path / "calls"), False), out=tmp_path)
    assert outcome.gate_verdict.verdict is verdict, outcome.gate_verdict
    assert says in str(outcome.gate_verdict)
    assert outcome.path is not None
    assert json.loads(outcome.path.read_text())[KEY]["verdict"] == verdict


@case
def test_the_control_makes_a_plain_run_red_where(name: str, tmp_path: Path) -> None:
    make, verdict, says = CASES[name]
    done, journal = chaos_run(make(str(tmp_path / "calls"), True), tmp_path)
    assert done.returncode == 1, done.stderr
    assert journal[KEY]["verdict"] == verdict
    assert says in "; ".join(journal[KEY]["reasons"])
    assert says in done.stderr


def chaos_run(found: Experiment, directory: Path, *options: str) -> Done:
    """Stock `chaos run`, as a user types it."""
    file, journal = directory / "experiment.json", directory / "journal.json"
    file.write_text(json.dumps(found))
    command = [
        str(Path(sys.executable).with_name("chaos")),
        "--no-version-check",
        *options,
        "run",
        "--no-validation",
        "--journal-path",
        str(journal),
        str(file),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=directory,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done, json.loads(journal.read_text())


@pytest.mark.parametrize("options", [(), ("--no-log-file",)], ids=["log-file", "no-log-file"])
def test_what_holds_is_green_with_the_control(options: tuple[str, ...], tmp_path: Path) -> None:
    found = experiment(probes=[probe("steady")], rollbacks=[step("act")], control=True)
    done, journal = chaos_run(found, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert (journal["status"], journal[KEY]["verdict"]) == ("completed", "pass")


def test_a_swallowed_error_is_heard_without_a_log_file_and_shows_no_debug_lines(tmp_path: Path) -> None:
    found = experiment(controls=[RAISING], control=True)
    done, journal = chaos_run(found, tmp_path, "--no-log-file")
    assert done.returncode == 1
    assert journal[KEY]["heard"] == ["Before-control 'safeguard' failed: ValueError: the safeguard did not work"]
    assert "DEBUG" not in done.stderr


def test_a_control_before_ours_is_not_trusted(tmp_path: Path) -> None:
    found = experiment(probes=[probe("steady")], control=True)
    found["controls"].insert(0, {"name": "other", "provider": {"type": "python", "module": "tests.toolkit.steps"}})
    done, journal = chaos_run(found, tmp_path)
    assert done.returncode == 1
    assert "is not the first of the controls" in "; ".join(journal[KEY]["reasons"])


def test_an_unknown_mode_interrupts_before_anything_is_started(tmp_path: Path) -> None:
    found = experiment(control=True)
    found["controls"][0] = {
        "name": "sharedfate",
        "provider": {"type": "python", "module": "chaos.toolkit.control", "arguments": {"mode": "${mode}"}},
    }
    found["configuration"] = {"mode": "sidecart"}
    done, journal = chaos_run(found, tmp_path)
    assert done.returncode == 1
    assert journal["run"] == []
    assert "unknown proxy mode 'sidecart'" in "; ".join(journal[KEY]["reasons"])


def test_sigterm_inside_an_action_ends_the_experiment_with_our_control(tmp_path: Path) -> None:
    """Without it the library takes the signal for a failed action and goes on with the next."""
    _, journal = chaos_run(experiment([step("take_sigterm"), step("act")], control=True), tmp_path)
    assert journal["status"] == "interrupted"
    assert len(journal["run"]) == 1


def test_the_runtime_block_is_honoured_from_python(tmp_path: Path) -> None:
    found = experiment(probes=[probe("steady")], strategy="after-method-only", rollbacks=[step("act")])
    outcome = run_loaded(found, out=tmp_path)
    assert outcome.journal is not None
    assert outcome.journal["steady_states"]["before"] is None
    assert outcome.journal["steady_states"]["after"]["steady_state_met"]
    assert outcome.gate_verdict.verdict is Verdict.PASS


def test_rollbacks_are_played_although_the_experiment_was_interrupted(tmp_path: Path) -> None:
    found = experiment([step("take_sigterm")], rollbacks=[step("act")], control=True)
    del found["runtime"]
    outcome = run_loaded(found, out=tmp_path)
    assert outcome.journal is not None
    assert [run["status"] for run in outcome.journal["rollbacks"]] == ["succeeded"]


def test_a_deviation_fails(tmp_path: Path) -> None:
    outcome = run_loaded(
        experiment(probes=[probe("flicker", counter=str(tmp_path / "calls"), failing=2)]), out=tmp_path
    )
    assert outcome.gate_verdict.verdict is FAIL
    assert "did not hold after the method" in str(outcome.gate_verdict)


def test_no_journal_is_inconclusive() -> None:
    assert judge_journal(None).verdict is DOUBT
