"""The judge's error rates: how often it is wrong, how often it cannot tell, and how many seconds it takes.

    python -m proof.judge --minutes 60 --state sharedfate-proof/judge.json --out docs/judge-error-rates.md

It runs the very `judge` that trials run, on whole histories whose truth is known; nothing is re-implemented for speed.
A row has as many histories as its claim takes to be shown: a share of 0.1 % takes ten times those of 1 %. All rows
grow together, the counts are kept in a file from which a later run goes on, and the page is written after each round:
a run that is cut off has one. The same for live histories: `proof.live`.

Rows of one flow are `proof.audit`'s. Here are those of a machine whose trouble all flows share, of a gradual fault, and
of judges with one guard taken away.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from chaos.engine.designs import PULSE_SECONDS, SWITCH_SECONDS
from chaos.engine.settings import Settings
from chaos.engine.topology import SENTINEL_RATE
from chaos.history.files import write_whole
from chaos.model.faulting import FaultShape
from chaos.verdict import EffectKind, Expectation, Finding, Harm, Thresholds, judge
from chaos.verdict.proportions import Count, Limits, clopper_pearson
from chaos.verdict.recovery import Return
from proof.audit import AFTER, ROWS, WORSE, AfterRow, Row, Seen, pulsed, run_after, run_row
from proof.information import least_seconds
from proof.synthetic import HarmDone, Noise, Plan, flows, switchback, true_rise, view

FLOWS = 4
NO_HARM: Final = HarmDone()
RATE = Settings().rate
DEFAULT = Thresholds(bootstrap=0)
_ON = DEFAULT.settle + SWITCH_SECONDS
PLANS: dict[FaultShape, Plan] = {
    FaultShape.HELD: Plan(rate=RATE),
    FaultShape.PULSE: Plan(rate=RATE, windows=tuple(pulsed(2, PULSE_SECONDS))),
    FaultShape.GRADUAL: replace(switchback(pairs=6, on=_ON, off=_ON), rate=RATE),
}
HARMS = {FaultShape.HELD: Harm.EITHER, FaultShape.PULSE: Harm.ERRORS, FaultShape.GRADUAL: Harm.SLOW}
MEDIAN = 0.012  # s: so long that the threshold is 1.5 x the median, not the least 5 ms beyond it
NOISES: dict[str, Noise] = {
    "quiet": Noise(median=MEDIAN),
    "Poisson arrivals": Noise(median=MEDIAN, poisson=True),
    "0.5 % failures always": Noise(median=MEDIAN, error_share=0.005),
    "memory 0.1 s, 0.5 % failures": Noise(median=MEDIAN, memory=0.1, error_share=0.005),
    "memory 0.5 s, 1 % failures": Noise(median=MEDIAN, memory=0.5, error_share=0.01),
    "stalls of all, 1 in 10 s": Noise(median=MEDIAN, bursts=0.1),
    "stalls of all, 1 in 2 s": Noise(median=MEDIAN, bursts=0.5),
    "stalls of one flow, 1 in 10 s": Noise(median=MEDIAN, own_bursts=0.1),
    "stalls of one flow, 1 in 2 s": Noise(median=MEDIAN, own_bursts=0.5),
    "drift to 1.3 x": Noise(median=MEDIAN, drift=1.3),
    "step to 1.15 x": Noise(median=MEDIAN, step=1.15),
    "step to 1.6 x (machine)": Noise(median=MEDIAN, step=1.6),
    "2 % late": Noise(median=MEDIAN, late_share=0.02),
    "20 % late": Noise(median=MEDIAN, late_share=0.2),
}
SLOWER = (1.3, 1.5, 2.0, 3.0)
CLUSTERED = NOISES["memory 0.5 s, 1 % failures"]
VARIANTS: dict[str, Thresholds] = {
    "as it is": DEFAULT,
    "design effect taken as 1": replace(DEFAULT, design_effect=1.0, scales=(1e-6,)),
    "no sentinel": replace(DEFAULT, sentinel_factor=0.0),
    "score limits (Newcombe)": replace(DEFAULT, limits=Limits.SCORE),
    "even spending": replace(DEFAULT, spending=(1 / len(DEFAULT.looks),) * len(DEFAULT.looks)),
}

ROUNDS: Final = 60
HURT_HISTORIES: Final = 3000  # without an error they show a share of at most 0.1 %, with 95 %
NOT_HURT_HISTORIES: Final = 300  # the same of 1 %
CELL_TRIALS: Final = 60  # of four flows each
TARGETS: Final = {Finding.HURT: 0.001, Finding.NOT_HURT: 0.01}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row: so many trials of one kind of noise and harm, of four flows of which the machine's noise meets all."""

    name: str
    noise: Noise
    harm: HarmDone = NO_HARM
    kind: FaultShape = FaultShape.HELD
    thresholds: Thresholds = DEFAULT
    plan: Plan | None = None  # None: the usual one of the kind


