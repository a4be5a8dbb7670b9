"""The shell of the CI files, run as far as it can be here: in a fresh clone of another repository, with the steps'
environment and nothing of this checkout but the installation.

`pip install`, `apt-get` and `sudo` are told apart and written down; everything else is real.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((TOP / "action.yml").read_text())
WORKFLOW = yaml.safe_load((TOP / "examples" / "github-workflow.yml").read_text())
GITLAB = yaml.safe_load((TOP / "examples" / "gitlab-ci.yml").read_text())
EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
EVIL = '"; touch broken; echo $(touch broken) "'

TELL = 'printf "%s %s\\n" "${0##*/}" "$*" >> "$CALLS"\n'
STUBS = {
    "sudo": TELL + 'while [[ "$1" == -* ]]; do shift; done\nexec "$@"\n',
    "apt-get": TELL,
    "pip": TELL,
    "curl": TELL + "exit 22\n",
    "gh": TELL + 'case "$*" in *"run list"*) echo 42;; *) mkdir -p baseline; echo "{}" > baseline/report.json;; esac\n',
    "python": f'if [ "$1 $2" != "-m pip" ]; then exec {sys.executable} "$@"; fi\n' + TELL,
}


class Runner:
    """A repository that is none of ours, and what its CI has."""

    def __init__(self, scratch: Path) -> None:
        self.home, self.calls, self.summary = scratch / "repository", scratch / "calls", scratch / "summary.md"
        origin = scratch / "origin"
        origin.mkdir()
        (origin / "tests").mkdir()
        (origin / "tests" / "test_mine.py").write_text("def test_mine(): pass\n")
        (origin / "chaos").mkdir()
        (origin / "chaos" / "__init__.py").write_text("MINE = 1\n")
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
            subprocess.run(["git", "-C", str(origin), *command], check=True)
        subprocess.run(["git", "clone", "-q", str(origin), str(self.home)], check=True)
        self.bin = scratch / "bin"
        self.bin.mkdir()
        for name, body in STUBS.items():
            (self.bin / name).write_text(f"#!/bin/bash\n{body}")
            (self.bin / name).chmod(0o755)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            env={
                **inherited,
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "CALLS": str(self.calls),
                "GITHUB_STEP_SUMMARY": str(self.summary),
                **environment,
            },
        )

    def told(self) -> str:
        return self.calls.read_text() if self.calls.exists() else ""


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def step(name: str) -> dict[str, Any]:
    return next(one for one in ACTION["runs"]["steps"] if one.get("name") == name)


def environment_of(one: dict[str, Any], **given: str) -> dict[str, str]:
    """The step's `env`, with the expressions that CI would fill in."""
    inputs = {name: str(facts["default"]) for name, facts in ACTION["inputs"].items()} | given
    known = {f"inputs.{name}": value for name, value in inputs.items()} | {"github.action_path": str(TOP)}
    return {name: EXPRESSION.sub(lambda found: known[found[1]], str(text)) for name, text in one["env"].items()}


def act(runner: Runner, name: str, **given: str) -> subprocess.CompletedProcess[str]:
    return runner.run(step(name)["run"], **environment_of(step(name), **given))


@pytest.mark.parametrize("name", ["Install", "Run", "Summary"])
def test_no_input_is_pasted_into_the_shell(name: str) -> None:
    assert "${{" not in step(name)["run"]


@pytest.mark.parametrize(("cluster", "packages"), [("embedded", True), ("embedded:x", True), ("kind", False)])
def test_the_action_installs_itself_and_what_its_cluster_needs(runner: Runner, cluster: str, packages: bool) -> None:
    done = act(runner, "Install", cluster=cluster)
    assert done.returncode == 0, done.stderr
    assert f"-c {TOP}/constraints.txt {TOP}\n" in runner.told()
    assert ("apt-get install --yes --no-install-recommends runc nftables iproute2" in runner.told()) is packages


