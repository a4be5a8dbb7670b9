"""Requests as a loader's ledger has them (`chaos.load.ledger`): kept small, and given as samples when they are read.

A `Ledger` grows while a trial runs; `Entries` is what it held at an instant, and makes samples of it. They are the
loader's samples but for `sent`, which is 0: a ledger does not have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from chaos.history.model import SAMPLE, Outcome, Samples
from chaos.history.words import Pace

ENTRY: Final = np.dtype([("step", "<i2"), ("latency", "<u4"), ("kind", "u1")])  # as the loader packs it
_KEPT: Final = np.dtype([("step", "<i2"), ("latency", "<u4"), ("kind", "<u2")])
_MOST_KINDS: Final = 1 << 16
_MANY: Final = 16  # parts that are joined, so that a look later on need not

Kind = tuple[int, int, int, int, int]  # server, outcome, cause, status, flags
_OF_KIND: Final = ("server", "outcome", "cause", "status", "flags")


def entries_of(content: bytes) -> NDArray[np.void]:
    """Return entries, of dtype ENTRY, from their bytes as a loader sends them: the first ones, the second ones, ..."""
    planes = np.frombuffer(content, np.uint8).reshape(ENTRY.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(ENTRY)


@dataclass(frozen=True, slots=True)
class Entries:
    """What a ledger held at an instant.

    Attributes:
        last: number of the request before the first entry.
        paces: rows of `Pace`; instants on the runner's clock.
        kinds: rows of server, outcome, cause, status, flags, in the history's numbers.
    """

    flow: int
    client: int
    rows: NDArray[np.void]
    last: int
    paces: NDArray[np.int64]
    kinds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def numbers(self) -> NDArray[np.int64]:
        """Return the requests' numbers."""
        counted: NDArray[np.int64] = self.last + np.cumsum(self.rows["step"], dtype=np.int64)
        return counted

    def due(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return when requests fell due, ns. Raises ValueError for a number that no pace holds."""
        first, begin, gap = self.paces.T
        pace = np.searchsorted(first, numbers, side="right") - 1
        if (pace < 0).any() or not gap[pace].all():
            raise ValueError("a request whose pace is not known")
        fell: NDArray[np.int64] = begin[pace] + (numbers - first[pace]) * gap[pace]
        return fell

    def failed(self) -> NDArray[np.int64]:
        """Return when those requests fell due that did not end well, ns."""
        bad = self.kinds[:, _OF_KIND.index("outcome")] != Outcome.OK
        if not bad.any():
            return np.empty(0, np.int64)
        return self.due(self.numbers()[bad[self.rows["kind"]]])

    def samples(self) -> Samples:
        """Return the entries as samples, in their order."""
        found = np.zeros(len(self.rows), SAMPLE)
        if not len(found):
            return found
        numbers = self.numbers()
        found["flow"], found["client"], found["sequence"] = self.flow, self.client, numbers
        found["due"] = self.due(numbers)
        found["done"] = found["due"] + self.rows["latency"]
        for column, name in enumerate(_OF_KIND):
            found[name] = self.kinds[self.rows["kind"], column]
        return found


@dataclass(slots=True)
class Ledger:
    """One flow of one loader's life, whose clock was off by `offset` ns. Its owner keeps threads apart."""

    flow: int
    client: int
    offset: int = 0
    last: int = 0  # number of the request before the first entry
    number: int = 0  # number of the request of the last entry
    paces: list[Pace] = field(default_factory=list)
    kinds: dict[Kind, int] = field(default_factory=dict)
    _parts: list[NDArray[np.void]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def extend(self, rows: NDArray[np.void], kinds: Sequence[Kind]) -> Entries:
        """Append a page's entries, of dtype ENTRY, whose kinds are in the history's numbers; return what is new.

        Raises ValueError when they name no kind of these, or a request whose pace is not known.
        """
        if int(rows["kind"].max(initial=0)) >= max(1, len(kinds)):
            raise ValueError(f"kind {rows['kind'].max()}, and there are {len(kinds)}")
        named = np.array([self.kinds.setdefault(kind, len(self.kinds)) for kind in kinds], np.int64)
        if len(self.kinds) > _MOST_KINDS:
            raise ValueError(f"{len(self.kinds)} kinds of requests")
        kept = np.empty(len(rows), _KEPT)
        kept["step"], kept["latency"] = rows["step"], rows["latency"]
        kept["kind"] = named[rows["kind"]] if len(rows) else 0
        fresh = self._as_entries(kept, self.number)
        if len(kept):
            numbers = fresh.numbers()
            fresh.due(numbers)
            self.number = int(numbers[-1])
            self._parts.append(kept)
        return fresh

    def entries(self) -> Entries:
        """Return what it holds now."""
        if len(self._parts) > _MANY:
            self._parts = [np.concatenate(self._parts)]
        rows = np.concatenate(self._parts) if self._parts else np.empty(0, _KEPT)
        return self._as_entries(rows, self.last)

    def _as_entries(self, rows: NDArray[np.void], last: int) -> Entries:
        paces = np.array(self.paces, np.int64).reshape(-1, 3)
        paces[:, 1] -= self.offset
        return Entries(self.flow, self.client, rows, last, paces, np.array([*self.kinds], np.int64).reshape(-1, 5))
