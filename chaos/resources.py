"""Where the files that ship with the package are: manifests/ and experiments/.

In a checkout they stand at the top level, where a reader looks first; in a wheel they travel under chaos/_data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

_PACKAGE: Final = Path(__file__).resolve().parent


def shipped(folder: Literal["manifests", "experiments"]) -> Path:
    """Folder of shipped files; exists in a checkout and in an installed wheel alike."""
    installed = _PACKAGE / "_data" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder
