"""What a verdict reads of each request, in seven bytes: how the loader counts what it measures.

A verdict asks how many requests fell due in a window, had ended by an instant, failed, were slow. Windows are cut by
evidence, to the nanosecond, after the fact, and the threshold of slowness comes from the baseline: counts by fixed
windows or by classes of latency would move requests across edges that nobody knows yet. What is exact for every edge
is the order itself, and it is small. When a request fell due follows from its number, for a flow is paced evenly. So
an entry holds by how much its number exceeds that of the entry before, its latency, and its *kind*: one number for
each combination of server, outcome, cause, status and flags that the flow has seen. All that a sample has more is the
instant at which it was sent.

What does not fit (random arrivals, more than four seconds, a 257th kind) is given in full instead, as a sample.

`chaos.history.ledger` reads entries; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaos.history.words import ENTRY, RECORD, Pace
from chaos.load.samples import CHUNK_RECORDS, RecordLog

Kind = tuple[int, int, int, int, int]  # server, outcome, cause, status, flags

PAGE_ENTRIES: Final = 8192  # of all flows: packing them takes the loop a millisecond
_CHUNK_ENTRIES: Final = 8192
_MOST_KINDS: Final = 256
_MOST_LATENCY: Final = 1 << 32  # ns
_MOST_STEP: Final = 1 << 15


class FlowLedger:
    """One flow's entries, in the order in which its requests ended."""

    __slots__ = ("_last", "_numbers", "entries", "kinds", "paces")

    def __init__(self) -> None:
        self.entries = RecordLog(ENTRY, chunk_records=_CHUNK_ENTRIES, chunks_in_memory=64, most_chunks=16_384)
        self.kinds: list[Kind] = []
        self.paces: list[Pace] = []
        self._numbers: dict[Kind, int] = {}
        self._last = 0  # number of the request of the last entry

    def set_pace(self, number: int, due: int, gap: int) -> None:
        """From that request on, which is due then, another falls due each `gap` ns; 0: at random."""
        self.paces.append((number, due, gap))

    def enter(self, number: int, latency: int, kind: Kind) -> bool:
        """Enter a request that has ended; False when an entry cannot hold it."""
        step = number - self._last
        if not -_MOST_STEP <= step < _MOST_STEP or latency >= _MOST_LATENCY or not self._is_paced(number):
            return False
        named = self._numbers.get(kind)
        if named is None:
            if len(self.kinds) == _MOST_KINDS:
                return False
            named = self._numbers[kind] = len(self.kinds)
            self.kinds.append(kind)
        self.entries.add(step, latency, named)
        self._last = number
        return True

    def _is_paced(self, number: int) -> bool:
        """Whether the instant at which that request fell due follows from its number."""
        for first, _, gap in reversed(self.paces):
            if first <= number:
                return gap > 0
        return False

    def read(self, entries: int, limit: int) -> bytes:
        """Return entries from a number on, byte by byte of all (their first bytes, their second ones, ...): alike
        stands beside alike, so that it deflates.
        """
        rows = self.entries.read(entries, limit)
        return b"".join(rows[byte :: ENTRY.size] for byte in range(ENTRY.size))


class Ledgers:
    """The ledgers of a loader's flows by their numbers, and what no entry can hold.

    A reader has a *place*: how many samples in full it has, and of each flow how many entries, paces and kinds.
    """

    def __init__(self) -> None:
        self.flows: list[FlowLedger] = []
        self.in_full = RecordLog(RECORD, chunk_records=CHUNK_RECORDS, chunks_in_memory=8)

    def of(self, flow: int) -> FlowLedger:
        """Return a flow's ledger, by the flow's number."""
        while len(self.flows) <= flow:
            self.flows.append(FlowLedger())
        return self.flows[flow]

    def read(self, place: Sequence[int]) -> tuple[dict[str, object], bytes]:
        """Return what comes after a place: the head (`in_full` and of each flow what the bytes are), and the bytes:
        samples in full, then each flow's entries.
        """
        begin = max(place[0] if place else 0, self.in_full.first)
        parts = [self.in_full.read(begin, PAGE_ENTRIES // 4)]
        flows = []
        left = PAGE_ENTRIES
        for number, ledger in enumerate(self.flows):
            entries, paces, kinds = [*place[1 + 3 * number : 4 + 3 * number], 0, 0, 0][:3]
            entries = max(entries, ledger.entries.first)
            parts.append(ledger.read(entries, left))
            count = len(parts[-1]) // ENTRY.size
            left -= count
            flows.append(
                {
                    "from": [entries, paces, kinds],
                    "count": count,
                    "paces": ledger.paces[paces:],
                    "kinds": ledger.kinds[kinds:],
                }
            )
        in_full = {"from": begin, "count": len(parts[0]) // RECORD.size}
        return {"in_full": in_full, "ledgers": flows}, b"".join(parts)
