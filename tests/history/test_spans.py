"""Spans of a run: collected by its clock, written as Chrome's trace events, read back, and cut into pieces."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from chaos.errors import Misuse
from chaos.history.spans import Span, SpanKind, Spans, innermost, merge_traces, read_trace, trace_of, write_trace

SECOND = 1_000_000_000
BEGIN = 1_780_000_000 * SECOND


class Ticking:
    """A clock that goes on by a second each time it is asked."""

    def __init__(self) -> None:
        self.at = BEGIN

    def now(self) -> int:
        self.at += SECOND
        return self.at

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        self.at += int(seconds * SECOND)
        return False


def span(name: str, begin: float, end: float, kind: SpanKind = SpanKind.WAIT) -> Span:
    return Span(name, kind, BEGIN + int(begin * SECOND), BEGIN + int(end * SECOND))


def test_a_span_ends_however_its_block_ends_and_stands_after_whoever_holds_it() -> None:
    spans = Spans(Ticking())
    with (
        pytest.raises(KeyError),
        spans.span("trial", SpanKind.WORK, mode="node"),
        spans.span("baseline", SpanKind.OBSERVATION),
    ):
        raise KeyError
    assert [(one.name, one.seconds, one.facts) for one in spans.all()] == [
        ("trial", 3.0, {"mode": "node"}),
        ("baseline", 1.0, {}),
    ]


def test_a_trace_holds_complete_events_in_microseconds_a_thread_each() -> None:
    there = [span("deploy", 0.25, 2.5), Span("take down", SpanKind.WAIT, BEGIN, BEGIN + 5, thread=9)]
    name, deploy, down = trace_of(there, run="cafe")["traceEvents"]
    assert name == {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "sharedfate run cafe"}}
    assert deploy == {
        "name": "deploy",
        "cat": "wait",
        "ph": "X",
        "ts": (BEGIN + SECOND // 4) / 1000,
        "dur": 2_250_000.0,
        "pid": 1,
        "tid": 1,
        "args": {},
    }
    assert down["tid"] == 2


def test_what_was_written_is_read_back_and_runs_of_workers_are_processes_of_one_trace(tmp_path: Path) -> None:
    workers = [tmp_path / name for name in ("gw0", "gw1", "gw2")]
    for number, worker in enumerate(workers[:2]):
        worker.mkdir()
        write_trace(worker, [span("trial", number, number + 3), span("hold", number, number + 1)], run=str(number))
        assert [(one.name, one.begin, one.end) for one in read_trace(worker)] == [
            ("trial", BEGIN + number * SECOND, BEGIN + (number + 3) * SECOND),
            ("hold", BEGIN + number * SECOND, BEGIN + (number + 1) * SECOND),
        ]
    assert read_trace(workers[2]) == []
    merge_traces(workers, tmp_path)
    assert {event["pid"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]} == {1, 2}
    assert [(one.name, one.thread) for one in read_trace(tmp_path)] == [
        ("trial", 0),
        ("hold", 0),
        ("trial", 1),
        ("hold", 1),
    ]


def test_runs_that_were_not_traced_have_no_trace_together(tmp_path: Path) -> None:
    merge_traces([tmp_path / "gw0"], tmp_path)
    assert not (tmp_path / "trace.json").exists()


ODD: list[dict[str, object]] = [
    {"cat": "holiday"},
    {"cat": []},
    {"ts": "soon"},
    {"ts": 1e999},
    {"dur": -1},
    {"dur": None},
    {"args": []},
]
GOOD: dict[str, object] = {"ph": "X", "name": "n", "cat": "wait", "ts": 1, "dur": 1, "pid": 1, "tid": 1}


@pytest.mark.parametrize(
    "raw",
    [
        "[]",
        "{}",
        '{"traceEvents": {}}',
        '{"traceEvents": [1]}',
        "{",
        *(json.dumps({"traceEvents": [{**GOOD, **odd}]}) for odd in ODD),
        *(
            json.dumps({"traceEvents": [{key: value for key, value in GOOD.items() if key != left}]})
            for left in ("ph", "name", "cat", "ts", "dur", "pid")
        ),
    ],
)
def test_what_is_no_trace_is_refused_by_its_name(tmp_path: Path, raw: str) -> None:
    (tmp_path / "trace.json").write_text(raw)
    with pytest.raises(Misuse, match=r"trace\.json"):
        read_trace(tmp_path)


def test_time_goes_to_the_innermost_span_and_neighbours_of_one_name_are_one() -> None:
    spans = [
        span("trial", 0, 10),
        span("baseline", 1, 4, SpanKind.OBSERVATION),
        span("looks", 5, 9, SpanKind.OBSERVATION),
        span("hold", 6, 7, SpanKind.OBSERVATION),
        span("hold", 7, 8, SpanKind.OBSERVATION),
    ]
    found = [
        (one.name, (one.begin - BEGIN) / SECOND, one.seconds) for one in innermost(spans, BEGIN, BEGIN + 10 * SECOND)
    ]
    assert found == [
        ("trial", 0, 1),
        ("baseline", 1, 3),
        ("trial", 4, 1),
        ("looks", 5, 1),
        ("hold", 6, 2),
        ("looks", 8, 1),
        ("trial", 9, 1),
    ]


def test_time_of_no_span_is_left_out() -> None:
    found = innermost([span("a", 1, 2), span("a", 3, 4)], BEGIN, BEGIN + 5 * SECOND)
    assert [(one.name, one.seconds) for one in found] == [("a", 1), ("a", 1)]
