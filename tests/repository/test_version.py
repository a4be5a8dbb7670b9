"""The version stands in one place, and everything that names it follows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import chaos
from chaos import names, version

TOP = Path(__file__).resolve().parents[2]


def test_the_installed_metadata_takes_the_packages_version() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == Path(version.__file__).relative_to(TOP).as_posix()


def test_the_image_is_tagged_with_the_version() -> None:
    command = [sys.executable, "-c", "from chaos.names import IMAGE; print(IMAGE)"]
    said = subprocess.run(command, env={}, capture_output=True, text=True, check=True, cwd=TOP).stdout.strip()
    assert said == f"sharedfate/sharedfate:{chaos.__version__}"
    assert names.IMAGE.endswith(chaos.__version__)


def test_every_page_that_names_an_image_names_this_versions() -> None:
    pages = [TOP / "README.md", TOP / "Dockerfile", *(TOP / "docs").glob("*.md")]
    named = {page.name: re.findall(r"sharedfate:(\d+\.\d+\.\d+)", page.read_text()) for page in pages}
    assert {one for found in named.values() for one in found} == {chaos.__version__}


def test_the_changelog_begins_with_what_is_not_released_or_with_this_version() -> None:
    first = re.search(r"^## (.+)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == "Unreleased" or first[1].startswith(chaos.__version__)


def test_the_licence_of_the_metadata_is_the_one_whose_text_is_here() -> None:
    assert tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    text = " ".join((TOP / "LICENSE").read_text().split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
