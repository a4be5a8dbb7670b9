"""Names the build of the code that runs in pods, so that a runner knows an image of another one before any load.

The version does not tell: it stays the same between two commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

# What no program in a pod imports: a change there makes no other image.
RUNNERS_OWN: Final = frozenset(
    {"_data", "cli", "cluster", "commands", "doctor", "embedded", "engine", "external", "plugin", "report", "suite"}
    | {"toolkit", "verdict"}
)


@cache
def build() -> str:
    """The build of this installation."""
    return build_of(Path(__file__).resolve().parent)


def build_of(package: Path) -> str:
    """A digest of 12 hexadecimal digits over the names and contents of a package's modules that pods run."""
    whole = hashlib.sha256()
    for path in sorted(_modules(package)):
        data = path.read_bytes()
        whole.update(f"{path.relative_to(package).as_posix()}\0{len(data)}\0".encode())
        whole.update(data)
    return whole.hexdigest()[:12]


def unlike(image: str) -> str:
    """Why an image cannot be trusted with this runner, as a sentence with the next step; "" for the same build.

    Args:
        image: the build that its loader names; "" for one that names none.
    """
    if image == build():
        return ""
    named = f"of build {image}" if image else "of an older build, which does not name itself"
    return (
        f"the image is {named}, and this runner of build {build()}: build and load it again (sharedfate image build, "
        "then image load or push), or run with the installation that it was built from"
    )


def _modules(package: Path) -> Iterable[Path]:
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room not in RUNNERS_OWN:
            yield path
