"""Finds the files that ship with the package: manifests/, experiments/, and the sources of the image.

In a checkout they stand at the top level, where a reader looks first; in a wheel they travel under chaos/_data.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Literal

_PACKAGE: Final = Path(__file__).resolve().parent


def shipped(folder: Literal["manifests", "experiments"]) -> Path:
    """Return a folder of shipped files, in a checkout and in an installed wheel alike."""
    installed = _PACKAGE / "_data" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def shipped_experiments() -> list[Path]:
    """Return the package's experiment files, by name."""
    return sorted(path for path in shipped("experiments").iterdir() if path.suffix in (".yaml", ".yml", ".json"))


def build_context(scratch: Path) -> Path:
    """Return a folder to build the image from: the checkout, or a copy assembled in `scratch`."""
    shipped_files = _PACKAGE / "_data" / "build"
    if not shipped_files.is_dir():
        return _PACKAGE.parent
    folder = scratch / "build"
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(shipped_files, folder, ignore=compiled)
    shutil.copytree(_PACKAGE, folder / "chaos", ignore=shutil.ignore_patterns("_data", "__pycache__"))
    shutil.copytree(_PACKAGE.parent / "sharedfate", folder / "sharedfate", ignore=compiled)
    for name in ("manifests", "experiments"):
        shutil.copytree(_PACKAGE / "_data" / name, folder / name)
    return folder