@dataclass
class Tallied:
    findings: Counter[Finding] = field(default_factory=Counter)
    truths: Counter[tuple[str, Finding]] = field(default_factory=Counter)  # (above | below, finding)
    seconds: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        return sum(self.findings.values())

    @property
    def wrong(self) -> int:
        return self.truths["above", Finding.NOT_HURT] + self.truths["below", Finding.HURT]


def run_cell(cell: Cell, *, trials: int, seed: int) -> Tallied:
    """Judges `trials` histories of FLOWS flows each, all alike; whether a flow is above its margin is computed."""
    out = Tallied()
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        names, plan = flows(FLOWS), cell.plan or PLANS[cell.kind]
        seen = view(rng, plan, cell.noise, dict.fromkeys(names, cell.harm))
        expected = Expectation.nobody(names, harm=HARMS[cell.kind], fault_shape=cell.kind)
        judgement = judge(seen, expected, cell.thresholds)
        if not judgement.flows:
            raise RuntimeError(f"{cell.name}: {judgement.reason}")
        for verdict in judgement.flows:
            errors, slow = true_rise(cell.harm, cell.noise, plan, verdict.slow_threshold)
            above = errors > cell.thresholds.errors_margin or slow > cell.thresholds.slow_margin
            out.findings[verdict.finding] += 1
            out.truths["above" if above else "below", verdict.finding] += 1
            if verdict.decided_after is not None:
                out.seconds.append(verdict.decided_after)
    return out


def _of_the_machine() -> Iterator[Cell]:
    for kind in PLANS:
        for name, noise in NOISES.items():
            yield Cell(f"{kind}, {name}", noise, kind=kind)
    for factor in SLOWER:
        drift = NOISES["drift to 1.3 x"]
        yield Cell(
            f"gradual, {factor:g} x as slow, drift to 1.3 x", drift, HarmDone(slow_factor=factor), FaultShape.GRADUAL
        )


def _without_a_guard() -> Iterator[Cell]:
    for name, thresholds in VARIANTS.items():
        for label in ("memory 0.5 s, 1 % failures", "stalls of one flow, 1 in 2 s", "step to 1.6 x (machine)", "quiet"):
            yield Cell(f"{name}: A/A, {label}", NOISES[label], thresholds=thresholds)
        harm = HarmDone(error_share=0.035, memory=0.5)
        yield Cell(f"{name}: 3.5 % errors with memory 0.5 s", CLUSTERED, harm, thresholds=thresholds)


CELLS: Final = tuple(_of_the_machine())
GUARDS: Final = tuple(_without_a_guard())
AnyRow = Row | AfterRow | Cell


@dataclass
class Done:
    """What is known so far, of each row by its name; kept in a file, so that a later run adds to it."""

    rows: dict[str, Seen] = field(default_factory=dict)
    after: dict[str, Counter[str]] = field(default_factory=dict)
    cells: dict[str, Tallied] = field(default_factory=dict)
    chunks: Counter[str] = field(default_factory=Counter)  # by row: rounds that it had, of which its seeds are made

    @classmethod
    def read(cls, path: Path | None) -> Done:
        if path is None or not path.exists():
            return cls()
        saved = json.loads(path.read_text())
        rows = {
            name: Seen(_findings(findings), Counter({float(second): n for second, n in seconds.items()}))
            for name, (findings, seconds) in saved["rows"].items()
        }
        after = {name: Counter(found) for name, found in saved["after"].items()}
        cells = {
            name: Tallied(
                _findings(findings), Counter({(side, Finding(found)): n for side, found, n in truths}), seconds
            )
            for name, (findings, truths, seconds) in saved.get("cells", {}).items()
        }
        return cls(rows, after, cells, Counter(saved["chunks"]))

    def add(self, name: str, part: Seen | Tallied | Counter[str]) -> None:
        """Add what another round of a row brought."""
        if isinstance(part, Seen):
            seen = self.rows.setdefault(name, Seen())
            seen.findings += part.findings
            seen.seconds += part.seconds
        elif isinstance(part, Tallied):
            found = self.cells.setdefault(name, Tallied())
            found.findings += part.findings
            found.truths += part.truths
            found.seconds += part.seconds
        else:
            self.after[name] = self.after.get(name, Counter()) + part
        self.chunks[name] += 1

    def write(self, path: Path) -> None:
        rows = {name: (seen.findings, seen.seconds) for name, seen in self.rows.items()}
        cells = {
            name: (one.findings, [(side, found, n) for (side, found), n in one.truths.items()], one.seconds)
            for name, one in self.cells.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"rows": rows, "after": self.after, "cells": cells, "chunks": self.chunks}))


