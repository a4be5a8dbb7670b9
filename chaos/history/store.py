"""A trial's directory: `samples.arrows`, `events.jsonl`, `trial.json`; written as the trial runs, loaded to judge it
again.

`samples.arrows` is an Arrow IPC stream of compressed batches: what was written before a crash loads, a torn tail is
left out. Instants are timestamps in ns (UTC), null when there is none: `sent` of a request that was never sent, or of
one that came by a loader's ledger, which does not have it; `server` of an answer that named no pod. Anything that reads
Arrow reads it:

    pandas:  pyarrow.ipc.open_stream("samples.arrows").read_pandas()
    polars:  polars.read_ipc_stream("samples.arrows")

`trial.json` is the header: `flows` and `pods`, which the samples' numbers index, and what the caller put there. It is
replaced in one step whenever a table grows, before the first sample that needs the new row.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chaos.documents import parse_json, read_bytes, read_json, read_text
from chaos.errors import Misuse
from chaos.history.by_flow import FlowSamples
from chaos.history.files import replacing, write_whole
from chaos.history.ledger import Entries, Kind, Ledger
from chaos.history.model import NO_POD, SAMPLE, Cause, Event, EventKind, Outcome, Samples
from chaos.history.result import RESULT_FILE
from chaos.model.flow import Flow

SAMPLES_FILE: Final = "samples.arrows"
EVENTS_FILE: Final = "events.jsonl"
HEADER_FILE: Final = "trial.json"
VERSION: Final = 1

_MOST_EVENTS: Final = 256 << 20  # bytes
_BATCH_ROWS: Final = 8192
_BATCH_SECONDS: Final = 0.5
_REWRITTEN_ROWS: Final = 1 << 18  # in memory at a time, when the file is written again
_RECENT_ROWS: Final = 1 << 16  # of what came by ledgers, kept as samples for `tail`
_CLOSING: Final = frozenset({"end", "verdict", "reason", "samples", "events", "prints"})  # what the last event says
_PRIME: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads values over all bits
_INSTANT: Final = pa.timestamp("ns", tz="UTC")
_LATER: Final = frozenset({"sequence"})  # columns that histories of earlier releases do not have
_NULLS: Final = {"server": NO_POD, "sent": 0}  # what stands for "none" in SAMPLE
SCHEMA: Final = pa.schema(
    [
        pa.field(
            name,
            _INSTANT if SAMPLE[name] == np.dtype("<i8") else pa.from_numpy_dtype(SAMPLE[name]),
            nullable=name in _NULLS,
        )
        for name in SAMPLE.names or ()
    ]
)


def batch_of(samples: Samples) -> pa.RecordBatch:
    """Return samples as one Arrow batch."""
    arrays = []
    for entry in SCHEMA:
        column = np.ascontiguousarray(samples[entry.name])
        mask = column == _NULLS[entry.name] if entry.name in _NULLS else None
        arrays.append(pa.array(column, mask=mask).cast(entry.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def samples_of(batch: pa.RecordBatch) -> Samples:
    """The inverse of `batch_of`."""
    found = np.empty(batch.num_rows, dtype=SAMPLE)
    for name in SAMPLE.names or ():
        if name in _LATER and name not in batch.schema.names:
            found[name] = 0
            continue
        column = batch.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        if name in _NULLS:
            column = column.fill_null(pa.scalar(_NULLS[name], column.type))
        found[name] = column.to_numpy(zero_copy_only=False)
    return found


def print_of(samples: Samples) -> int:
    """Return 64 bits that change with any value of any sample, but not with their order: several loaders have none."""
    mixed = np.zeros(len(samples), np.uint64)
    for name in SAMPLE.names or ():
        mixed = (mixed ^ samples[name].astype(np.uint64)) * _PRIME
        mixed ^= mixed >> np.uint64(32)
    return int(mixed.sum(dtype=np.uint64))


def digest_of(texts: Iterable[str]) -> str:
    """Return the SHA-256 of texts, one after the other."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode())
    return found.hexdigest()


def event_line(event: Event) -> str:
    return json.dumps({"at": event.at, "kind": str(event.kind), "data": dict(event.data)}, separators=(",", ":"))


