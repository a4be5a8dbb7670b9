"""What the pages name is there: links, paths, make's targets and the command's sub-commands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from chaos.cli import main
from chaos.mesh.budget import DEFAULT_MILLICORES
from chaos.verdict import Thresholds

TOP = Path(__file__).resolve().parents[2]
PAGES = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").glob("*.md")), TOP / "manifests" / "README.md"]
OF_USERS = ("faults/fill_disk.py",)  # in an extension of theirs
FOLDERS = "chaos|tests|docs|benchmarks|proof|examples|experiments|manifests"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_path_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [one for one in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in one]
    missing = [one for one in links if not (page.parent / one).exists()]
    missing += [one for one in PATH.findall(text) if not (TOP / one).exists() and not (page.parent / one).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_names_by_its_path_exists(page: Path) -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())
    folders = [TOP, TOP / "chaos", TOP / "chaos" / "embedded", page.parent]
    assert [
        one for one in named if not any((folder / one).exists() for folder in folders) and one not in OF_USERS
    ] == []


def code(text: str) -> str:
    """The code of a page, a line each: what is fenced, indented by four, or between backticks."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"^ {4,}(.*)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    lines = code(page.read_text())
    assert set(re.findall(r"^\s*sharedfate ([a-z]+)\b", lines, re.MULTILINE)) <= main.commands.keys()
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^\s*make ([a-z-]+)\b", lines, re.MULTILINE)) <= targets


def options_of(line: str) -> tuple[str, set[str], set[str]]:
    """A line that begins with `sharedfate`: its sub-command, the options that it is given, and those that it takes."""
    ours = re.split(r"\s--\s|[|#;&…]|\.\.\.|\s`", line)[0]
    words = ours.replace("'", "").replace('"', "").split()[1:]
    command: click.Command = main
    takes = {option for parameter in main.params for option in parameter.opts}
    path = []
    for word in words:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
            path.append(word)
            takes |= {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return " ".join(path), given - {"-h", "--help"}, takes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_of_a_page_exists(page: Path) -> None:
    text = page.read_text()
    for line in re.findall(r"^\s*(sharedfate .*)$", code(text), re.MULTILINE):
        command, given, takes = options_of(line)
        passed_on = {"--chaos-", "-k", "-x", "-n"} if command == "run" else set()
        wrong = {one for one in given - takes if not one.startswith(tuple(passed_on) or ("\0",))}
        assert not wrong, (line, sorted(takes))
    known = set(re.findall(r'"(--chaos-[a-z-]+)"', (TOP / "chaos" / "plugin" / "options.py").read_text()))
    assert set(re.findall(r"--chaos-[a-z]+(?:-[a-z]+)*", text)) <= known


def test_an_option_that_does_not_exist_would_be_found() -> None:
    assert options_of("sharedfate cluster up --names x")[1] - options_of("sharedfate cluster up")[2] == {"--names"}
    assert options_of("sharedfate render -f a | kubectl apply -f - --force")[1] == {"-f"}


def test_the_defaults_that_pages_name_are_those_of_the_code() -> None:
    budget, slow = f"{DEFAULT_MILLICORES} millicores", f"median + {1000 * Thresholds().slow_extra:g} ms"
    for page in ("docs/mesh.md", "manifests/README.md"):
        assert f"get {budget}" in (TOP / page).read_text()
    assert f"{slow}) of the baseline" in (TOP / "docs" / "verdict.md").read_text()
    assert f"{1000 * Thresholds().slow_extra:g} ms more than the median at least" in (TOP / "CHANGELOG.md").read_text()


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert "sharedfate runn" in code("Say `sharedfate runn`.").splitlines()
    assert "make tset  # CI" in code("```\nmake tset  # CI\n```\n").splitlines()
