"""The loader's memory: every sample, in the order in which requests ended, and each flow's counts.

Kept in the loader so that nothing is lost when the runner goes away: a new runner asks again from record 0. Chunks of a
megabyte; when there are many the oldest are moved to an unlinked file, so that memory stays bounded.
"""

from __future__ import annotations

import os
import tempfile
from typing import Final

from chaos.history.words import RECORD, Cause
from chaos.load.outcomes import telling

SIZE: Final = RECORD.size
_HEARD: Final = 64  # of so many unexpected answers one is kept
CHUNK_RECORDS: Final = 26_214  # just under a megabyte


class SampleLog:
    """Append-only records, addressed by number."""

    def __init__(self, *, chunks_in_memory: int = 48) -> None:
        self._limit = chunks_in_memory
        self._chunks: list[bytearray | None] = []  # None: in the file
        self._file: int | None = None
        self._chunk = bytearray(0)
        self._offset = self._end = 0
        self.total = 0

    def add(
        self,
        flow: int,
        client: int,
        server: int,
        outcome: int,
        cause: int,
        status: int,
        flags: int,
        due: int,
        sent: int,
        done: int,
        sequence: int = 0,
    ) -> None:
        if self._offset == self._end:
            self._grow()
        RECORD.pack_into(
            self._chunk, self._offset, flow, client, server, outcome, cause, status, flags, due, sent, done, sequence
        )
        self._offset += SIZE
        self.total += 1

    def _grow(self) -> None:
        self._chunk = bytearray(CHUNK_RECORDS * SIZE)
        self._offset, self._end = 0, len(self._chunk)
        self._chunks.append(self._chunk)
        oldest = len(self._chunks) - 1 - self._limit
        if oldest >= 0:
            chunk = self._chunks[oldest]
            if self._file is None:
                self._file, name = tempfile.mkstemp(prefix="samples-")
                os.unlink(name)
            assert chunk is not None
            os.pwrite(self._file, chunk, oldest * CHUNK_RECORDS * SIZE)
            self._chunks[oldest] = None

    def read(self, first: int, limit: int = CHUNK_RECORDS) -> bytes:
        """Return the records from number `first` on, as many as one chunk holds and `limit` allows."""
        if first >= self.total:
            return b""
        index, skip = divmod(first, CHUNK_RECORDS)
        count = min(CHUNK_RECORDS - skip, self.total - first, limit)
        chunk = self._chunks[index]
        if chunk is None:
            assert self._file is not None
            return os.pread(self._file, count * SIZE, first * SIZE)
        return bytes(memoryview(chunk)[skip * SIZE : (skip + count) * SIZE])


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
