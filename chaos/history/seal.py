"""The seal of a finished trial: a digest of each file, by which `sharedfate check` sees what changed since.

A seal tells what was changed by accident, by a crash or by a careless hand; it is no signature, for whoever can write
the files can write the seal.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from chaos.documents import parse_json, read_bytes
from chaos.errors import Misuse
from chaos.history.files import write_whole

SEAL_FILE: Final = "seal.json"
VERSION: Final = 1
_MOST: Final = 1 << 30  # bytes of one file


def seal(directory: Path) -> None:
    """Write the digests of all files in a finished trial's directory; subdirectories have their own seals."""
    write_whole(directory / SEAL_FILE, _text(_digests(directory)))


def detect_touched(directory: Path) -> list[str]:
    """Return how the files differ from their seal, one sentence each; empty when nothing does. Never raises."""
    try:
        present = _digests(directory)
        if not (directory / SEAL_FILE).exists():
            return [f"{SEAL_FILE} is missing: the trial was not finished, or not by this release"]
        text = read_bytes(directory / SEAL_FILE)
        if text == _text(present).encode():
            return []
        stated: Any = parse_json(text, source=SEAL_FILE)
        sealed = dict(stated["sha256"])
    except (Misuse, OSError, ValueError, KeyError, TypeError) as error:
        return [f"{SEAL_FILE} cannot be read: {type(error).__name__}"]
    found = [
        *(f"{name} is missing" for name in sorted(sealed.keys() - present.keys())),
        *(f"{name} was added" for name in sorted(present.keys() - sealed.keys())),
        *(f"{name} was changed" for name in sorted(sealed.keys() & present.keys()) if sealed[name] != present[name]),
    ]
    return found or [f"{SEAL_FILE} was changed"]


def _text(digests: dict[str, str]) -> str:
    return json.dumps({"version": VERSION, "sha256": digests}, indent=1, sort_keys=True) + "\n"


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name != SEAL_FILE)
    return {path.name: hashlib.sha256(read_bytes(path, most=_MOST)).hexdigest() for path in files}
