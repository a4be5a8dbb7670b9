"""The wheel, laid out as pyproject.toml says and not built: the image is built from it, without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = """
import pathlib, sys
from chaos.resources import build_context
folder = build_context(pathlib.Path(sys.argv[1]))
assert folder.is_relative_to(sys.argv[1]), folder
print(*(f"./{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()), sep="\\n")
"""


def refuse_incomplete(copied: Collection[str]) -> None:
    """Fails unless these files hold all that the Dockerfile copies, and nothing that was compiled."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    wanted = {line for line in lines if line.startswith("COPY ") and "--from" not in line}
    for word in {word for line in wanted for word in line.split()[1:-1]}:
        assert any(name == f"./{word}" or name.startswith(f"./{word}/") for name in copied), word
    assert "./chaos/engine/run.py" in copied
    assert "./sharedfate/plugin.py" in copied
    assert not [name for name in copied if "__pycache__" in name or "_data" in name]


def test_an_installed_package_holds_all_that_the_image_is_built_from(tmp_path: Path) -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    site, scratch = tmp_path / "site", tmp_path / "scratch"
    scratch.mkdir()
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, site / package)
    for source, target in wheel["force-include"].items():
        (site / target).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, site / target)
        else:
            shutil.copy(ROOT / source, site / target)
    (site / "chaos" / "_data" / "build" / "__pycache__").mkdir()
    (site / "chaos" / "_data" / "build" / "__pycache__" / "hatch_build.pyc").touch()
    done = subprocess.run(
        [sys.executable, "-c", CONTEXT, str(scratch)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refuse_incomplete(done.stdout.splitlines())
