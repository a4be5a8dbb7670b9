"""The suite under pytest-xdist: whole modes to workers, and one report of them all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from chaos.engine.settings import RUN_FILE, Settings
from chaos.plugin.xdist import Handout, claim, group_of, merge_worker_runs, prepare
from chaos.plugin.xdist import cluster as cluster_of

pytest_plugins = ["pytester"]


@dataclass(frozen=True, slots=True)
class Session:
    """A leader's session, and what it tells its workers."""

    config: pytest.Config
    out: Path
    told: dict[str, object]

    def claim(self, worker: str) -> None:
        """A worker is about to begin its run."""
        config = SimpleNamespace(workerinput={**self.told, "workerid": worker})
        claim(config, Settings(out=self.out / "workers" / worker))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("chaos/suite/test_proxy_killed.py::proxy-killed[node]", "node"),
        ("test_mine.py::test_x[ambient-pod]", "ambient-pod"),
        ("test_mine.py::test_x[3-node]", "test_mine.py::test_x[3-node]"),
        ("test_mine.py::test_x", "test_mine.py::test_x"),
    ],
)
def test_the_trials_of_a_mode_go_to_one_worker(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


@pytest.mark.parametrize(
    ("option", "cluster"),
    [
        ("kind", "kind:sharedfate-gw1"),
        ("kind:mine", "kind:mine-gw1"),
        ("k3d", "k3d:sharedfate-gw1"),
        ("embedded", "embedded"),
    ],
)
def test_each_worker_has_a_cluster_of_its_own_name(pytester: pytest.Pytester, option: str, cluster: str) -> None:
    config = pytester.parseconfig()
    assert cluster_of(config, option) == option
    config.workerinput = {"workerid": "gw1"}  # type: ignore[attr-defined]
    assert cluster_of(config, option) == cluster


def test_workers_that_would_share_a_cluster_are_refused_before_they_start(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_subprocess(
        "-n", "2", "-p", "no:randomly", "--chaos-cluster=context:mine", "--chaos-modes=none,node"
    )
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*context:mine: workers would share it*leave -n out"])


@pytest.fixture
def session(pytester: pytest.Pytester) -> Session:
    config = pytester.parseconfig()
    config.option.dist, config.option.collectonly = "load", False
    prepare(config, Settings(out=pytester.path / "out", seed=7))
    told: dict[str, object] = {}
    for plugin in config.pluginmanager.get_plugins():
        if isinstance(plugin, Handout):
            plugin.pytest_configure_node(SimpleNamespace(workerinput=told))
    return Session(config, pytester.path / "out", told)


def test_the_workers_trials_become_the_sessions(session: Session) -> None:
    out = session.out
    earlier = out / "trials" / "none" / "job-completes" / "result.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("an earlier session's")
    (out / RUN_FILE).write_text("{ cut off")
    for worker, mode in (("gw0", "none"), ("gw1", "node")):
        session.claim(worker)
        trial = out / "workers" / worker / "trials" / mode / "proxy-killed"
        trial.mkdir(parents=True)
        (trial / "result.json").write_text(mode)
        (out / "workers" / worker / RUN_FILE).write_text(json.dumps({"run": worker, "seed": 7}))
    (out / "workers" / "gw2").mkdir()
    seconds = merge_worker_runs(session.config, out)
    assert seconds is not None
    assert seconds >= 0
    assert {path.relative_to(out).as_posix() for path in out.rglob("result.json")} == {
        "trials/none/proxy-killed/result.json",
        "trials/node/proxy-killed/result.json",
    }
    assert json.loads((out / RUN_FILE).read_text()) == {"run": "gw1", "seed": 7, "runs": ["gw0", "gw1"]}
    assert not (out / "workers").exists()
    assert (out.with_name("out.previous") / earlier.relative_to(out)).read_text() == "an earlier session's"


def test_a_session_without_trials_leaves_the_last_run_alone(session: Session) -> None:
    session.out.mkdir()
    (session.out / RUN_FILE).write_text(json.dumps({"session": "another"}))
    assert merge_worker_runs(session.config, session.out) is None
    assert [path.name for path in session.out.iterdir()] == [RUN_FILE]


def test_somebodys_own_tests_under_workers_write_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(): pass")
    done = pytester.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider")
    assert done.ret == pytest.ExitCode.OK
    assert not list(pytester.path.glob("sharedfate-out*"))


@pytest.mark.privileged
@pytest.mark.slow
def test_two_workers_make_one_report(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "chaos.suite",
        "--chaos-modes=none,native-sidecar",
        "--chaos-scenarios=job-completes",
        "-n",
        "2",
        "--chaos-out=out",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {(trial["mode"], trial["verdict"]) for trial in report["trials"]} == {
        ("none", "pass"),
        ("native-sidecar", "pass"),
    }
