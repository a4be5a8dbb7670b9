"""Keeps a command going when nobody takes what it says: a full disk, a reader who has left, a closed descriptor.

A command may hold a fault or a cluster while it prints, and must not end in the middle of its undo because a line could
not be written. So the first write that fails is noted, the descriptor leads to /dev/null from there on, and the exit
code tells at the end (`settle`). Imports nothing of ours: `sharedfate run` loads it before pytest has begun.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any, Final, TextIO

_REFUSED: Final = 4  # as errors.REFUSED
_NAMES: Final = {1: "standard output", 2: "standard error"}
_failed: dict[int, OSError] = {}  # the first of each descriptor


class _Kept(io.FileIO):
    """A descriptor that leads to /dev/null once something could not be written to it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _failed.setdefault(self.fileno(), error)
            _to_nothing(self.fileno())
            return super().write(data)


def _to_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)
    os.set_inheritable(descriptor, True)


def _kept(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream anew, over a descriptor that is kept; a stream that is somebody else's (a test's) as it is."""
    if stream is not None:
        try:
            if stream.fileno() != descriptor:
                return stream
        except (OSError, ValueError):
            return stream
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Kept(descriptor, "w", closefd=False)),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors=stream.errors if stream is not None else "backslashreplace",
        line_buffering=descriptor == 2 or (stream is not None and stream.isatty()),
    )


def keep() -> None:
    """From now on no write to standard output or error raises. Descriptors that were closed lead to /dev/null: the next
    file or socket that is opened would get their number, and what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _to_nothing(descriptor)
    sys.stdout = _kept(sys.stdout, 1)
    sys.stderr = _kept(sys.stderr, 2)


def settle(code: str | int | None) -> str | int | None:
    """The exit code of a command that wanted to end with `code`: 4 instead of 0 when its output could not be written,
    which a line on standard error says. A reader who left has what he wanted: nothing is said of that.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    lost = {number: error for number, error in _failed.items() if error.errno != errno.EPIPE}
    for number, error in lost.items():
        if number != 2:
            print(f"sharedfate: {_NAMES[number]}: {error.strerror}", file=sys.stderr, flush=True)
    return _REFUSED if 1 in lost and code in (0, None) else code
