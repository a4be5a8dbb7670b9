"""An image of another build is known as such: by the code that pods run, and by nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import chaos
from chaos.build import RUNNERS_OWN, build, build_of, unlike

PACKAGE = Path(chaos.__file__).parent
TOP = Path(__file__).resolve().parents[1]
OF_A_RUNNER = {"chaos.inpod.delivery"}  # starts one in its own image


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "chaos", ignore=shutil.ignore_patterns("__pycache__")))


def test_two_installations_of_the_same_code_are_one_build(copied: Path) -> None:
    (copied / "load" / "__pycache__").mkdir()
    (copied / "load" / "__pycache__" / "agent.cpython-311.pyc").write_bytes(b"\0")
    assert build_of(copied) == build() == build_of(PACKAGE)


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("load/agent.py", True),
        ("inpod/rules.py", True),
        ("mesh/agent/work.py", True),
        ("names.py", True),
        ("kube/client.py", True),
        ("model/modes.py", True),
        ("report/__init__.py", False),
        ("cli.py", False),
        ("embedded/provider.py", False),
        ("verdict/__init__.py", False),
        ("_data/build/hatch_build.py", False),  # a wheel's sources of the image
    ],
)
def test_a_change_makes_another_build_where_pods_run_it(copied: Path, path: str, other: bool) -> None:
    (copied / path).parent.mkdir(parents=True, exist_ok=True)
    with (copied / path).open("a") as file:
        file.write("# changed\n")
    assert (build_of(copied) != build()) is other


def test_a_module_that_was_renamed_makes_another_build(copied: Path) -> None:
    (copied / "load" / "agent.py").rename(copied / "load" / "agent2.py")
    assert build_of(copied) != build()


def test_no_program_in_a_pod_imports_what_a_build_leaves_out() -> None:
    started = {
        found
        for path in (TOP / "manifests").rglob("*")
        if path.is_file()
        for found in re.findall(r"\bchaos(?:\.[a-z_]+)+", path.read_text())
    }
    programs = sorted(started | {f"chaos.inpod.{path.stem}" for path in (PACKAGE / "inpod").glob("*.py")} - OF_A_RUNNER)
    assert {"chaos.apps.server", "chaos.load.agent", "chaos.mesh.agent", "chaos.mesh.controlplane"} <= started
    mains = [
        f"{one}.__main__" for one in programs if (PACKAGE.parent / one.replace(".", "/") / "__main__.py").is_file()
    ]
    code = f"import importlib, sys\nfor one in {programs + mains}: importlib.import_module(one)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    rooms = {name.split(".")[1] for name in done.stdout.split() if name.startswith("chaos.")}
    assert rooms & RUNNERS_OWN == set()
    assert {"names", "errors", "kube"} <= rooms


def test_an_image_of_another_build_is_named_with_both_and_what_to_do() -> None:
    assert unlike(build()) == ""
    assert f"the image is of build 0123456789ab, and this runner of build {build()}" in unlike("0123456789ab")
    assert "which does not name itself" in unlike("")
    assert "sharedfate image build" in unlike("")
