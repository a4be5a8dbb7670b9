"""What `make` installs is what pyproject.toml allows."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11.0", "3.11.9", "3.12.0", "3.13.0")
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
WANTED = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]


def pins() -> dict[str, list[Requirement]]:
    found: defaultdict[str, list[Requirement]] = defaultdict(list)
    for line in (TOP / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin = Requirement(line)
            found[canonicalize_name(pin.name)].append(pin)
    return dict(found)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("text", WANTED)
def test_every_dependency_is_pinned_once_for_each_python_within_its_range(text: str, python: str) -> None:
    wanted = Requirement(text)
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}
    if wanted.marker and not wanted.marker.evaluate(environment):
        return
    pinned = [
        pin for pin in pins()[canonicalize_name(wanted.name)] if not pin.marker or pin.marker.evaluate(environment)
    ]
    assert len(pinned) == 1, "`make lock` writes constraints.txt"
    version = str(pinned[0].specifier).removeprefix("==")
    assert wanted.specifier.contains(version, prereleases=True)
