"""The programs that measure depend one way: `proof` uses `benchmarks`, and what ships knows neither."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
_BESIDE = {"benchmarks", "proof", "tests"}
UNKNOWN = {"benchmarks": {"proof"}, "chaos": _BESIDE, "sharedfate": _BESIDE}


def imported(source: str) -> Iterator[str]:
    """The names of the packages from which a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("folder", UNKNOWN)
def test_a_folder_imports_nothing_of_those_that_it_does_not_know(folder: str) -> None:
    modules = sorted((TOP / folder).rglob("*.py"))
    assert modules
    upward = [
        f"{path.relative_to(TOP)}: {name}"
        for path in modules
        for name in sorted(UNKNOWN[folder].intersection(imported(path.read_text())))
    ]
    assert upward == []
