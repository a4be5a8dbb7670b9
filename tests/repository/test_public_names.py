"""What users import: sorted, whole, cheap, and the page that lists it is current."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chaos
import sharedfate
from proof import activities, api

TOP = Path(__file__).resolve().parents[2]


def imported(text: str) -> set[str]:
    """The modules of ours that a source imports from, and the names that it takes of the public two."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in {"chaos", "sharedfate"}:
            found |= {f"public {one.name}" for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return {one for one in found if one.split(".")[0] in {"chaos", "sharedfate"} or one.startswith("public ")}


def test_the_list_is_sorted_and_is_what_the_modules_define() -> None:
    assert sorted(set(chaos.__all__)) == sorted(chaos.__all__) == sorted(chaos._HOME)


@pytest.mark.parametrize("name", chaos.__all__)
def test_every_public_name_is_there_under_both_names_of_the_package(name: str) -> None:
    assert getattr(sharedfate, name) is getattr(chaos, name)


def test_a_name_that_is_not_public_is_an_attribute_error_that_says_where_they_are_listed() -> None:
    with pytest.raises(AttributeError, match=r"no public name 'Kil'.*docs/api\.md"):
        chaos.Kil  # noqa: B018


def test_the_package_is_imported_without_any_other_module_of_ours_or_of_others() -> None:
    asked = "import chaos; print(*sorted(set(sys.modules) - before))"
    program = (
        f"import sys; before = set(sys.modules); import sharedfate; print(*sorted(set(sys.modules) - before)); {asked}"
    )
    said = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, cwd=TOP)
    assert said.stdout.splitlines() == ["sharedfate", "chaos sharedfate"]


def test_the_page_is_current() -> None:
    assert (TOP / "docs" / "api.md").read_text() == api.page(), "`make docs` writes it"


def test_the_page_of_the_activities_is_current() -> None:
    assert (TOP / "docs" / "toolkit-activities.md").read_text() == activities.page(), "`make docs` writes it"


@pytest.mark.parametrize("path", sorted((TOP / "examples").rglob("*.py")), ids=lambda path: path.name)
def test_examples_import_public_names_alone(path: Path) -> None:
    assert imported(path.read_text()) <= {f"public {name}" for name in chaos.__all__}


@pytest.mark.parametrize("path", [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_pages_import_public_names_alone(path: Path) -> None:
    lines = re.findall(
        r"^\s*(from (?:chaos|sharedfate)\S* import .+|import (?:chaos|sharedfate)\S*)$", path.read_text(), re.M
    )
    assert {one for line in lines for one in imported(line.strip())} <= {f"public {name}" for name in chaos.__all__}
