"""The audit log: one JSON line per request, which shows what this cluster must serve. Bounded: one old file is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

LIMIT: Final = 32 << 20
FLUSH_SECONDS: Final = 1.0


MOST_ANNOTATIONS: Final = 64  # of a request
LONGEST_ANNOTATION: Final = 10 * 1024


def _bounded(annotations: Mapping[str, str]) -> dict[str, str]:
    """Annotations with their length bounded: webhooks write them."""
    kept = list(annotations.items())[:MOST_ANNOTATIONS]
    return {key[:LONGEST_ANNOTATION]: value[:LONGEST_ANNOTATION] for key, value in kept}


class AuditLog:
    """Appends to `path`; moves it to `path`.1 when it is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self._flushed = time.monotonic()

    def write(
        self, user: str, verb: str, uri: str, code: int, seconds: float, note: str, annotations: Mapping[str, str]
    ) -> None:
        self._file.write(
            orjson.dumps(
                {
                    "t": round(time.time(), 4),
                    "user": user,
                    "verb": verb,
                    "uri": uri[:2000],
                    "code": code,
                    "ms": round(seconds * 1000, 2),
                    **({"note": note} if note else {}),
                    **({"annotations": _bounded(annotations)} if annotations else {}),
                }
            )
            + b"\n"
        )
        now = time.monotonic()
        if now - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = now
            if self._file.tell() > LIMIT:
                self._file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file = self._path.open("ab")

    def close(self) -> None:
        self._file.close()
