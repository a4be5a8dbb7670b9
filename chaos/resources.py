"""Finds the files that ship with the package: manifests/, experiments/, and the sources of the image.

In a checkout they stand at the top level, where a reader looks first; in a wheel they travel under chaos/_data.

Somebody else's stand beside them without a fork, in folders of the same shape: `faults/`, `modes/NAME/`, `meshes/`,
`experiments/`. SHAREDFATE_EXTENSIONS names such folders (as $PATH does), and so does a package that is installed, by an
entry point of the group `sharedfate.extensions` whose value is the package that holds them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from chaos.errors import Misuse

EXTENSIONS: Final = "SHAREDFATE_EXTENSIONS"  # in the environment: folders, as in $PATH
GROUP: Final = "sharedfate.extensions"
_PACKAGE: Final = Path(__file__).resolve().parent


def shipped(folder: Literal["manifests", "experiments"]) -> Path:
    """Return a folder of shipped files, in a checkout and in an installed wheel alike."""
    installed = _PACKAGE / "_data" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def extension_folders(part: Literal["faults", "modes", "meshes", "experiments"]) -> list[Path]:
    """That part's folders in somebody else's extensions. Raises Misuse for an extension that is named and not there."""
    from importlib.metadata import entry_points  # a third of what `--help` may take

    named = [Path(one).resolve() for one in os.environ.get(EXTENSIONS, "").split(os.pathsep) if one]
    if missing := [str(one) for one in named if not one.is_dir()]:
        raise Misuse(f"{EXTENSIONS}: no such folder: {', '.join(missing)}")
    packages = [_folder_of(one.name, one.value) for one in entry_points(group=GROUP)]
    return [folder / part for folder in dict.fromkeys([*packages, *named]) if (folder / part).is_dir()]


def extend(folders: Iterable[str]) -> None:
    """Take these folders for extensions too, in this process and in those that it starts; before any was asked for."""
    named = [str(Path(one).resolve()) for one in folders]
    os.environ[EXTENSIONS] = os.pathsep.join([*named, *filter(None, [os.environ.get(EXTENSIONS)])])


def _folder_of(name: str, package: str) -> Path:
    from importlib.util import find_spec

    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise Misuse(f"entry point {name} of {GROUP}: {package} is no package that is installed")
    return Path(next(iter(found.submodule_search_locations)))


def shipped_experiments() -> list[Path]:
    """The experiment files of the package and of extensions, by name; raises Misuse for a name that comes twice."""
    found: dict[str, Path] = {}
    for folder in [shipped("experiments"), *extension_folders("experiments")]:
        for path in sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml", ".json")):
            if (there := found.setdefault(path.stem, path)) != path:
                raise Misuse(f"experiment {path.stem!r} of {path} already exists, in {there}: choose another name")
    return [found[name] for name in sorted(found)]


def build_context(scratch: Path) -> Path:
    """Return a folder to build the image from: the checkout, or a copy assembled in `scratch`."""
    import shutil

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
