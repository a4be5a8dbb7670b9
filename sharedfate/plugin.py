"""What pytest loads wherever sharedfate is installed: nothing but the question whether to load the plugin.

The plugin itself, `chaos.plugin`, imports the package `chaos`. A repository may have a package of that name too: there
the plugin is left out, so that its own is the one that its tests import, unless a chaos option is given, or the suite
is named. Then sharedfate's is loaded, and the repository's modules are found behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = "chaos"
HOME: Final = Path(__file__).resolve().parents[1] / PACKAGE
_ASKED_FOR: Final = ("--chaos-", "chaos.suite", "chaos.plugin")  # begin an argument that asks for us


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: Sequence[str]) -> None:
    """Load the plugin, before the command line is parsed for good and before anything of the repository is imported."""
    other = find_other([early_config.rootpath, Path.cwd(), *map(Path, sys.path)])
    if other is None:
        early_config.pluginmanager.import_plugin("chaos.plugin")
    elif any(argument.startswith(_ASKED_FOR) for argument in args):
        load_ours(other)
        early_config.pluginmanager.import_plugin("chaos.plugin")


def find_other(places: Iterable[Path]) -> Path | None:
    """The package or module `chaos` that stands in one of these places and is not sharedfate's; None without one.

    A folder of that name without an `__init__.py` hides nothing. A checkout of sharedfate is no other.
    """
    for place in places:
        for found in (place / PACKAGE / "__init__.py", place / f"{PACKAGE}.py"):
            if found.is_file() and not (place / "sharedfate" / "plugin.py").is_file():
                return found
    return None


def load_ours(other: Path) -> None:
    """Import sharedfate's package, from where it lies, with the names and modules of the other one behind its own."""
    if PACKAGE not in sys.modules:
        sys.path.insert(0, str(HOME.parent))
        try:
            import_module(PACKAGE)
        finally:
            sys.path.remove(str(HOME.parent))
    vars(sys.modules[PACKAGE])["beside"] = str(other)
    if other.name == "__init__.py":
        sys.modules[PACKAGE].__path__.append(str(other.parent))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say why no fixture of ours is there, where none is."""
    if config.pluginmanager.has_plugin("chaos.plugin"):
        return []
    return [f"sharedfate: left out beside this repository's own package {PACKAGE!r}; a --chaos-... option brings it in"]
