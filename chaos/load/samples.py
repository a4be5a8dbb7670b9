"""The loader's memory: every sample, in the order in which requests ended, and each flow's counts.

Kept in the loader so that nothing is lost when the runner goes away: a new runner asks again from record 0.
"""

from __future__ import annotations

import os
import tempfile
from struct import Struct
from typing import Final

from chaos.history.words import RECORD, Cause
from chaos.load.outcomes import telling

_HEARD: Final = 64  # of so many unexpected answers one is kept
CHUNK_RECORDS: Final = 26_214  # of samples: just under a megabyte
MOST_CHUNKS: Final = 1024  # of a log: a gigabyte of samples, a day and a half at 200 a second


class RecordLog:
    """Append-only records of one layout, addressed by number.

    Chunks; when there are many the oldest are moved to an unlinked file, so that memory stays bounded, and when the
    file is full they are forgotten: `first` is the oldest record that is still there.
    """

    def __init__(
        self, layout: Struct, *, chunk_records: int, chunks_in_memory: int, most_chunks: int = MOST_CHUNKS
    ) -> None:
        self._layout, self._records, self._size = layout, chunk_records, layout.size
        self._limit, self._most = chunks_in_memory, most_chunks
        self._chunks: list[bytearray | None] = []  # None: in the file, or forgotten
        self._file: int | None = None
        self._chunk = bytearray(0)
        self._offset = self._end = 0
        self.total = 0

    @property
    def first(self) -> int:
        """The number of the oldest record that is kept."""
        return max(0, len(self._chunks) - self._most) * self._records

    def add(self, *values: int) -> None:
        if self._offset == self._end:
            self._grow()
        self._layout.pack_into(self._chunk, self._offset, *values)
        self._offset += self._size
        self.total += 1

    def _grow(self) -> None:
        self._chunk = bytearray(self._records * self._size)
        self._offset, self._end = 0, len(self._chunk)
        self._chunks.append(self._chunk)
        oldest = len(self._chunks) - 1 - self._limit
        if oldest >= 0:
            chunk = self._chunks[oldest]
            if self._file is None:
                self._file, name = tempfile.mkstemp(prefix="records-")
                os.unlink(name)
            assert chunk is not None
            os.pwrite(self._file, chunk, self._place(oldest))
            self._chunks[oldest] = None

    def _place(self, chunk: int) -> int:
        """Return where in the file a chunk lies: the newest ones take the places of those that are forgotten."""
        return chunk % self._most * self._records * self._size

    def read(self, first: int, limit: int) -> bytes:
        """Return the records from number `first` on, as many as one chunk holds and `limit` allows. Those before
        `self.first` are gone: ask from there.
        """
        if first >= self.total or first < self.first:
            return b""
        index, skip = divmod(first, self._records)
        count = min(self._records - skip, self.total - first, limit)
        chunk = self._chunks[index]
        if chunk is None:
            assert self._file is not None
            return os.pread(self._file, count * self._size, self._place(index) + skip * self._size)
        return bytes(memoryview(chunk)[skip * self._size : (skip + count) * self._size])


def sample_log(*, chunks_in_memory: int = 48, most_chunks: int = MOST_CHUNKS) -> RecordLog:
    """Return an empty log of whole samples."""
    return RecordLog(RECORD, chunk_records=CHUNK_RECORDS, chunks_in_memory=chunks_in_memory, most_chunks=most_chunks)


class FlowCounters:
    """One flow's counts at the loader's end, which those at the runner's end must equal."""

    __slots__ = (
        "done",
        "due",
        "ends",
        "failed",
        "id",
        "keep_every",
        "label",
        "late",
        "name",
        "ok",
        "opened",
        "said",
        "sent",
        "sentinel",
        "server",
        "shed",
        "stored",
        "unknown",
    )

    def __init__(self, number: int, *, name: str, server: str, sentinel: bool, label: str, keep_every: int) -> None:
        self.id, self.name, self.server, self.sentinel, self.label = number, name, server, sentinel, label
        self.keep_every = keep_every
        self.due = self.sent = self.done = self.ok = self.failed = self.unknown = self.shed = 0
        self.stored = self.late = self.opened = 0
        self.ends: dict[str, int] = {}  # how requests ended that did not end well: "RESET", "STATUS 503"
        self.said = ""  # headers of the last unexpected answer by which proxies say what they did

    def count_end(self, cause: int, status: int) -> None:
        """Count a request that did not end well."""
        how = Cause(cause).name + (f" {status}" if status else "")
        self.ends[how] = self.ends.get(how, 0) + 1

    def hear(self, head: bytes, body: bytes) -> None:
        """An unexpected answer came; of many alike now and then one is kept."""
        if not self.said or not self.done % _HEARD:
            self.said = telling(head, body)

    def as_dict(self) -> dict[str, int | str | bool | dict[str, int]]:
        return {name: getattr(self, name) for name in self.__slots__}
