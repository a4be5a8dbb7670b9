"""The package as its users have it: a wheel in an environment of its own, with nothing of the checkout in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.repository.test_wheels_files import refuse_incomplete

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.privileged, pytest.mark.slow]


def run(*arguments: str | Path, where: Path, seconds: float = 300) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(one) for one in arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=where,
        env=environment,
    )
    assert done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment into which the wheel was installed, with its dependencies from the index."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder / "venv", where=folder)
    pip = (folder / "venv/bin/pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", folder, ROOT)
    run(*pip, where=folder)
    (wheel,) = folder.glob("*.whl")
    run(folder / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", wheel, where=folder, seconds=900)
    return folder / "venv/bin"


def test_the_installed_package_is_the_wheels_and_renders_a_mode(programs: Path, tmp_path: Path) -> None:
    module = run(programs / "python", "-c", "import chaos; print(chaos.__file__)", where=tmp_path).strip()
    assert Path(module).is_relative_to(programs.parent)
    objects = list(yaml.safe_load_all(run(programs / "sharedfate", "render", "--mode", "sidecar", where=tmp_path)))
    assert {"Namespace", "Deployment", "ClusterRole"} <= {obj["kind"] for obj in objects}


def test_the_installed_suite_runs_a_trial(programs: Path, tmp_path: Path) -> None:
    run(
        programs / "pytest",
        "--pyargs",
        "chaos.suite",
        "--chaos-modes=none",
        "--chaos-scenarios=proxy-killed",
        "--chaos-out=out",
        "--chaos-every=0.5",
        "-q",
        where=tmp_path,
    )
    (trial,) = json.loads((tmp_path / "out/report.json").read_text())["trials"]
    assert (trial["mode"], trial["scenario"], trial["verdict"], trial["observed"]["hurt"]) == (
        "none",
        "proxy-killed",
        "pass",
        [],
    )


def test_the_installed_package_runs_one_of_its_experiments(programs: Path, tmp_path: Path) -> None:
    said = run(programs / "sharedfate", "experiment", "run", "proxy-killed", "--var", "mode=none", where=tmp_path)
    assert "pass" in said


def test_the_installed_package_builds_the_image_from_what_it_holds(programs: Path, tmp_path: Path) -> None:
    """An engine of ours says what it was given: an image takes minutes, and a registry."""
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text('#!/bin/sh\nfor last; do :; done\ncd "$last" && find . -type f | sort\n')
    engine.chmod(0o755)
    path = f"{engine.parent}:{os.environ['PATH']}"
    refuse_incomplete(run("env", f"PATH={path}", programs / "python", "-c", BUILD, where=tmp_path).split())


BUILD = """
import pathlib, subprocess, tempfile
from chaos.cluster.images import Build, ContainerEngine, plan_build
from chaos.resources import build_context
with tempfile.TemporaryDirectory() as scratch:
    folder = build_context(pathlib.Path(scratch))
    assert folder.is_relative_to(scratch), folder
    command = plan_build(ContainerEngine.DOCKER, Build("x:1", folder))
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
"""
