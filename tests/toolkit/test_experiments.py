"""The shipped experiments on the embedded cluster, in modes where their claims hold and where they do not.

A busy machine may leave the judge without an answer; it must never turn the answer round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.toolkit.gate import KEY

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"

Journals = Mapping[tuple[str, str], dict[str, Any]]  # (experiment, mode) -> its last journal


def pytest_run(
    out: Path, names: list[str], modes: str, inconclusive: str
) -> tuple[subprocess.CompletedProcess[str], Journals]:
    """`pytest experiments/…`, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        *(str(EXPERIMENTS / f"{name}.yaml") for name in names),
        "-q",
        "-p",
        "no:cacheprovider",
        f"--chaos-modes={modes}",
        f"--chaos-out={out}",
        f"--chaos-inconclusive={inconclusive}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=out.parent, check=False)
    journals = {}
    for path in sorted((out / "trials").glob("*/*/journal.json"), key=lambda path: path.stat().st_mtime):
        journal = json.loads(path.read_text())
        name = journal["experiment"]["controls"][0]["provider"]["arguments"]["name"]
        journals[name, journal[KEY]["mode"]] = journal
    return done, journals


def verdict(journal: dict[str, Any]) -> str:
    return f"{journal[KEY]['verdict']}: {'; '.join(journal[KEY]['reasons'])}"


CONTRARY = {  # what a case of the short test must not come to
    ("job-completes", "sidecar"): "pass",
    ("job-completes", "node"): "fail",
    ("footprint", "sidecar"): "pass",
    ("footprint", "node"): "fail",
    ("proxy-killed", "sidecar"): "fail",
    ("proxy-killed", "node"): "pass",
}


@pytest.mark.privileged
@pytest.mark.judged
@pytest.mark.parametrize(
    "names", [["job-completes"], pytest.param(["job-completes", "footprint", "proxy-killed"], marks=pytest.mark.slow)]
)
def test_a_claim_holds_with_a_proxy_per_pod_or_with_one_per_node_and_not_with_the_other(
    names: list[str], tmp_path: Path
) -> None:
    done, journals = pytest_run(tmp_path / "out", names, "sidecar,node", "fail")
    assert set(journals) == {case for case in CONTRARY if case[0] in names}, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.returncode == 1
    for journal in journals.values():
        assert (Path(journal[KEY]["history"]) / "samples.arrows").is_file()
    run = json.loads((tmp_path / "out" / "run.json").read_text())["run"]
    assert not (Path("/run/sharedfate") / f"sf-{run}").exists()
    told = [case for case, journal in journals.items() if journal[KEY]["verdict"] != "inconclusive"]
    assert told, [(case, verdict(journal)) for case, journal in journals.items()]
    for name, mode in [case for case, journal in journals.items() if journal[KEY]["verdict"] == CONTRARY[case]]:
        # A machine that stalls for seconds starves bystanders too: only what comes again is the mesh's doing.
        _, again = pytest_run(tmp_path / f"again-{name}", [name], mode, "fail")
        assert again[name, mode][KEY]["verdict"] != CONTRARY[name, mode], verdict(again[name, mode])


OUTCOMES = [  # experiment, mode where its claim holds, mode where it does not
    ("job-completes", "native-sidecar", "sidecar"),
    ("proxy-killed", "sidecar", "node"),
    ("proxy-paused", "sidecar", "node"),
    ("proxy-partitioned", "sidecar", "node"),
    ("proxy-throttled", "sidecar", "node"),
    ("noisy-neighbour", "sidecar", "node"),
    ("footprint", "node", "sidecar"),
    ("identities-exposed", "sidecar", "node"),
    ("proxy-replaced", "node", "sidecar"),
    ("proxy-upgraded", "node", "sidecar"),
    ("proxy-crash-loop", "sidecar", "node"),
    ("proxy-out-of-memory", "sidecar", "node"),
    ("control-plane-down", "sidecar", "none"),
    ("saturation", "node", "sidecar"),
    ("job-starts-before-proxy", "native-sidecar", "sidecar"),
]


