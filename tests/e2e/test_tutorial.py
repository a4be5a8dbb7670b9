"""The tutorial, done: each of its commands is run, in its order, and its two tests come out as it says.

Clusters get a name of their own, so that one which is up on this machine is left alone: nothing else is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGE = (TOP / "docs" / "tutorial.md").read_text()
NAME = f"tutorial-{os.getpid()}"
ELSEWHERE = ("pip install",)  # what tests/repository/test_installed.py does


def commands(text: str) -> list[str]:
    """The lines that a reader types: those indented by four, outside of fenced code."""
    return re.findall(r"^ {4}(\S.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def section(number: int) -> str:
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, number
    return found[0]


def code(text: str) -> str:
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def named(command: str) -> str:
    """The command on a cluster of this test's name."""
    command = re.sub(r"sharedfate cluster (\w+)", rf"sharedfate cluster \1 --name {NAME}", command)
    return re.sub(
        r"sharedfate (--extensions \S+ )?(status|inject)\b", rf"sharedfate \1\2 --cluster embedded:{NAME}", command
    )


def typed(line: str, folder: Path, *, seconds: int) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_every_command_of_the_tutorial_is_one_that_these_tests_run() -> None:
    run = [line for number in (1, 2, 3, 4, 5) for line in commands(section(number))]
    assert run == commands(PAGE)
    assert len(run) >= 9
    assert [line.split()[0] for line in commands(section(4))] == ["pytest"]


@pytest.mark.privileged
@pytest.mark.parametrize("number", [1, 3])
def test_what_is_typed_by_hand_works(number: int) -> None:
    said = {}
    try:
        for line in commands(section(number)):
            if line.startswith(ELSEWHERE):
                continue
            done = typed(named(line), TOP, seconds=120)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            said[line] = done.stdout
    finally:
        if number == 3:
            typed(named("sharedfate cluster down"), TOP, seconds=60)
    if number == 3:
        assert "shop" in next(text for line, text in said.items() if line == "sharedfate status")
        assert "node-proxy" in next(text for line, text in said.items() if "--dry-run" in line)


def written(folder: Path, blocks: str) -> str:
    """The reader's file: the example's head, the tutorial's functions, and the manifests beside it."""
    example = (TOP / "examples" / "test_my_app.py").read_text()
    head = example[: example.index("@pytest.fixture")]
    (folder / "shop.yaml").write_text((TOP / "examples" / "shop.yaml").read_text())
    (folder / "test_my_app.py").write_text(head + blocks)
    return "test_my_app.py"


def test_the_tutorials_green_test_is_the_one_of_the_example() -> None:
    example = (TOP / "examples" / "test_my_app.py").read_text()
    wanted = re.sub(r'\n    """.*?"""', "", example)  # the page has its explanation beside it
    assert code(section(4)).strip() in wanted


@pytest.mark.privileged
@pytest.mark.slow
def test_the_first_run_says_the_finding_and_leaves_the_page(tmp_path: Path) -> None:
    (line,) = commands(section(2))
    done = typed(line, tmp_path, seconds=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The death of one proxy hurt 1 of 3 tenants in mode sidecar, 2 of 3 in node." in done.stdout
    assert (tmp_path / "sharedfate-out" / "report.html").is_file()


@pytest.mark.privileged
@pytest.mark.slow
def test_the_green_test_is_green_and_the_red_one_red(tmp_path: Path) -> None:
    written(tmp_path, code(section(4)) + "\n\n" + code(section(5)))
    (line,) = commands(section(4))
    done = typed(line, tmp_path, seconds=500)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "though none of its pairs is behind the target" in done.stdout


@pytest.mark.privileged
@pytest.mark.slow
def test_the_fault_of_the_page_on_faults_is_injected_from_where_it_lies() -> None:
    lines = commands((TOP / "docs" / "adding-a-fault.md").read_text())
    assert [line.split()[0] for line in lines] == ["sharedfate"] * 4
    try:
        done = [typed(named(line), TOP, seconds=120) for line in lines]
    finally:
        typed(named("sharedfate cluster down"), TOP, seconds=60)
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    assert "injected  cordon on node-1: unschedulable True" in done[2].stdout
    assert "recovered cordon on node-1: unschedulable False" in done[2].stdout
