"""Where the time of a run goes: its spans, nested, by the runner's clock. `trace.json` holds them in Chrome's trace
event format, which Perfetto and chrome://tracing open; the report draws a bar of each trial from it.

Written by the engine (`--chaos-trace`), read by the report.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from chaos.clock import Clock, SystemClock
from chaos.documents import read_json, shown
from chaos.errors import Misuse
from chaos.history.files import write_whole

TRACE_FILE: Final = "trace.json"
TRIAL: Final = "trial"  # name of the span that holds all others of a trial


class SpanKind(StrEnum):
    """What the time of a span is spent on."""

    OBSERVATION = "observation"  # load runs, and what is seen is judged
    FAULT = "fault"  # a fault begins to act, or is undone
    WAIT = "wait"  # for the cluster, or for flows to be healthy
    WORK = "work"  # the runner's own: judging, reports


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a run.

    Attributes:
        begin, end: ns since the epoch.
        thread: one number for each of the runner's threads; spans of one thread are nested.
        facts: what else is known of it, as texts; mode and scenario of a trial.
    """

    name: str
    kind: SpanKind
    begin: int
    end: int
    thread: int = 0
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / 1e9


class Spans:
    """Collects the spans of a run, from any thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._done: list[Span] = []

    @contextmanager
    def span(self, name: str, kind: SpanKind, **facts: str) -> Iterator[None]:
        """The block is a span, however it ends."""
        begin = self._clock.now()
        try:
            yield
        finally:
            self._done.append(Span(name, kind, begin, self._clock.now(), threading.get_ident(), facts))

    def all(self) -> list[Span]:
        """The spans that have ended, by their begin; whoever holds others comes before them."""
        return sorted(self._done, key=lambda one: (one.begin, -one.end))


def trace_of(spans: Iterable[Span], *, run: str) -> dict[str, Any]:
    """Return the spans as Chrome's trace events: complete events (`X`), in microseconds; the run is a process. Pure.

    Source: "Trace Event Format", the Chromium project.
    """
    found = list(spans)
    threads = {one: number for number, one in enumerate(dict.fromkeys(span.thread for span in found), 1)}
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"sharedfate run {run}"}}
    ]
    events += [
        {
            "name": one.name,
            "cat": str(one.kind),
            "ph": "X",
            "ts": one.begin / 1000,
            "dur": (one.end - one.begin) / 1000,
            "pid": 1,
            "tid": threads[one.thread],
            "args": one.facts,
        }
        for one in found
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_trace(directory: Path, spans: Iterable[Span], *, run: str) -> None:
    """Write `trace.json` whole or not at all, replacing an older one."""
    write_whole(directory / TRACE_FILE, json.dumps(trace_of(spans, run=run)) + "\n")


def merge_traces(directories: Sequence[Path], into: Path) -> None:
    """Write one trace of the runs of several directories, a process each; none where none of them has one."""
    events = [
        {**event, "pid": number}
        for number, directory in enumerate(directories, 1)
        if (directory / TRACE_FILE).is_file()
        for event in _events(directory / TRACE_FILE)
    ]
    if events:
        write_whole(into / TRACE_FILE, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n")


def read_trace(directory: Path) -> list[Span]:
    """Read a run's spans, [] where it was not traced; raises Misuse that names the file when it is no trace of ours."""
    path = directory / TRACE_FILE
    if not path.is_file():
        return []
    found: list[Span] = []
    threads: dict[tuple[str, str], int] = {}
    for event in _events(path):
        try:
            if event["ph"] != "X":
                continue
            begin, lasted = round(float(event["ts"]) * 1000), round(float(event["dur"]) * 1000)
            if lasted < 0:
                raise ValueError(f"dur {event['dur']!r}")
            thread = threads.setdefault((str(event["pid"]), str(event["tid"])), len(threads))
            facts = {str(name): str(value) for name, value in event.get("args", {}).items()}
            found.append(Span(str(event["name"]), SpanKind(event["cat"]), begin, begin + lasted, thread, facts))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Misuse(f"{shown(path)}: not a span of a run: {error!r}") from error
    return sorted(found, key=lambda one: (one.thread, one.begin, -one.end))


def _events(path: Path) -> list[dict[str, Any]]:
    raw = read_json(path)
    events = raw.get("traceEvents") if isinstance(raw, dict) else None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise Misuse(f"{shown(path)}: not a trace: no list of objects `traceEvents`")
    return events


def innermost(spans: Sequence[Span], begin: int, end: int) -> list[Span]:
    """Cut the time from begin to end where spans of one thread begin and end, and return each piece under the name of
    the innermost span; neighbours of one name are one. Time that no span holds is left out. Pure.
    """
    edges = sorted({begin, end, *(edge for one in spans for edge in (one.begin, one.end) if begin < edge < end)})
    pieces: list[Span] = []
    for low, high in pairwise(edges):
        over = [one for one in spans if one.begin <= low and one.end >= high]
        if not over:
            continue
        inner = max(over, key=lambda one: (one.begin, -one.end))
        last = pieces[-1] if pieces else None
        if last is not None and last.end == low and (last.name, last.kind) == (inner.name, inner.kind):
            pieces[-1] = Span(last.name, last.kind, last.begin, high, last.thread, last.facts)
        else:
            pieces.append(Span(inner.name, inner.kind, low, high, inner.thread, inner.facts))
    return pieces
