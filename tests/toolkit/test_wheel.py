"""An installed wheel, not the checkout: it holds the experiments, finds them, and is discovered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", target / "venv"], check=True, timeout=120)  # for its pip
    command = [
        str(target / "venv/bin/pip"),
        "install",
        "-q",
        "--no-deps",
        "--disable-pip-version-check",
        "--target",
        str(target),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target


@pytest.mark.slow
def test_a_wheel_finds_its_experiments(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "chaos.cli", "experiment", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
        check=True,
    )
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert listed == {path.stem for path in (ROOT / "experiments").glob("*.yaml")}


@pytest.mark.slow
def test_a_wheel_is_discovered(installed: Path, tmp_path: Path) -> None:
    chaos = str(Path(sys.executable).with_name("chaos"))
    subprocess.run(
        [chaos, "--no-version-check", "discover", "--no-install", "sharedfate"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        timeout=60,
        check=True,
    )
    assert json.loads((tmp_path / "discovery.json").read_text())["activities"]
