"""Harm of a known size laid over the real samples of quiet recordings: many windows, in every state of the machine.

Beside the harm that real servers did (`proof.live.harm`), which is slow to record. Requests of the fault window are
turned into failures, or made 60 ms slower, each with the given probability: what a machine in trouble does to them
stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from chaos.history.model import Outcome, Samples
from chaos.history.store import History
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, WindowKind
from proof.live.cut import APART, DEFAULT, NANO, STAGGER, Judged, by_flow, groups, judged, last_instant, quiet_views
from proof.live.harm import FAR, Given, Way

SIZES: Final = (
    *(Given(Way.ERRORS, size) for size in (0.005, 0.01, 0.015, 0.025, 0.03, 0.04, 0.05, 0.07, 0.10)),
    *(Given(Way.SLOWED, size) for size in (0.05, 0.10, 0.20, 0.25, 0.30, 0.50)),
)


def harmed(rows: Samples, harm: Given, *, begin: int, rng: np.random.Generator) -> Samples:
    """The same requests, those that fell due from `begin` on harmed with the harm's probability."""
    event = (rows["due"] >= begin) & (rng.random(len(rows)) < harm.size)
    after = rows.copy()
    if harm.way is Way.ERRORS:
        after["outcome"][event] = Outcome.UNKNOWN
    else:
        after["done"][event] += round(FAR * 1e6)
    return after


def judge_overlaid(history: History, harm: Given, *, seed: int) -> Iterator[Judged]:
    """Held windows with the harm on every flow."""
    flows = by_flow(history)
    origin, end = int(history.header["begin"]), int(history.header["end"])
    rng = np.random.default_rng(seed)
    for number, members in enumerate(groups(flows)):
        at = origin + round(number * STAGGER * NANO)
        while (view := quiet_views(flows, members, FaultShape.HELD, begin=at, end=end, thresholds=DEFAULT)) is not None:
            fault = view.windows_of(WindowKind.FAULT)[0].begin
            seen: dict[Flow, Samples] = {
                flow: harmed(rows, harm, begin=fault, rng=rng) if flow in members else rows
                for flow, rows in view.flows.items()
            }
            found, answer = judged(replace(view, flows=seen), members, FaultShape.HELD, DEFAULT, origin=origin)
            yield from found
            at = last_instant(view, FaultShape.HELD, answer, DEFAULT) + round(APART * NANO)