@pytest.mark.parametrize(("given", "items"), [({}, 1 + 1), ({"tests": "tests"}, 1)], ids=["suite", "own tests"])
def test_the_action_runs_the_suite_or_the_repositorys_own_tests(
    runner: Runner, given: dict[str, str], items: int
) -> None:
    chosen = {"modes": "sidecar,node", "scenarios": "" if given else "proxy-killed", "arguments": "--collect-only"}
    done = act(runner, "Run", **chosen, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if "::" in line]) == items
    assert "sudo --preserve-env env PATH=" in runner.told()


def test_a_cluster_of_somebody_elses_is_not_reached_as_root(runner: Runner) -> None:
    done = act(runner, "Run", cluster="kind", modes="node", scenarios="proxy-killed", arguments="--collect-only")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sudo" not in runner.told()


@pytest.mark.parametrize("name", ["modes", "scenarios", "cluster", "inconclusive", "baseline", "arguments", "tests"])
def test_an_input_that_is_a_command_is_refused_and_not_run(runner: Runner, name: str) -> None:
    act(runner, "Run", **{"modes": "node", "scenarios": "proxy-killed", "arguments": "--collect-only", name: EVIL})
    assert not (runner.home / "broken").exists()


def test_a_baseline_that_is_not_there_yet_gates_nothing(runner: Runner) -> None:
    done = act(runner, "Run", modes="node", scenarios="proxy-killed", baseline="none.json", arguments="--collect-only")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_summary_is_posted_where_there_is_one(runner: Runner) -> None:
    assert act(runner, "Summary").returncode == 0
    (runner.home / "sharedfate-out").mkdir()
    (runner.home / "sharedfate-out" / "report.md").write_text("# found\n")
    assert act(runner, "Summary").returncode == 0
    assert runner.summary.read_text() == "# found\n"


def test_the_workflow_for_users_fetches_the_baseline_of_the_last_build_of_main(runner: Runner) -> None:
    steps = WORKFLOW["jobs"]["proxy-modes"]["steps"]
    fetch = next(one for one in steps if one.get("name") == "Baseline")
    done = runner.run(fetch["run"], WORKFLOW="chaos", GH_TOKEN="x")
    assert done.returncode == 0, done.stderr
    assert "gh run download 42 --name sharedfate --dir baseline" in runner.told()
    used = next(one for one in steps if one.get("uses") == "OWNER/REPOSITORY@REF")
    assert used["with"].keys() <= ACTION["inputs"].keys()
    assert (runner.home / used["with"]["baseline"]).is_file()
    kept = next(one for one in steps if str(one.get("uses", "")).startswith("actions/upload-artifact"))
    assert kept["with"] == {"name": "sharedfate", "path": ACTION["inputs"]["out"]["default"]}
    assert WORKFLOW["permissions"] == {"contents": "read", "actions": "read"}


def test_the_gitlab_job_installs_from_where_it_is_told_and_runs_the_suite(runner: Runner) -> None:
    job = GITLAB["proxy-modes"]
    told = {
        "SHAREDFATE": "git+https://example.com/x@v1",
        "CI_JOB_TOKEN": "t",
        "CI_API_V4_URL": "https://example.com/api",
    }
    told |= {"CI_PROJECT_ID": "7", "CI_DEFAULT_BRANCH": "main", "PYTEST_ADDOPTS": "--collect-only"}
    done = runner.run("\n".join([*job["before_script"], *job["script"]]), **told)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no baseline yet" in done.stdout
    assert "pip install --disable-pip-version-check --cache-dir .pip git+https://example.com/x@v1\n" in runner.told()
    assert "proxy-killed[node]" in done.stdout
    unset = runner.run("\n".join(job["before_script"]), **{**told, "SHAREDFATE": ""})
    assert unset.returncode != 0
    assert "set it to where you have sharedfate from" in unset.stderr