def _findings(saved: dict[str, int]) -> Counter[Finding]:
    return Counter({Finding(found): n for found, n in saved.items()})


def run_chunk(row: AnyRow, *, number: int) -> Seen | Tallied | Counter[str]:
    """One round's histories of a row: a sixtieth of those that its claim takes."""
    seed = 5000 + number
    if isinstance(row, Row):
        wanted = NOT_HURT_HISTORIES if row.is_above else HURT_HISTORIES
        return run_row(row, trials=wanted // ROUNDS, seed=seed)
    if isinstance(row, AfterRow):
        wanted = HURT_HISTORIES if row.wrong == WORSE else NOT_HURT_HISTORIES
        return run_after(row, trials=wanted // ROUNDS, seed=seed)
    return run_cell(row, trials=CELL_TRIALS // ROUNDS, seed=seed)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=60.0, help="begin no further row after so long")
    options.add_argument("--only", default="", help="rows whose name holds this")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--state", type=Path, help="a file of counts, which the run goes on from and adds to")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    known: tuple[AnyRow, ...] = (*ROWS, *AFTER, *CELLS, *GUARDS)
    every = [row for row in known if chosen.only in row.name]
    done, end = Done.read(chosen.state), time.monotonic() + 60 * chosen.minutes
    with ProcessPoolExecutor(chosen.workers) as pool:
        for number in range(ROUNDS):
            now = [row for row in every if done.chunks[row.name] <= number]
            for begin in range(0, len(now), chosen.workers):
                if time.monotonic() > end:
                    break
                some = now[begin : begin + chosen.workers]
                jobs = [pool.submit(run_chunk, row, number=done.chunks[row.name]) for row in some]
                for row, job in zip(some, jobs, strict=True):
                    done.add(row.name, job.result())
            if now and chosen.state:
                done.write(chosen.state)
            if now and chosen.out:
                write_whole(chosen.out, page(done))
            if time.monotonic() > end:
                break
            print(f"{number + 1} of {ROUNDS} rounds", file=sys.stderr, flush=True)
    text = page(done)
    print(text) if not chosen.out else write_whole(chosen.out, text)


# The page


def page(done: Done) -> str:
    """The tables, with every row's target held against it."""
    lines = [
        INTRODUCTION.format(
            day=datetime.now(UTC).date(), cores=os.cpu_count(), machine=platform.machine(), numpy=np.__version__,
            rate=RATE, sentinel=SENTINEL_RATE,
            fewest=min(done.chunks.values(), default=0), most=max(done.chunks.values(), default=0), rounds=ROUNDS,
        ),
        "",
        *(_in_all(done, claim) for claim in TARGETS),
        "",
        "## One flow",
        "",
        "| process | true rise, points | histories | hurt | not hurt | open | wrong | at most | median s | least s |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_row(row, done.rows[row.name]) for row in ROWS if row.name in done.rows),
    ]  # fmt: skip
    if done.after:
        lines += [
            AFTER_INTRODUCTION,
            "| after the undo | n | back | did not recover | hurt by the undo | not seen back | wrong | at most |",
            "|---|---|---|---|---|---|---|---|",
            *(_after(row, done.after[row.name]) for row in AFTER if row.name in done.after),
        ]
    for title, cells in ((MACHINE, CELLS), (GUARDED, GUARDS)):
        if known := [cell for cell in cells if cell.name in done.cells]:
            lines += [
                title,
                "| trial | windows | hurt | not hurt | open | wrong | at most | mean s |",
                "|---|---|---|---|---|---|---|---|",
                *(_cell(cell, done.cells[cell.name], guarded=cell in CELLS) for cell in known),
            ]
    return "\n".join(lines) + "\n"


def at_most(wrong: int, n: int) -> float:
    """The exact upper limit of a share, one-sided, 95 % (Clopper and Pearson)."""
    return clopper_pearson(Count(wrong, n), 0.05)[1]


def _row(row: Row, seen: Seen) -> str:
    found, n = seen.findings, sum(seen.findings.values())
    claim = Finding.NOT_HURT if row.is_above else Finding.HURT
    wrong, seconds = found[claim], f"{median(seen.seconds.elements()):g}" if seen.seconds else "-"
    name = row.name
    if wrong / n > TARGETS[claim]:
        name = f"**{row.name}: blind spot: {row.blind or 'above its target, and not explained'}**"
    return (
        f"| {name} | {'above' if row.above else f'{row.rise:.3g}'} | {n} | {found[Finding.HURT]} | "
        f"{found[Finding.NOT_HURT]} | {found[Finding.INCONCLUSIVE]} | {wrong} *{claim}* | "
        f"{at_most(wrong, n):.2%} | {seconds} | {_least(row)} |"
    )


def _least(row: Row) -> str:
    """The mean time that any test takes with these error rates, for independent requests and a known baseline."""
    harm = row.harm
    if not row.rise or row.above or row.pulses or row.late or harm.burst or harm.memory:
        return "-"
    margin = DEFAULT.margin(EffectKind.ERRORS)
    least = least_seconds(row.base.share + row.rise / 100, row.base.share + margin, DEFAULT.alpha, row.rate)
    return f"{least:.1f}"


def _after(row: AfterRow, known: Counter[str]) -> str:
    wrong, n = sum(known[kind] for kind in row.wrong), sum(known.values())
    over = wrong / n > TARGETS[Finding.HURT if row.wrong == WORSE else Finding.NOT_HURT]
    name = f"**{row.name}: blind spot: a burst of the flow's own that begins then is alike**" if over else row.name
    return f"| {name} | {n} | {' | '.join(str(known[kind]) for kind in Return)} | {wrong} | {at_most(wrong, n):.2%} |"


def _cell(cell: Cell, found: Tallied, *, guarded: bool) -> str:
    over = guarded and found.truths["below", Finding.HURT] / found.n > TARGETS[Finding.HURT]
    name = f"**{cell.name}: blind spot**" if over else cell.name
    seconds = f"{np.mean(found.seconds):.1f}" if found.seconds else "-"
    counts = " | ".join(str(found.findings[one]) for one in (Finding.HURT, Finding.NOT_HURT, Finding.INCONCLUSIVE))
    return f"| {name} | {found.n} | {counts} | {found.wrong} | {at_most(found.wrong, found.n):.2%} | {seconds} |"


def _in_all(done: Done, claim: Finding) -> str:
    """How often a claim was wrong in all rows on its side of the margins, and at most is."""
    above = claim is Finding.NOT_HURT
    known = [(row, done.rows[row.name].findings) for row in ROWS if row.is_above == above and row.name in done.rows]
    over = [one for one in known if one[1][claim] > TARGETS[claim] * sum(one[1].values())]
    parts = []
    for name, chosen in (("all rows", known), ("rows that are not bold", [one for one in known if one not in over])):
        wrong, n = sum(one[claim] for _, one in chosen), sum(sum(one.values()) for _, one in chosen)
        parts.append(f"{name} {wrong} of {n} (at most {at_most(wrong, n):.2%})")
    shown = sum(at_most(one[claim], sum(one.values())) <= TARGETS[claim] for _, one in known)
    return (
        f"- Wrong *{claim}*, which should be below {TARGETS[claim]:.1%}: {', '.join(parts)}. Shown by its own "
        f"histories in {shown} of {len(known)} rows, above it in {len(over)} (bold)."
    )


INTRODUCTION = """# How often the judge errs: histories whose truth is known

{day}, {cores} cores ({machine}), numpy {numpy}; by `python -m proof.judge`;
{fewest} to {most} of {rounds} rounds of each row.

One judged flow of {rate:g}/s with a quiet sentinel of {sentinel:g}/s, a baseline of 6 s, a hold of 30 s (or as named),
default thresholds. *Repeated as needed*: up to three pulses, as a run goes on while it does not pass. *Wrong* is *hurt*
where the true long-run rise is not above a margin, and *not hurt* where it is. *At most* is the exact upper limit of
that rate (Clopper and Pearson, one-sided, 95 %): 3,000 histories without an error show 0.1 %, 300 show 1 %. Where a
row has too few histories to show it, the sum over all rows may. *Least s* is the mean time that any test with the same
error rates takes, for independent requests and a baseline known for certain (Kaufmann, Cappé and Garivier 2016).
A row whose rate lies above its target is bold, with what a verdict tells its reader."""

AFTER_INTRODUCTION = """
## After the undo

A hold of 10 s spared the flow or (*a victim*) failed all of its requests; a watch follows, which ends as a run's does,
with the first look at which the flow is back, or after 13 s. *Wrong* is *did not recover* or *hurt by the undo* of a
flow that is well (at most 0.1 %, beside the looks), and *back* of one that is not (at most 1 %). The judge claims late
harm in every held row above: wrong claims of it count there, under *hurt*.
"""

MACHINE = """
## A machine in trouble, and gradual faults

Trials of four flows, each with a sentinel of the same client; windows are flows. Noise meets all flows at once, or one
where the row says so. A pulse comes twice, as a kill does when the first decides nothing; a gradual fault six times.
"""

GUARDED = """
## The judge with one guard taken away

The same held trials, judged without one guard: the difference is what the guard is for.
"""


if __name__ == "__main__":
    main()
