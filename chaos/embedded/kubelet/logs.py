"""Containers' logs: written by the node (nodeinit) in CRI's form, read here for the API's `log` subresource."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final

from chaos.embedded.node_api import LogOptions

POLL: Final = 0.05  # seconds between looks at a log that is followed
CHUNK: Final = 1 << 16


def render(line: bytes, *, timestamps: bool) -> bytes:
    """A CRI line (`<time> <stream> F|P <text>`) as the API shows it: a partial line has no newline of its own."""
    stamp, _, rest = line.partition(b" ")
    _stream, _, rest = rest.partition(b" ")
    tag, _, text = rest.partition(b" ")
    if tag == b"P":
        text = text.removesuffix(b"\n")
    return stamp + b" " + text if timestamps else text


def tail_text(path: str, *, lines: int, limit: int) -> str:
    """The last lines of a log, for termination messages."""
    kept, _ = _select(path, b"", lines)
    return b"".join(render(line, timestamps=False) for line in kept)[-limit:].decode(errors="replace")


async def read_log(path: str, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Chunks of a log by the API's options. Following ends when `ended` and everything was read. Raises LookupError."""
    if not os.path.exists(path):
        raise LookupError("the container has no log")
    since = b""
    if options.since_seconds is not None:
        since = (datetime.now(UTC) - timedelta(seconds=options.since_seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()
    left = options.limit_bytes
    kept, position = await asyncio.to_thread(_select, path, since, options.tail_lines)
    buffer = bytearray()
    for line in kept:
        buffer += render(line, timestamps=options.timestamps)
        if left is not None and len(buffer) >= left:
            yield bytes(buffer[:left])
            return
        if len(buffer) >= CHUNK:
            if left is not None:
                left -= len(buffer)
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        if left is not None:
            left -= len(buffer)
        yield bytes(buffer)
    if not options.follow:
        return
    file = open(path, "rb")  # noqa: SIM115  (kept open: its last lines are read even when the pod's files are gone)
    try:
        file.seek(position)
        while True:
            over = ended()
            text = b"".join(render(line, timestamps=options.timestamps) for line in _whole_lines(file))
            if left is not None:
                text, left = text[:left], left - len(text[:left])
            if text:
                yield text
            elif (gone := _replaced(file, path)) is not None and not gone:  # rotated: the old file is read to its end
                file.close()
                file = open(path, "rb")  # noqa: SIM115
            elif over or gone:
                return
            else:
                await asyncio.sleep(POLL)
            if left == 0:
                return
    finally:
        file.close()


def _replaced(file: BinaryIO, path: str) -> bool | None:
    """None: the open file is the log. False: another one is there. True: none is."""
    try:
        return None if os.stat(path).st_ino == os.fstat(file.fileno()).st_ino else False
    except FileNotFoundError:
        return True


def _select(path: str, since: bytes, tail: int | None) -> tuple[list[bytes], int]:
    """Lines that are asked for, and the position in the current file up to which they were looked for."""
    files = []
    for name in (path + ".1", path):
        try:
            with open(name, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            data = b""
        files.append(data[: data.rfind(b"\n") + 1])
    kept = [line for data in files for line in data.splitlines(keepends=True) if line[: len(since)] >= since]
    if tail is not None:
        kept = kept[-tail:] if tail else []
    return kept, len(files[1])


def _whole_lines(file: BinaryIO) -> list[bytes]:
    """Whole lines from the file's position on; what is not whole yet is left for the next time."""
    position = file.tell()
    data = file.read(1 << 20)
    whole = data.rfind(b"\n") + 1
    file.seek(position + whole)
    return data[:whole].splitlines(keepends=True)
