"""Somebody else's image has `chaos.inpod` on its path, Python, and nothing more."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import chaos.inpod

PROGRAMS = sorted(Path(chaos.inpod.__path__[0]).glob("*.py"))


def imported(source: str) -> set[str]:
    """What a module imports anywhere in it, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def foreign(source: str) -> set[str]:
    """What is neither the standard library's nor another program's."""
    return {
        name
        for name in imported(source)
        if name.partition(".")[0] not in sys.stdlib_module_names and name.split(".")[:2] != ["chaos", "inpod"]
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_in_somebody_elses_pod_imports_the_standard_library_alone(program: Path) -> None:
    assert foreign(program.read_text()) == set()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("import grpc", {"grpc"}),
        ("from h2 import config", {"h2"}),
        ("from chaos.names import IMAGE", {"chaos.names"}),
        ("def late():\n    import numpy as np", {"numpy"}),
        ("from . import rules", {"."}),
        ("import os.path\nfrom chaos.inpod import rules", set()),
    ],
)
def test_an_import_that_such_an_image_cannot_serve_is_seen(line: str, wrong: set[str]) -> None:
    assert foreign(line) == wrong
