"""Judges whether each flow came back after the undo: from its requests, never from readiness.

A flow is *back* from the instant after which it is seen to be equivalent to its baseline, both effects below their
margins, until the end of the watch, and for `stay_seconds` at least (two one-sided tests, Schuirmann 1987). It must be
back `back_seconds` after the undo at the latest. A flow that is clearly worse than its baseline after that time *did
not recover*; a bystander that was not hurt by the fault, and clearly loses requests from the undo on, was *hurt by the
undo*: that it is slower is no claim, for its own speed may change, but it is not back either. What is neither is not
known.

Used by `judging` alone, with its tests of one effect in one window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import measures
from chaos.verdict.model import NANO, EffectKind, Thresholds
from chaos.verdict.tally import Series

Equivalent = Callable[[Flow, EffectKind, Window], bool]  # its rise from baseline to window is below the margin


class Worse(Protocol):
    """Whether a flow's rise in a window is above the margin; `spared`: the fault had not hurt it."""

    def __call__(self, flow: Flow, kind: EffectKind, window: Window, *, spared: bool) -> bool: ...


_SLACK_NS: Final = 100_000_000  # samples of the last moments may not have come yet


class Return(StrEnum):
    """What is known about a flow after the undo."""

    BACK = "back"
    NOT_BACK = "did not recover"
    HURT_BY_UNDO = "hurt by the undo"
    UNKNOWN = "not seen back"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One flow's recovery: what is known, and after how many seconds it was back (None: not seen back)."""

    flow: Flow
    found: Return
    seconds: float | None = None


def judge_recovery(
    series: Series,
    *,
    not_hurt: bool,
    origin: int,
    until: int,
    kinds: Sequence[EffectKind],
    thresholds: Thresholds,
    equivalent: Equivalent,
    worse: Worse,
) -> Recovery:
    """Judge a flow's recovery.

    Args:
        not_hurt: the flow was not to be hurt by the fault, and was not.
        origin: ns, when the fault was seen to be undone.
        until: ns, the end of the watch.
        kinds: effects that must be back.
    """
    flow, stay = series.flow, int(thresholds.stay_seconds * NANO)
    latest = origin + int(thresholds.back_seconds * NANO)
    if not_hurt and worse(flow, EffectKind.ERRORS, Window(WindowKind.RECOVERY, origin, until), spared=True):
        return Recovery(flow, Return.HURT_BY_UNDO)
    for begin in _candidates(series, origin, until, latest):
        if until - begin + _SLACK_NS < stay or begin > latest:
            continue
        begins = {kind: origin if not_hurt and kind is EffectKind.ERRORS else begin for kind in kinds}
        if all(equivalent(flow, kind, Window(WindowKind.RECOVERY, since, until)) for kind, since in begins.items()):
            return Recovery(flow, Return.BACK, (begin - origin) / NANO)
    late = Window(WindowKind.RECOVERY, latest, until)
    # What the fault spared has nothing to recover from: that it is down in so short a time may be a burst of its own.
    if (
        not not_hurt
        and until - latest + _SLACK_NS >= stay
        and any(worse(flow, kind, late, spared=False) for kind in kinds)
    ):
        return Recovery(flow, Return.NOT_BACK)
    return Recovery(flow, Return.UNKNOWN)


def _candidates(series: Series, origin: int, until: int, latest: int) -> list[int]:
    """Instants from which the flow may be back: at once, after its last affected request before a quiet second, or at
    any half second after that."""
    back = measures.recovered_after(series, origin, until)
    first = origin + round(back.high * NANO) if back is not None and back.value else origin
    last = min(until, latest + 1, int(series.due[-1]) if len(series.due) else until)
    return [*dict.fromkeys((origin, first)), *range(first + NANO // 2, last, NANO // 2)]
