"""A bar for each trial: where its time went, from the run's trace. Pure; the template draws it.

A trial's bar begins when the runner turned to it: what was deployed, taken down or waited for before is in it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history.spans import TRIAL, Span, SpanKind, innermost
from chaos.report.formatting import duration

WIDTH: Final = 1000  # units of the longest bar
_THIN: Final = 0.05  # seconds: what is shorter is not told in words


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar: under one name, from `left`, `width` units wide."""

    name: str
    kind: SpanKind
    left: int
    width: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A trial, or an attempt at one."""

    name: str
    parts: tuple[Part, ...]
    seconds: float
    said: str


@dataclass(frozen=True, slots=True)
class Course:
    """All bars, and what the run's time was spent on.

    Attributes:
        totals: seconds of each kind, in trials.
        outside: what lay between trials, and its seconds.
        ratio: the wall time by what was observed, 0 when nothing was.
    """

    bars: tuple[Bar, ...]
    totals: tuple[tuple[SpanKind, float], ...]
    outside: tuple[tuple[str, float], ...]
    ratio: float


def course_of(spans: Sequence[Span], *, wall: float) -> Course | None:
    """Return the course of a run; None without the span of a trial.

    Args:
        wall: seconds of the run.
    """
    trials = [one for one in spans if one.name == TRIAL]
    if not trials:
        return None
    longest = max(one.end - one.begin for one in trials)
    pieces = {number: innermost(_within(spans, one), one.begin, one.end) for number, one in enumerate(trials)}
    bars = tuple(_bar(one, pieces[number], longest) for number, one in enumerate(trials))
    every = [piece for found in pieces.values() for piece in found]
    totals = tuple((kind, sum(one.seconds for one in every if one.kind is kind)) for kind in SpanKind)
    observed = dict(totals)[SpanKind.OBSERVATION]
    between = [one for one in spans if one.name != TRIAL and not any(_holds(trial, one) for trial in trials)]
    outer = [one for one in between if not any(_holds(other, one) for other in between if other is not one)]
    return Course(bars, totals, _summed(outer), wall / observed if observed else 0.0)


def _within(spans: Iterable[Span], trial: Span) -> list[Span]:
    return [one for one in spans if _holds(trial, one)]


def _holds(trial: Span, one: Span) -> bool:
    return one.thread == trial.thread and trial.begin <= one.begin and one.end <= trial.end


def _bar(trial: Span, pieces: Sequence[Span], longest: int) -> Bar:
    name = f"{trial.facts.get('scenario', '')}[{trial.facts.get('mode', '')}]"

    def x(at: int) -> int:
        return round((at - trial.begin) * WIDTH / (longest or 1))

    parts = tuple(
        Part(_named(piece), piece.kind, x(piece.begin), x(piece.end) - x(piece.begin), piece.seconds)
        for piece in pieces
    )
    told = ", ".join(f"{part.name} {part.seconds:.1f} s" for part in parts if part.seconds >= _THIN)
    return Bar(name, parts, trial.seconds, f"{name}, {duration(trial.seconds)}: {told}")


def _named(piece: Span) -> str:
    return "between steps" if piece.name == TRIAL else piece.name


def _summed(spans: Iterable[Span]) -> tuple[tuple[str, float], ...]:
    sums: dict[str, float] = {}
    for one in spans:
        sums[one.name] = sums.get(one.name, 0.0) + one.seconds
    return tuple(sums.items())