def event_from(line: str | bytes) -> Event:
    """The inverse of `event_line`; raises Misuse, ValueError, KeyError or TypeError for any other text."""
    data = parse_json(line, source="event")
    return Event(int(data["at"]), EventKind(data["kind"]), dict(data["data"]))


@dataclass(frozen=True, slots=True)
class History:
    """A trial's history, whole in memory.

    Attributes:
        samples: of dtype SAMPLE, in the order in which they arrived.
        torn: whether a file ended in the middle of something: the writer died, and what it wrote before is here.
    """

    directory: Path
    header: Mapping[str, Any]
    flows: tuple[Flow, ...]
    pods: tuple[str, ...]
    samples: Samples
    events: tuple[Event, ...]
    torn: bool = False

    @classmethod
    def load(cls, directory: Path) -> History:
        """Read a trial's directory; raises Misuse when it holds none."""
        path = directory / HEADER_FILE
        if not path.exists():
            raise Misuse(f"{directory}: no {HEADER_FILE}: not the directory of a trial")
        header = read_json(path)
        try:
            if header["version"] != VERSION:
                raise Misuse(f"version {header['version']!r}: this release reads version {VERSION}")
            flows = tuple(Flow.from_dict(flow) for flow in header["flows"])
            pods = tuple(header["pods"])
        except Misuse as error:
            raise Misuse(f"{path}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Misuse(f"{path}: not a trial's header: {error!r}") from error
        samples, torn_samples = _load_samples(directory / SAMPLES_FILE)
        events, torn_events = _load_events(directory / EVENTS_FILE)
        return cls(directory, header, flows, pods, samples, events, torn_samples or torn_events)

    def detect_incomplete(self) -> list[str]:
        """Return what the history lacks, or holds that no writer wrote, a sentence each: the closing event and its
        counts, torn files, unknown words. Empty for a whole one.
        """
        found = ["it ends in the middle of something"] if self.torn else []
        closing = self.events[-1] if self.events else None
        if closing is None or closing.kind is not EventKind.TRIAL or closing.data.get("end") is not True:
            found.append("it has no closing event: the trial was cut off")
        else:
            counts = np.bincount(self.samples["flow"], minlength=len(self.flows)).tolist()
            if closing.data.get("samples") != counts:
                found.append("it holds other numbers of samples than when it was closed")
            if closing.data.get("events") != len(self.events) - 1:
                found.append("it holds another number of events than when it was closed")
            found += self._detect_changed(closing.data)
        for name, words in (("outcome", Outcome), ("cause", Cause)):
            if strange := sorted(set(np.unique(self.samples[name]).tolist()) - set(words)):
                found.append(f"{name} {', '.join(map(str, strange))} is none that a loader knows")
        if (self.samples["flow"] >= len(self.flows)).any():
            found.append("samples are of flows that it does not name")
        return found

    def _detect_changed(self, closing: Mapping[str, Any]) -> list[str]:
        """Return which parts are not those of which the closing event holds fingerprints, a sentence each. Histories of
        earlier releases have none.
        """
        prints: Mapping[str, Any] = closing.get("prints") or {}
        present: dict[str, Callable[[], str]] = {
            "samples": lambda: f"{print_of(self.samples):016x}",
            "events": lambda: digest_of(map(event_line, self.events[:-1])),
            "header": lambda: digest_of([read_text(self.directory / HEADER_FILE)]),
            "result": lambda: digest_of([read_text(self.directory / RESULT_FILE)]),
        }
        strange = [*(closing.keys() - _CLOSING), *(prints.keys() - present.keys())]
        return [
            *(f"its closing event says {name[:50]!r}, which no writer writes" for name in sorted(strange)),
            *(
                f"its {part} changed after the trial was closed"
                for part, work in present.items()
                if part in prints and work() != prints[part]
            ),
        ]

    def to_pandas(self) -> Any:
        """Return the samples as a pandas data frame, with the names of flows and pods beside their numbers (needs
        pandas).
        """
        frame = pa.Table.from_batches([batch_of(self.samples)]).to_pandas()
        frame["flow_name"] = [str(self.flows[number]) for number in self.samples["flow"]]
        for side in ("client", "server"):
            frame[f"{side}_pod"] = [None if number == NO_POD else self.pods[number] for number in self.samples[side]]
        return frame


def _load_samples(path: Path) -> tuple[Samples, bool]:
    batches: list[Samples] = []
    torn = False
    if not path.exists() or path.stat().st_size == 0:
        return np.empty(0, dtype=SAMPLE), True
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            if reader.schema.names not in (SCHEMA.names, [name for name in SCHEMA.names if name not in _LATER]):
                raise Misuse(f"{path}: columns {reader.schema.names}: expected {SCHEMA.names}")
            batches.extend(samples_of(batch) for batch in reader)
    except (pa.ArrowException, OSError):
        torn = True
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise Misuse(f"{path}: not a trial's samples: {error!r}") from error
    return (np.concatenate(batches) if batches else np.empty(0, dtype=SAMPLE)), torn


def _load_events(path: Path) -> tuple[tuple[Event, ...], bool]:
    events: list[Event] = []
    if not path.exists():
        return (), True
    lines = read_bytes(path, most=_MOST_EVENTS).split(b"\n")
    torn = lines.pop() != b""  # a whole log ends with a newline
    for number, line in enumerate(lines, 1):
        try:
            events.append(event_from(line))
        except (Misuse, ValueError, KeyError, TypeError, OverflowError) as error:
            if number == len(lines):
                torn = True
                break
            raise Misuse(f"{path}:{number}: not an event: {error!r}") from error
    return tuple(events), torn


def rewrite_samples(directory: Path, change: Callable[[Samples], None] | None = None) -> None:
    """Write a trial's samples again as few large batches, whole or not at all; never all of them in memory.

    Args:
        change: changes samples in place on their way.
    """
    path = directory / SAMPLES_FILE
    with (
        replacing(path) as fresh,
        pa.OSFile(str(path)) as file,
        pa.ipc.open_stream(file) as reader,
        pa.OSFile(str(fresh), "wb") as sink,
        pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream,
    ):
        for table in _tables(reader):
            if change is None:
                batches = table.combine_chunks().to_batches()
            else:
                samples = np.concatenate([samples_of(batch) for batch in table.to_batches()])
                change(samples)
                batches = [batch_of(samples)]
            for batch in batches:
                stream.write_batch(batch)


def _tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join batches to tables of at least so many rows; the last may have fewer."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _REWRITTEN_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


_Sent = tuple[NDArray[np.int64], NDArray[np.int64]]  # when requests fell due, and when each was sent


def _joined(parts: Sequence[_Sent]) -> _Sent:
    due, sent = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(due, kind="stable")
    return due[order], sent[order]


def _fill_sent(samples: Samples, known: Mapping[tuple[int, int], _Sent]) -> None:
    """Write into samples without `sent` when they were sent, where that is known."""
    if not known:
        return
    order = np.lexsort((samples["client"], samples["flow"]))
    pair = samples["flow"][order].astype(np.int64) * (NO_POD + 1) + samples["client"][order]
    for mine in np.split(order, np.flatnonzero(np.diff(pair)) + 1):
        if not len(mine) or (key := (int(samples["flow"][mine[0]]), int(samples["client"][mine[0]]))) not in known:
            continue
        due, sent = known[key]
        at = np.minimum(np.searchsorted(due, samples["due"][mine]), len(due) - 1)
        found = (due[at] == samples["due"][mine]) & (samples["sent"][mine] == 0)
        samples["sent"][mine[found]] = sent[at[found]]


_Row = TypeVar("_Row", Flow, str)


class HistoryWriter:
    """Writes a trial's history while it runs. Thread-safe: collectors, the recorder and the engine share it.

    Args:
        directory: made when it is missing; must not hold a history already.
        header: what the caller wants to keep (mode, scenario, seed, ...); `version`, `flows` and `pods` are added.
    """

    def __init__(self, directory: Path, header: Mapping[str, Any]) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / HEADER_FILE).exists():
            raise Misuse(f"{directory}: holds a history already: histories are append-only and never replaced")
        self._lock = threading.RLock()
        self._header = dict(header)
        self._flows: dict[Flow, int] = {}
        self._pods: dict[str, int] = {}
        self._named = True  # the header names every flow and pod
        self._saved: list[Samples] = []  # also kept in memory: the judge looks while it grows
        self._ledgers: list[Ledger] = []  # the same of what came by ledgers, a sixth of the size
        self._recent: deque[Samples] = deque()
        self._recent_rows = 0
        self._unwritten: list[Samples] = []  # of ledgers
        self._sent: dict[tuple[int, int], list[_Sent]] = {}  # by flow and client
        self._events: list[Event] = []
        self._buffer: list[Samples] = []
        self._buffered = 0
        self._flushed = time.monotonic()
        self._closed = False
        self._save_header()
        self._sink = pa.OSFile(str(directory / SAMPLES_FILE), "wb")
        self._stream = pa.ipc.new_stream(self._sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        self._log = (directory / EVENTS_FILE).open("a", encoding="utf-8")

    # ---- tables

    def flow(self, flow: Flow) -> int:
        """Return the number of a flow; a new one is added to the header."""
        return self._enter(self._flows, flow)

    def pod(self, name: str) -> int:
        """Return the number of a pod, by `namespace/name`."""
        return self._enter(self._pods, name)

    def _enter(self, table: dict[_Row, int], row: _Row) -> int:
        with self._lock:
            if row not in table:
                if len(table) >= NO_POD:
                    raise Misuse(f"a history numbers at most {NO_POD} flows and as many pods")
                table[row] = len(table)
                self._named = False  # until the next `flush`: of many tenants all are named at once
            return table[row]

    @property
    def flows(self) -> tuple[Flow, ...]:
        with self._lock:
            return tuple(self._flows)

    @property
    def pods(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._pods)

    def note(self, **facts: Any) -> None:
        """Add to the header."""
        with self._lock:
            self._header.update(facts)
            self._save_header()

    def _save_header(self) -> None:
        write_whole(self.directory / HEADER_FILE, self._header_text())
        self._named = True

    def _header_text(self) -> str:
        header = {
            "version": VERSION,
            **self._header,
            "flows": [flow.as_dict() for flow in self._flows],
            "pods": [*self._pods],
        }
        return json.dumps(header, indent=1) + "\n"

    # ---- content

    def append(self, samples: Samples) -> None:
        """Append samples; they are on disk within about half a second of calls, or at `flush`."""
        if not len(samples):
            return
        with self._lock:
            self._buffer.append(samples)
            self._grow_by(len(samples))

    def ledger(self, flow: int, client: int, *, offset: int = 0, after: Ledger | None = None) -> Ledger:
        """Open a ledger of a flow, by the numbers of flow and client. `enter` extends it.

        Args:
            offset: of the loader's clock, ns; of one epoch each has a ledger.
            after: the one before, which this one goes on from.
        """
        opened = Ledger(flow, client, offset)
        if after is not None:
            opened.last = opened.number = after.number
            opened.paces = list(after.paces)
        with self._lock:
            self._ledgers.append(opened)
        return opened

    def enter(self, ledger: Ledger, rows: NDArray[np.void], kinds: Sequence[Kind]) -> Samples:
        """Extend a ledger as `Ledger.extend` does, and write what is new as samples, as `append` does; return them."""
        with self._lock:
            fresh = ledger.extend(rows, kinds).samples()
            if len(fresh):
                self._unwritten.append(fresh)
                self._recent.append(fresh)
                self._recent_rows += len(fresh)
                while self._recent_rows - len(self._recent[0]) >= _RECENT_ROWS:
                    self._recent_rows -= len(self._recent.popleft())
                self._grow_by(len(fresh))
            return fresh

    def note_sent(self, flow: int, client: int, due: NDArray[np.int64], sent: NDArray[np.int64]) -> None:
        """Say when requests of ledgers were sent, by when they fell due; 0: never. `close` writes it."""
        with self._lock:
            self._sent.setdefault((flow, client), []).append((due, sent))

    def _known_sent(self) -> dict[tuple[int, int], _Sent]:
        return {key: _joined(parts) for key, parts in self._sent.items()}

    def _grow_by(self, rows: int) -> None:
        self._buffered += rows
        if self._buffered >= _BATCH_ROWS or time.monotonic() - self._flushed >= _BATCH_SECONDS:
            self.flush()

    def event(self, kind: EventKind, data: Mapping[str, Any] | None = None, *, at: int | None = None) -> Event:
        """Append an event, at `at` or now; the kernel has it when this returns."""
        event = Event(time.time_ns() if at is None else at, kind, dict(data or {}))
        with self._lock:
            self._log.write(event_line(event) + "\n")
            self._log.flush()
            self._events.append(event)
        return event

    def end(self, data: Mapping[str, Any], *, result: str | None = None) -> None:
        """Write the closing event: how the trial ended, the numbers of samples of each flow and of events, and
        fingerprints of all that was written, so that no part can be changed alone. Nothing may be appended after it.

        Args:
            result: the text of the result that is written beside the history.
        """
        with self._lock:
            counts, mixed = np.zeros(len(self._flows), np.int64), 0
            sent = self._known_sent()
            for part in (*self._saved, *self._buffer, *(ledger.entries().samples() for ledger in self._ledgers)):
                _fill_sent(part, sent)
                counts += np.bincount(part["flow"], minlength=len(self._flows))
                mixed += print_of(part)
            prints = {
                "samples": f"{mixed % (1 << 64):016x}",
                "events": digest_of(map(event_line, self._events)),
                "header": digest_of([self._header_text()]),
                **({} if result is None else {"result": digest_of([result])}),
            }
            stated = {"samples": counts.tolist(), "events": len(self._events), "prints": prints}
            self.event(EventKind.TRIAL, {"end": True, **data, **stated})

    def flush(self) -> None:
        with self._lock:
            self._flushed = time.monotonic()
            if not self._named:
                self._save_header()
            if not self._buffered:
                return
            if self._buffer:
                self._saved.append(np.concatenate(self._buffer))
                self._stream.write_batch(batch_of(self._saved[-1]))
            if self._unwritten:
                self._stream.write_batch(batch_of(np.concatenate(self._unwritten)))
            self._buffer, self._unwritten, self._buffered = [], [], 0
            self._sink.flush()

    def snapshot(self) -> tuple[Samples, tuple[Event, ...]]:
        """Return the history so far. Of a large one that came by ledgers, `by_flow` costs less."""
        with self._lock:
            samples, ledgers, events = self._parts()
        return np.concatenate([samples, *(one.samples() for one in ledgers)]), events

    def by_flow(self) -> FlowSamples:
        """Return the samples so far by flow."""
        with self._lock:
            samples, ledgers, _ = self._parts()
            return FlowSamples(tuple(self._flows), samples, ledgers)

    def events(self) -> tuple[Event, ...]:
        """Return the events so far."""
        with self._lock:
            return tuple(self._events)

    def _parts(self) -> tuple[Samples, list[Entries], tuple[Event, ...]]:
        parts: Sequence[Samples] = [*self._saved, *self._buffer]
        if len(self._saved) > 16:  # keep later snapshots cheap
            self._saved = [np.concatenate(self._saved)]
        whole = np.concatenate(parts) if parts else np.empty(0, dtype=SAMPLE)
        return whole, [one.entries() for one in self._ledgers], tuple(self._events)

    def tail(self, rows: int) -> Samples:
        """Return about the last `rows` samples (never fewer, when there are, but of ledgers at most the last
        65,536): cheap at any length of the history.
        """
        with self._lock:
            parts: list[Samples] = [*self._recent][::-1]
            missing = rows
            for part in reversed([*self._saved, *self._buffer]):
                parts.append(part[-missing:] if len(part) > missing else part)
                missing -= len(part)
                if missing <= 0:
                    break
            return np.concatenate(parts[::-1]) if parts else np.empty(0, dtype=SAMPLE)

    def close(self) -> None:
        """Flush, and write the samples again as few large batches: smaller, and quicker to load. Safe to repeat."""
        with self._lock:
            if self._closed:
                return
            self.flush()
            self._closed = True
            self._stream.close()
            self._sink.close()
            self._log.close()
            known = self._known_sent()
            rewrite_samples(self.directory, (lambda samples: _fill_sent(samples, known)) if known else None)

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
