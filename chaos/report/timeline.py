"""Reduces a trial's history to few enough numbers to draw: per flow and time bin the rate, the causes of errors, the
latencies.

Pure: a history in, a `Timeline` out. A bin counts requests by the instant they were due, as the judge does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from chaos.errors import Misuse
from chaos.history.model import Cause, Event, EventKind, Outcome, Samples
from chaos.history.store import History
from chaos.model.faulting import FaultPhase
from chaos.model.flow import Flow, Window, WindowKind
from chaos.names import SYSTEM_NAMESPACE
from chaos.verdict.view import view_from

NANO: Final = 1_000_000_000
QUANTILES: Final = (0.50, 0.95, 0.99)
_WIDTHS: Final = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # s: what a reader can count in
_FEW: Final = 20  # answers below which no quantile says anything
_HELPER: Final = "helper-"  # begins the names of the tool's own short-lived pods, in its own namespace
_TOLD: Final = frozenset({"Killing", "Started", "BackOff", "OOMKilling", "Unhealthy", "Evicted", "Preempting"})


@dataclass(frozen=True, slots=True)
class FlowSeries:
    """One flow. Arrays have one entry per bin; a latency is NaN where no request was answered."""

    flow: str
    rate: NDArray[np.float64]  # requests due per second
    causes: Mapping[str, NDArray[np.float64]]  # share of the bin's requests that failed for it
    latency: NDArray[np.float64]  # (3, bins): p50, p95, p99 of answered requests, in ms
    said: str  # the same in a sentence, for those who cannot see the chart


@dataclass(frozen=True, slots=True)
class Mark:
    """An event at an instant."""

    at: float  # s from the fault
    kind: str  # fault | restart
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds count from the begin of the first fault window (of the trial, when it has none)."""

    edges: NDArray[np.float64]  # bins + 1
    flows: tuple[FlowSeries, ...]
    windows: tuple[tuple[str, float, float], ...]  # kind, begin, end
    marks: tuple[Mark, ...]

    @property
    def span(self) -> tuple[float, float]:
        return float(self.edges[0]), float(self.edges[-1])

    @property
    def faults(self) -> list[tuple[float, float]]:
        return [(begin, end) for kind, begin, end in self.windows if kind == WindowKind.FAULT]


def timeline_of(history: History, *, bins: int) -> Timeline | None:
    """Return at most `bins` bins, from the baseline (or the trial's begin) on; None when no request was recorded.

    A history holds what the loaders sent since they were deployed: what came before is of other trials.
    """
    if not len(history.samples) or bins < 1:
        return None
    windows = _windows(history)
    faults = [window for window in windows if window.kind is WindowKind.FAULT]
    began = min((event.at for event in history.events if event.kind is EventKind.TRIAL), default=0)
    began = min((window.begin for window in windows if window.kind is WindowKind.BASELINE), default=began)
    samples = history.samples[history.samples["due"] >= began]
    if not len(samples):
        return None
    first, last = int(samples["due"].min()), int(samples["due"].max())
    origin = faults[0].begin if faults else first
    width = bin_width((last - first) / NANO, bins)
    begin = np.floor((first - origin) / NANO / width)
    count = int(np.floor((last - origin) / NANO / width) - begin) + 1
    edges = (begin + np.arange(count + 1)) * width
    flows = tuple(
        series
        for number, flow in enumerate(history.flows)
        if not flow.sentinel
        if (series := _series(flow, samples[samples["flow"] == number], origin, edges, faults))
    )
    shown = [(str(w.kind), (w.begin - origin) / NANO, (w.end - origin) / NANO) for w in windows]
    marks = [mark for mark in marks_of(history.events, origin) if edges[0] <= mark.at <= edges[-1]]
    return Timeline(edges, flows, tuple(shown), tuple(sorted(marks, key=lambda mark: mark.at)))


def bin_width(seconds: float, bins: int) -> float:
    """Return the narrowest readable bin width with which so many bins suffice."""
    return next(
        (width for width in _WIDTHS if seconds / width <= bins - 1), max(_WIDTHS[-1], 1.05 * seconds / max(1, bins - 1))
    )


def _windows(history: History) -> tuple[Window, ...]:
    try:
        return view_from(history.samples, history.events, flows=history.flows).windows
    except (Misuse, KeyError, ValueError):
        return ()  # a trial that died early has none that can be read; its requests are still worth a look


