"""What the pages name is there: links, paths, make's targets and the command's sub-commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.cli import main

TOP = Path(__file__).resolve().parents[2]
PAGES = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").glob("*.md")), TOP / "manifests" / "README.md"]
FOLDERS = "chaos|tests|docs|benchmarks|proof|examples|experiments|manifests"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_path_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [one for one in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in one]
    missing = [one for one in links if not (page.parent / one).exists()]
    missing += [one for one in PATH.findall(text) if not (TOP / one).exists() and not (page.parent / one).exists()]
    assert missing == []


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


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert "sharedfate runn" in code("Say `sharedfate runn`.").splitlines()
    assert "make tset  # CI" in code("```\nmake tset  # CI\n```\n").splitlines()
