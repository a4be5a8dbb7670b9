"""Containers' logs: written by the node (nodeinit) in CRI's format, read here for the API's `log` subresource.

A pod with a hostPath volume can write the files, so they are opened beneath the node's directory and read piece by
piece: neither their size nor the length of a line can be trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final

from chaos.embedded.beneath import Beneath
from chaos.embedded.kubelet.nodeinit import LOG_BYTES
from chaos.embedded.node_api import LogOptions

POLL: Final = 0.05  # seconds between looks at a log that is followed
CHUNK: Final = 1 << 16
MOST: Final = 2 * LOG_BYTES  # bytes of a file that are looked at, its last ones; the node rotates it long before
LONGEST: Final = 1 << 17  # bytes of a line; the node writes 16 KiB at most, the rest is somebody else's doing


def render(line: bytes, *, timestamps: bool) -> bytes:
    """Render a CRI line (`<time> <stream> F|P <text>`) as the API shows it: a partial line gets no newline."""
    stamp, _, rest = line.partition(b" ")
    _stream, _, rest = rest.partition(b" ")
    tag, _, text = rest.partition(b" ")
    if tag == b"P":
        text = text.removesuffix(b"\n")
    return stamp + b" " + text if timestamps else text


def tail_text(directory: Beneath, path: str, *, lines: int, limit: int) -> str:
    """The last lines of a log, for termination messages."""
    kept = b""
    with contextlib.ExitStack() as files:
        for file, begin, end in _opened(directory, path, files):
            start = _tail_start(file, begin, end, lines)
            if start > begin:
                kept = b""  # this one alone has as many lines
            file.seek(start)
            for line in _lines(file, end):
                kept = (kept + render(line, timestamps=False))[-limit:]
    return kept.decode(errors="replace")


async def read_log(
    directory: Beneath, path: str, options: LogOptions, ended: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """Read a log by the API's options, in chunks. Following ends when `ended` is set and everything was read. Raises
    LookupError.
    """
    since = b""
    if options.since_seconds is not None:
        since = (datetime.now(UTC) - timedelta(seconds=options.since_seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()
    left = options.limit_bytes
    with contextlib.ExitStack() as stack:
        files = _opened(directory, path, stack)
        if not files:
            raise LookupError("the container has no log")
        wanted = options.tail_lines
        starts = []
        for file, begin, end in reversed(files):
            start = begin
            if wanted is not None:
                start = await asyncio.to_thread(_tail_start, file, begin, end, wanted)
                if start > begin:
                    wanted = 0
                else:
                    wanted -= min(wanted, await asyncio.to_thread(_count, file, begin, end))
            starts.append((file, start, end))
        for file, start, end in reversed(starts):
            file.seek(start)
            lines = _lines(file, end)
            while text := await asyncio.to_thread(_piece, lines, since, timestamps=options.timestamps):
                if left is not None:
                    text, left = text[:left], left - len(text[:left])
                yield text
                if left == 0:
                    return
        if not options.follow:
            return
        file = files[-1][0]
        while True:
            over = ended()
            text = b"".join(render(line, timestamps=options.timestamps) for line in _lines(file, None, most=CHUNK))
            if left is not None:
                text, left = text[:left], left - len(text[:left])
            if text:
                yield text
            elif (gone := _replaced(file, directory, path)) is not None and not gone:  # rotated: the old one was read
                file = stack.enter_context(directory.stream(path))
            elif over or gone:
                return
            else:
                await asyncio.sleep(POLL)
            if left == 0:
                return


def _opened(directory: Beneath, path: str, stack: contextlib.ExitStack) -> list[tuple[BinaryIO, int, int]]:
    """The log's existing files, oldest first, each with the range that is looked at: to its present end."""
    found = []
    for name in (path + ".1", path):
        with contextlib.suppress(OSError):
            file = stack.enter_context(directory.stream(name))
            size = os.fstat(file.fileno()).st_size
            found.append((file, max(0, size - MOST), size))
    return found


def _replaced(file: BinaryIO, directory: Beneath, path: str) -> bool | None:
    """False: the path holds another file than the open one. True: it holds none. None: it holds the open one."""
    inode = directory.inode(path)
    if inode is None:
        return True
    return None if inode == os.fstat(file.fileno()).st_ino else False


def _piece(lines: Iterator[bytes], since: bytes, *, timestamps: bool) -> bytes:
    """Render about one chunk of lines; b"" at the end."""
    buffer = bytearray()
    for line in lines:
        if line[: len(since)] >= since:
            buffer += render(line, timestamps=timestamps)
            if len(buffer) >= CHUNK:
                break
    return bytes(buffer)


def _lines(file: BinaryIO, end: int | None, *, most: int | None = None) -> Iterator[bytes]:
    """Read whole lines from the file's position to `end` (None: to its end), or until `most` bytes were read.

    The position stays behind the last whole line: a partial one is for the next call.
    """
    rest, taken = b"", 0
    position = file.tell()
    try:
        while (end is None or position + len(rest) < end) and (most is None or taken < most):
            room = CHUNK if end is None else min(CHUNK, end - position - len(rest))
            data = file.read(room)
            if not data:
                return
            taken += len(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                position += len(line) + 1
                yield line + b"\n"
            if len(rest) > LONGEST:
                position += len(rest)
                line, rest = rest, b""
                yield line + b"\n"
    finally:
        file.seek(position)


def _count(file: BinaryIO, begin: int, end: int) -> int:
    """Count the lines between two offsets."""
    file.seek(begin)
    return sum(1 for _ in _lines(file, end))


def _tail_start(file: BinaryIO, begin: int, end: int, lines: int) -> int:
    """The offset of the last `lines` whole lines between two offsets; `begin` when there are no more."""
    position, found = end, 0
    while position > begin:
        size = min(CHUNK, position - begin)
        position -= size
        file.seek(position)
        data = file.read(size)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found > lines:
                return position + at + 1
    return begin
