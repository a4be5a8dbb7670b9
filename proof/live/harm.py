"""Harm of a known size on the live path: servers that answer errors, or answer late, with a set probability.

The reference server's misbehaviour acts on its application port alone, so that sentinels do not feel it, and ends by
itself. A *round* gives each tenant one harm, holds it until the judge has decided for every group (looked at as
a trial is), and turns it off. All servers have a service time of 3 ms and an exponential of 1 ms besides, so that a
latency of 1.2 to 5 times the usual one lies on both sides of the threshold for slow.

What is true: of errors and of delayed shares, the probability that was set. Of k times the latency, a fixed delay of k
- 1 times the median that the tenant had just before was added; the rise of the slow share that it makes depends on each
window's slow threshold, and is taken over all requests of all rounds of that harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np

from chaos.engine.progress import Progress
from chaos.history.model import EventKind, Samples
from chaos.history.store import History
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow
from chaos.verdict.tally import Series
from proof.live.cut import APART, DEFAULT, INJECT, NANO, Judged, by_flow, groups, held_view, judged
from proof.live.record import Session, session

SERVICE: Final = {"delay_ms": 3.0, "delay_spread_ms": 1.0}
FAR: Final = 60.0  # ms: a delay that is slow whatever slow threshold is
DEADLINE: Final = 900.0  # s after which a server behaves again by itself


class Way(StrEnum):
    ERRORS = "errors"  # that share of requests is answered 500
    LATENCY = "latency"  # every request takes so many times as long
    SLOWED = "slowed"  # that share of requests takes 60 ms longer


@dataclass(frozen=True, slots=True)
class Given:
    """One harm."""

    way: Way
    size: float

    def __str__(self) -> str:
        return {
            Way.ERRORS: f"{self.size:.1%} errors",
            Way.LATENCY: f"{self.size:g} x latency",
            Way.SLOWED: f"{self.size:.0%} slowed by {FAR:g} ms",
        }[self.way]

    def misbehaviour(self, median: float) -> dict[str, float]:
        """For a flow with that median latency, in s."""
        if self.way is Way.ERRORS:
            return {**SERVICE, "error_share": self.size}
        if self.way is Way.LATENCY:
            return {**SERVICE, "delay_ms": SERVICE["delay_ms"] + (self.size - 1) * median * 1e3}
        return {"delay_ms": FAR, "delay_spread_ms": SERVICE["delay_spread_ms"], "delay_share": self.size}


def _round(way: Way, *sizes: float) -> tuple[Given, ...]:
    return tuple(Given(way, size) for size in sizes)


ROUNDS: Final[dict[str, tuple[Given, ...]]] = {
    "errors below": _round(Way.ERRORS, 0.005, 0.01, 0.015),
    "errors near": _round(Way.ERRORS, 0.025, 0.03, 0.04),
    "errors above": _round(Way.ERRORS, 0.05, 0.07, 0.10),
    "latency near": _round(Way.LATENCY, 1.2, 1.35, 1.5),
    "latency above": _round(Way.LATENCY, 2.0, 3.0, 5.0),
    "slowed": _round(Way.SLOWED, 0.10, 0.20, 0.30),
}
# Rounds near a margin take 30 s each; those far above it are quick, and so many.
SCHEDULE: Final = (
    "latency above",
    "errors near",
    "errors above",
    "latency above",
    "slowed",
    "errors above",
    "latency near",
    "latency above",
    "errors near",
    "errors above",
    "errors below",
)


def harm_session(
    mode: str, directory: Path, *, seconds: float, flows: int, progress: Progress, facts: dict[str, str]
) -> None:
    """Records rounds, in the order of the schedule and with the tenants changing places, for about so many seconds."""
    with session(mode, directory, flows=flows, progress=progress, facts=facts) as made:
        tenants = made.deployment.tenants
        for tenant in tenants:
            made.misbehave(tenant, {**SERVICE, "seconds": DEADLINE, "seed": 1})
        made.hold(2.0)
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            name = SCHEDULE[number % len(SCHEDULE)]
            progress.step(f"{mode}: round {number}: {name}")
            shift = number // len(SCHEDULE) + number
            harms = [ROUNDS[name][(place + shift) % len(tenants)] for place in range(len(tenants))]
            _hold_round(made, number, harms)
            number += 1


def _hold_round(made: Session, number: int, harms: Sequence[Given]) -> None:
    tenants = made.deployment.tenants
    begin = time.time_ns()
    made.hold(DEFAULT.baseline_seconds + INJECT)
    medians = {
        flow: float(np.median((rows["done"] - rows["due"])[rows["due"] >= begin])) / NANO
        for flow, rows in _so_far(made).items()
        if not flow.sentinel
    }
    for tenant, harm in zip(tenants, harms, strict=True):
        usual = float(np.median([median for flow, median in medians.items() if flow.client == tenant.client]))
        made.misbehave(tenant, {**harm.misbehaviour(usual), "seconds": DEADLINE, "seed": number + 2})
    fault = time.time_ns()  # every server has its harm by now
    for after in DEFAULT.looks:
        made.hold(fault / 1e9 + after - time.time())
        seen = _so_far(made)
        until = fault + round(after * NANO)
        answers = [
            judged(
                held_view(seen, members, begin=begin, fault=fault, until=until),
                members,
                FaultShape.HELD,
                DEFAULT,
                origin=begin,
            )[1]
            for members in groups(seen)
        ]
        if all(answer.done for answer in answers):
            break
    end = time.time_ns()
    for tenant in tenants:
        made.misbehave(tenant, {**SERVICE, "seconds": DEADLINE, "seed": 1})
    made.writer.event(
        EventKind.NOTE,
        {
            "round": number,
            "begin": begin,
            "fault": fault,
            "end": end,
            "harms": {tenant.client: asdict(harm) for tenant, harm in zip(tenants, harms, strict=True)},
        },
    )
    made.hold(APART)


def _so_far(made: Session) -> dict[Flow, Samples]:
    samples, _ = made.writer.snapshot()
    rows = samples[np.argsort(samples["due"], kind="stable")]
    return {flow: rows[rows["flow"] == number] for number, flow in enumerate(made.writer.flows)}


@dataclass(frozen=True, slots=True)
class Harmed:
    """One flow in one round: what was done to it, what the judge said, and what its requests show of the truth."""

    harm: Given
    said: Judged
    n: int  # requests of the whole time in which it was harmed
    slow: int  # of these, slower than this window's slow threshold
    base: float  # share of slow requests in the baseline


def rounds_of(history: History) -> Iterator[dict[str, Any]]:
    """The rounds that were held to their end."""
    for event in history.events:
        if event.kind is EventKind.NOTE and "round" in event.data:
            yield dict(event.data)


def judge_harm(history: History) -> Iterator[Harmed]:
    """Every flow of every round, judged again from the saved history."""
    flows = by_flow(history)
    for held in rounds_of(history):
        begin, fault, end = held["begin"], held["fault"], held["end"]
        for members in groups(flows):
            view = held_view(flows, members, begin=begin, fault=fault, until=end)
            found, _ = judged(view, members, FaultShape.HELD, DEFAULT, origin=int(history.header["begin"]))
            for said in found:
                given = held["harms"][said.flow.client]
                series = Series(view, said.flow, DEFAULT)
                during = series.within(view.windows[1:]) & ~series.late
                before = series.within(view.windows[:1]) & ~series.late
                yield Harmed(
                    Given(Way(given["way"]), given["size"]),
                    said,
                    int(during.sum()),
                    int((series.slow & during).sum()),
                    float(np.mean(series.slow[before])) if before.any() else 0.0,
                )
