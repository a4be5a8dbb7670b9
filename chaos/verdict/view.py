"""Cuts the judge's view from a history's samples and events: per-flow samples, windows, evidence.

Used by the engine on a live history and by `sharedfate check` on a saved one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chaos.errors import Misuse
from chaos.history.by_flow import FlowSamples
from chaos.history.model import Event, EventKind, Samples
from chaos.model.faulting import FaultPhase
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict.model import FaultEvidence, HistoryView


def view_from(
    samples: Samples,
    events: Iterable[Event],
    *,
    flows: Sequence[Flow] | None = None,
    until: int | None = None,
    pending: Mapping[Flow, NDArray[np.int64]] | None = None,
    since: int | None = None,
) -> HistoryView:
    """Build the view of a history.

    Args:
        samples: of dtype SAMPLE, in any order.
        events: the log of events. Read are: the `trial` header's `flows` (when `flows` is not given), `window` events
            (`kind`, `begin`, `end`; an `end` of null is an open window; of several with the same kind and begin the
            last counts) and `fault` events (`phase`: the word of a FaultPhase, `at` unless `data` holds its own `at`;
            `seen: false` denies it).
        flows: the trial's flows, which the samples' `flow` indexes.
        until: the present, in ns; by default the last thing in the history.
        pending: of each flow the `due` of requests without a sample yet.
        since: begin of steady load.

    Raises Misuse when no flow table is to be found.
    """
    log = list(events)
    table = flows if flows is not None else _flows_of(sorted(log, key=lambda event: event.at))
    if until is None:
        until = max([event.at for event in log] + ([int(samples["done"].max())] if len(samples) else [0]))
    return view_of(FlowSamples(table, samples), log, until=until, pending=pending, since=since)


def view_of(
    flows: Mapping[Flow, Samples],
    events: Iterable[Event],
    *,
    until: int,
    pending: Mapping[Flow, NDArray[np.int64]] | None = None,
    since: int | None = None,
) -> HistoryView:
    """Build the same of samples that are by flow already, and sorted by `due`."""
    log = sorted(events, key=lambda event: event.at)
    return HistoryView(flows, _windows_of(log, until), _evidence_of(log), until, dict(pending or {}), since)


def _flows_of(log: Sequence[Event]) -> list[Flow]:
    for event in log:
        if event.kind is EventKind.TRIAL and "flows" in event.data:
            return [Flow.from_dict(row) for row in event.data["flows"]]
    raise Misuse("this history has no flow table: its first `trial` event must hold `flows`, or pass them")


def _windows_of(log: Sequence[Event], until: int) -> tuple[Window, ...]:
    found: dict[tuple[WindowKind, int], Window] = {}
    for event in log:
        if event.kind is EventKind.WINDOW:
            kind, begin, end = WindowKind(event.data["kind"]), int(event.data["begin"]), event.data.get("end")
            found[kind, begin] = Window(kind, begin, until if end is None else int(end))
    return tuple(sorted(found.values(), key=lambda window: window.begin))


def _evidence_of(log: Sequence[Event]) -> FaultEvidence:
    injected: int | None = None
    restored: int | None = None
    effect = False
    recovered: bool | None = None
    doubts: dict[str, None] = {}
    name = ""
    for event in log:
        if event.kind is not EventKind.FAULT:
            continue
        if event.data.get("phase") == "witness":
            doubts |= dict.fromkeys([str(event.data.get("doubt"))] if not event.data.get("seen") else [])
            continue
        name = name or str(event.data.get("fault", ""))
        at, seen = int(event.data.get("at", event.at)), bool(event.data.get("seen", True))
        match FaultPhase.from_word(event.data.get("phase", "")):
            case FaultPhase.INJECTED if seen:
                injected, effect = at if injected is None else injected, True
            case FaultPhase.RECOVERED:
                restored, recovered = (at, True) if seen else (restored, False)
            case _:
                pass
    return FaultEvidence(effect, recovered, injected, restored, name, "; ".join(doubts))