def _series(
    flow: Flow, samples: Samples, origin: int, edges: NDArray[np.float64], faults: Sequence[Window]
) -> FlowSeries | None:
    if not len(samples):
        return None
    at = (samples["due"] - origin) / NANO
    place = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
    bins = len(edges) - 1
    total = np.bincount(place, minlength=bins).astype(float)
    ok = samples["outcome"] == Outcome.OK
    causes = {}
    for cause in Cause:
        failed = ~ok & (samples["cause"] == cause)
        if failed.any():
            causes[_spell(cause)] = np.bincount(place[failed], minlength=bins) / np.maximum(total, 1.0)
    latency = _quantiles(((samples["done"] - samples["due"]) / 1e6)[ok], place[ok], bins)
    return FlowSeries(str(flow), total / np.diff(edges), causes, latency, _said(samples, faults))


def _quantiles(values: NDArray[np.float64], place: NDArray[np.int64], bins: int) -> NDArray[np.float64]:
    """Return the nearest-rank quantiles of each bin: one sort for all bins, and every figure is one that was
    measured.
    """
    ordered = values[np.lexsort((values, place))]
    counts = np.bincount(place, minlength=bins)
    begins = np.cumsum(counts) - counts
    found = np.full((len(QUANTILES), bins), np.nan)
    some = counts > 0
    for row, quantile in enumerate(QUANTILES):
        rank = np.ceil(quantile * counts[some]).astype(int) - 1
        found[row, some] = ordered[begins[some] + rank]
    return found


def _said(samples: Samples, faults: Sequence[Window]) -> str:
    inside = np.zeros(len(samples), dtype=bool)
    for window in faults:
        inside |= (samples["due"] >= window.begin) & (samples["due"] < window.end)
    if not inside.any():
        return _part(samples, "in all")
    return f"{_part(samples[~inside], 'outside the fault')}; {_part(samples[inside], 'during the fault')}"


def _part(samples: Samples, when: str) -> str:
    if not len(samples):
        return f"{when} no request"
    bad = samples["outcome"] != Outcome.OK
    text = f"{when} {len(samples)} requests, {100 * np.mean(bad):.1f} % not answered well"
    if bad.any():
        counts = {_spell(cause): int(np.sum(bad & (samples["cause"] == cause))) for cause in Cause}
        text += " (" + ", ".join(f"{name} {count}" for name, count in counts.items() if count) + ")"
    if (count := int(np.sum(~bad))) < _FEW:
        text += f", {count} answered: too few for a latency" if count else ", none answered"
    else:
        answered = (samples["done"] - samples["due"])[~bad] / 1e6
        text += ", latency p50 {:.1f}, p95 {:.1f}, p99 {:.1f} ms".format(*np.quantile(answered, QUANTILES))
    return text


def _spell(cause: Cause) -> str:
    return "other" if cause is Cause.NONE else cause.name.lower().replace("_", " ")


def marks_of(events: Iterable[Event], origin: int) -> list[Mark]:
    """Return the events, in order: faults, containers that restarted, stopped or went, and Kubernetes Events about
    them.

    The tool's own helper pods are left out: they come and go with each fault.
    """
    found: list[Mark] = []
    seen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in sorted(events, key=lambda event: event.at):
        data = event.data
        if _is_helper(data):
            continue
        at = (int(data.get("at", event.at)) - origin) / NANO
        if event.kind is EventKind.FAULT and data.get("phase") in (FaultPhase.INJECTED, FaultPhase.RECOVERED):
            what = f"{data.get('fault', 'fault')} {data['phase']}: {data.get('target', '')}"
            found.append(Mark(at, "fault", what.rstrip(": ")))
        elif event.kind is EventKind.KUBERNETES and data.get("reason") in _TOLD:
            words = (data.get(key) for key in ("reason", "object", "message"))
            found.append(Mark(at, "restart", " ".join(str(word) for word in words if word)[:160]))
        elif event.kind is EventKind.CONTAINER:
            key = (str(data.get("uid") or data.get("pod")), str(data.get("container", "")))
            if text := detect_restart(seen.get(key), data):
                place = "/".join(str(data[name]) for name in ("namespace", "pod") if name in data)
                found.append(Mark(at, "restart", f"{place}{f'[{key[1]}]' if key[1] else ''} {text}"))
            seen[key] = data
    return found


def _is_helper(data: Mapping[str, Any]) -> bool:
    name = str(data.get("pod") or "") or str(data.get("object") or "").removeprefix("Pod/")
    return data.get("namespace") == SYSTEM_NAMESPACE and name.startswith(_HELPER)


def detect_restart(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    """Return what happened to a container between two looks; empty when it only started, became ready, or was first
    seen.
    """
    if new.get("state") == "gone":
        return "gone"
    if old is None:
        return ""
    if new.get("restarts", 0) > old.get("restarts", 0):
        why = f", after {new['last_reason']}" if new.get("last_reason") else ""
        return f"restarted ({new['restarts']} time{'s' * (new['restarts'] != 1)}{why})"
    if new.get("state") == "terminated" and old.get("state") != "terminated":
        return f"ended ({new.get('reason') or 'no reason given'}, exit code {new.get('exit_code')})"
    return ""
