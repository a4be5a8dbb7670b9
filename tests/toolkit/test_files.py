"""Bad experiment files: each is refused with the file, the path within it, and what would be right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.commands.experiment import find
from chaos.errors import Misuse
from chaos.resources import shipped_experiments
from chaos.toolkit import files

Experiment = dict[str, Any]
PROBES = "steady-state-hypothesis"
SHIPPED = shipped_experiments()


@pytest.fixture
def right() -> Experiment:
    found: Experiment = yaml.safe_load(next(p for p in SHIPPED if p.stem == "proxy-killed").read_text())
    return found


def put(*path: Any, value: Any) -> Callable[[Experiment], None]:
    def change(experiment: Experiment) -> None:
        place: Any = experiment
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return change


def take(*path: Any) -> Callable[[Experiment], None]:
    def change(experiment: Experiment) -> None:
        place: Any = experiment
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]

    return change


ARGUMENTS = ("method", 0, "provider", "arguments")
TOLERANCE = (PROBES, "probes", 0, "tolerance")

WRONG: dict[str, tuple[Callable[[Experiment], None], str, str]] = {
    "unknown mode": (
        put("configuration", "mode", value="sidecart"),
        "controls[0].provider.arguments",
        "unknown proxy mode 'sidecart': known are none",
    ),
    "unknown cluster": (
        put("configuration", "cluster", value="minikub"),
        "controls[0].provider.arguments",
        "unknown cluster 'minikub'",
    ),
    "unknown argument of the control": (
        put("controls", 0, "provider", "arguments", "moed", value="node"),
        "controls[0].provider.arguments",
        "did you mean mode",
    ),
    "a variable that is not there": (
        put("controls", 0, "provider", "arguments", "mode", value="${mood}"),
        "controls[0].provider.arguments.mode",
        "not in `configuration`",
    ),
    "unknown argument": (
        put(*ARGUMENTS, value={"tenent": "tenant-a"}),
        "method[0].provider.arguments.tenent",
        "did you mean tenant",
    ),
    "wrong type": (put(*ARGUMENTS, value={"signal": "KILL"}), "method[0].provider.arguments.signal", "want an integer"),
    "a boolean for a number": (
        put(*ARGUMENTS, value={"deadline": True}),
        "method[0].provider.arguments.deadline",
        "want a number",
    ),
    "wrong value": (put(*ARGUMENTS, value={"layer": "l5"}), "method[0].provider.arguments.layer", "want any, l4, l7"),
    "missing argument": (
        put("method", 0, "provider", value={"type": "python", "module": "chaos.toolkit.probes", "func": "measure"}),
        "method[0].provider.arguments.name",
        "is missing",
    ),
    "unknown function": (
        put("method", 0, "provider", "func", value="kil_proxy"),
        "method[0].provider.func",
        "did you mean kill_proxy",
    ),
    "unknown module": (
        put("method", 0, "provider", "module", value="chaos.toolkit.action"),
        "method[0].provider.module",
        "cannot be imported",
    ),
    "a probe called an action": (
        put("method", 1, "type", value="action"),
        "method[1].type",
        "watch is one of the probes",
    ),
    "a plain value for a reading": (
        put(*TOLERANCE, value=0),
        "steady-state-hypothesis.probes[0].tolerance",
        "want {type: probe",
    ),
    "a pair for a reading": (
        put(*TOLERANCE, value=[0, 1]),
        "steady-state-hypothesis.probes[0].tolerance",
        "want {type: probe",
    ),
    "a tolerance of no known type": (
        put(*TOLERANCE, "type", value="interval"),
        "steady-state-hypothesis.probes[0].tolerance",
        "unsupported",
    ),
    "a tolerance without arguments": (
        take(*TOLERANCE, "provider", "arguments"),
        "steady-state-hypothesis.probes[0].tolerance.provider.arguments",
        "is missing",
    ),
    "an unknown doubt": (
        put(*TOLERANCE, "provider", "arguments", "doubt", value="wiat"),
        "steady-state-hypothesis.probes[0].tolerance.provider.arguments.doubt",
        "did you mean wait",
    ),
    "no tolerance": (take(*TOLERANCE), "steady-state-hypothesis.probes[0].tolerance", "is missing"),
    "a misspelt rollback strategy": (
        put("runtime", "rollbacks", "strategy", value="allways"),
        "runtime.rollbacks.strategy",
        "did you mean always",
    ),
    "a misspelt hypothesis strategy": (
        put("runtime", "hypothesis", "strategy", value="continuous"),
        "runtime.hypothesis.strategy",
        "did you mean continuously",
    ),
    "no control": (put("controls", value=[]), "controls", "add the control chaos.toolkit.control"),
    "our control second": (
        lambda e: e["controls"].insert(0, {"name": "x", "provider": {"type": "python", "module": "json"}}),
        "controls[1]",
        "must be the first",
    ),
    "an empty method": (put("method", value=[]), "method", "proves nothing"),
    "no title": (take("title"), "title", "is missing"),
    "an unknown contribution": (
        put("contributions", "security", value="very"),
        "contributions.security",
        "want high, medium, low, none",
    ),
    "a method that is no list": (put("method", value={}), "method", "want a list"),
    "a reference to nothing": (put("method", 1, value={"ref": "kill"}), "method[1].ref", "no activity is named 'kill'"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_file_is_refused_with_path_and_remedy(name: str, right: Experiment, tmp_path: Path) -> None:
    change, where, says = WRONG[name]
    changed = deepcopy(right)
    change(changed)
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(changed))
    with pytest.raises(Misuse) as caught:
        files.load_checked(file)
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"{file}: {where}: ")]
    assert lines, caught.value
    assert any(says in line for line in lines), lines


def test_every_problem_is_named_at_once(right: Experiment, tmp_path: Path) -> None:
    for name in ("unknown mode", "wrong type", "a misspelt rollback strategy"):
        WRONG[name][0](right)
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(right))
    with pytest.raises(Misuse) as caught:
        files.load_checked(file)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_experiment_is_right_in_every_mode(path: Path) -> None:
    from chaos.model.modes import MODES

    experiment = files.load(path)
    for mode in MODES:
        files.load_checked(path, {files.mode_variable(experiment): mode})
    assert experiment["tags"]
    assert experiment["contributions"]
    assert experiment["rollbacks"]
    assert experiment["runtime"]["hypothesis"]["strategy"] in ("continuously", "during-method-only")
    assert experiment["runtime"]["rollbacks"]["strategy"] == "always"
    assert experiment["controls"][0]["provider"]["arguments"]["name"] == path.stem


EACH_IN_ONE_PROCESS = """
import sys
from chaostoolkit.cli import cli
sys.exit(any([cli(["--no-version-check", "validate", path], standalone_mode=False) == 1 for path in sys.argv[1:]]))
"""


def test_chaos_validate_takes_every_shipped_experiment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_ONE_PROCESS, *map(str, SHIPPED)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Validating the experiment's syntax") >= len(SHIPPED)
    assert "WARNING" not in done.stderr


def test_chaos_validate_refuses_a_mode_that_is_written_out(right: Experiment, tmp_path: Path) -> None:
    right["controls"][0]["provider"]["arguments"]["mode"] = "sidecart"
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(right))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "validate", str(file)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "unknown proxy mode 'sidecart'" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.yaml", "title: [", "not YAML"),
        ("x.json", "{", "line 1"),
        ("x.toml", "", "ends with"),
        ("x.yaml", "- 1", "holds a list"),
        ("x.yaml", "title: a\nmethod: []\ntitle: b\n", "'title' appears twice.*line 3"),
        ("x.json", '{"title": "a", "method": [{"name": "a", "name": "b"}]}', "'name' appears twice"),
    ],
)
def test_what_is_no_experiment_file_is_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(Misuse, match=says):
        files.load(file)


def test_the_command_refuses_with_exit_code_4(right: Experiment, tmp_path: Path) -> None:
    right["configuration"]["mode"] = "sidecart"
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(right))
    for action in ("validate", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "chaos.cli", "experiment", action, str(file)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            timeout=60,
        )
        assert done.returncode == 4
        assert f"{file}: controls[0].provider.arguments: mode: unknown proxy mode 'sidecart'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.json"]


def test_a_shipped_experiment_is_found_by_its_name() -> None:
    assert find(Path("proxy-killed")).name == "proxy-killed.yaml"
    with pytest.raises(Misuse, match="no such file, nor a shipped experiment"):
        find(Path("proxy-kiled"))