def test_every_shipped_experiment_is_run() -> None:
    assert {name for name, _, _ in OUTCOMES} == {path.stem for path in EXPERIMENTS.glob("*.yaml")}


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize(("name", "holds", "fails"), OUTCOMES, ids=[name for name, _, _ in OUTCOMES])
def test_a_claim_holds_in_one_mode_and_not_in_the_other(name: str, holds: str, fails: str, tmp_path: Path) -> None:
    done, journals = pytest_run(tmp_path / "out", [name], f"{holds},{fails}", "retry")
    assert set(journals) == {(name, holds), (name, fails)}, done.stdout[-4000:] + done.stderr[-2000:]
    assert journals[name, holds][KEY]["verdict"] == "pass", verdict(journals[name, holds])
    assert journals[name, fails][KEY]["verdict"] == "fail", verdict(journals[name, fails])


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [("sidecar", 0), ("node", 1)])
def test_stock_chaos_run_needs_nothing_but_the_file(mode: str, code: int, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("chaos")),
        "--no-version-check",
        "run",
        str(EXPERIMENTS / "proxy-paused.yaml"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "SHAREDFATE_MODE": mode},
    )
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert done.returncode == code, verdict(journal)
    beside = tmp_path / "sharedfate-out" / f"proxy-paused-{mode}" / "trials" / mode / "proxy-paused"
    assert json.loads((beside / "journal.json").read_text())[KEY] == journal[KEY]
    assert (beside / "samples.arrows").is_file()


def run_written(
    experiment: dict[str, Any], directory: Path, *, seconds: float = 200
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`sharedfate experiment run` of an experiment that a test wrote; and its journal."""
    name = experiment["controls"][0]["provider"]["arguments"]["name"]
    file = directory / f"{name}.json"
    file.write_text(json.dumps(experiment))
    done = subprocess.run(
        [sys.executable, "-m", "chaos.cli", "experiment", "run", str(file)],
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=directory,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    (found,) = (directory / "sharedfate-out").glob("*/trials/*/*/journal.json")
    return done, json.loads(found.read_text())


def written(name: str, mode: str, *method: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    control = {
        "type": "python",
        "module": "chaos.toolkit.control",
        "arguments": {"mode": mode, "name": name, **arguments},
    }
    undo = {"type": "python", "module": "chaos.toolkit.actions", "func": "recover_all"}
    return {
        "title": name,
        "description": name,
        "controls": [{"name": "sharedfate", "provider": control}],
        "method": list(method),
        "rollbacks": [{"type": "action", "name": "undo", "provider": undo}],
    }


def act(func: str, module: str = "chaos.toolkit.actions", **arguments: Any) -> dict[str, Any]:
    return {
        "type": "action",
        "name": func,
        "provider": {"type": "python", "module": module, "func": func, "arguments": arguments},
    }


@pytest.mark.privileged
@pytest.mark.slow
def test_an_overload_that_nothing_notices_is_not_green(tmp_path: Path) -> None:
    """In the third of a second that it is given, the ramp does not come to where a path gives out: the real fault says
    so.
    """
    weak = act("overload_path", pairs=0, start_rate=10.0, max_rate=4000.0, saturate_seconds=0.3)
    done, journal = run_written(written("no-effect", "none", weak), tmp_path)
    assert done.returncode == 1, done.stderr
    assert journal[KEY]["verdict"] == "inconclusive"
    assert "its path carried all the load" in done.stdout


@pytest.mark.privileged
@pytest.mark.slow
def test_a_fault_undoes_itself_at_its_deadline(tmp_path: Path) -> None:
    done, journal = run_written(
        written("deadline", "sidecar", act("pause_proxy", deadline=4.0), act("hold", seconds=8.0)), tmp_path
    )
    events = [json.loads(line) for line in (Path(journal[KEY]["history"]) / "events.jsonl").read_text().splitlines()]
    notes = [event["data"].get("chaos toolkit", "") for event in events if event["kind"] == "note"]
    assert "pause: undone by its deadline of 4 s" in notes, done.stderr
    assert journal["rollbacks"][0]["output"] == 0  # nothing was left to undo
    assert not journal[KEY]["problems"]


@pytest.mark.privileged
@pytest.mark.slow
def test_the_guard_aborts_when_a_bystander_is_hurt_whom_the_model_spares(tmp_path: Path) -> None:
    steps = "tests.toolkit.steps"
    done, journal = run_written(
        written(
            "guard",
            "sidecar",
            act("pause_proxy"),
            act("pause_secretly", steps, tenant="tenant-c"),
            act("hold", seconds=60.0),
            act("act", steps),
        ),
        tmp_path,
    )
    assert done.returncode == 1, done.stderr
    assert (journal["status"], journal[KEY]["verdict"]) == ("interrupted", "fail")
    assert "aborted by the guard: tenant-c/client -> tenant-c/server hurt" in done.stdout
    assert [run["activity"]["name"] for run in journal["run"]] == ["pause_proxy", "pause_secretly", "hold"]
    assert journal["rollbacks"][0]["output"] == 2  # both faults were in force
