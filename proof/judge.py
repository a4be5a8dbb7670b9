"""The judge's error rates: how often it is wrong, how often it cannot tell, and how many seconds it takes.

    python -m proof.judge --out docs/judge-error-rates.md     histories whose truth is known (half an hour on one core)

It runs the very `judge` that trials run, on whole histories from `proof.synthetic`; nothing is re-implemented for
speed. Variants of the judge with one guard taken away show what that guard is for. The same for live histories:
`proof.live`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from chaos.engine.designs import PULSE_SECONDS, SWITCH_SECONDS
from chaos.engine.settings import Settings
from chaos.model.faulting import FaultShape
from chaos.verdict import EffectKind, Expectation, Finding, Harm, Thresholds, judge
from chaos.verdict.proportions import Count, Limits, clopper_pearson
from proof.audit import pulsed
from proof.information import least_seconds
from proof.synthetic import HarmDone, Noise, Plan, flows, slow_share, switchback, true_rise, view

FLOWS = 4
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
ERRORS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.10)
SLOWER = (1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0, 3.0, 5.0)
VARIANTS: dict[str, Thresholds] = {
    "as it is": DEFAULT,
    "design effect taken as 1": replace(DEFAULT, design_effect=1.0, scales=(1e-6,)),
    "no sentinel": replace(DEFAULT, sentinel_factor=0.0),
    "score limits (Newcombe)": replace(DEFAULT, limits=Limits.SCORE),
    "even spending": replace(DEFAULT, spending=(1 / len(DEFAULT.looks),) * len(DEFAULT.looks)),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a table: so many trials of one kind of noise and harm."""

    name: str
    noise: Noise
    harm: HarmDone
    kind: FaultShape = FaultShape.HELD
    thresholds: Thresholds = DEFAULT
    plan: Plan | None = None  # None: the usual one of the kind


@dataclass
class Tallied:
    findings: Counter[Finding] = field(default_factory=Counter)
    truths: Counter[tuple[str, Finding]] = field(default_factory=Counter)  # (above | below, finding)
    seconds: list[float] = field(default_factory=list)
    rises: list[tuple[float, float]] = field(default_factory=list)
    usual: list[float] = field(
        default_factory=list
    )  # share of slow requests without the harm, for each trial's slow threshold

    @property
    def n(self) -> int:
        return sum(self.findings.values())

    def add(self, more: Tallied) -> None:
        self.findings += more.findings
        self.truths += more.truths
        self.seconds += more.seconds
        self.rises += more.rises
        self.usual += more.usual


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
            out.rises.append((errors, slow))
            out.usual.append(slow_share(cell.noise, plan, verdict.slow_threshold))
            if verdict.decided_after is not None:
                out.seconds.append(verdict.decided_after)
    return out


# Synthetic tables


def _counts(found: Counter[Finding]) -> str:
    return " | ".join(str(found[finding]) for finding in Finding)


def synthetic(*, trials: int, workers: int, minutes: float) -> str:
    """The page. All rows grow together, so that a run that is bounded in time is even."""
    cells = [(table, cell, Tallied()) for table, cell in _cells()]
    end, chunk = time.monotonic() + 60 * minutes, min(5, trials)
    with ProcessPoolExecutor(workers) as pool:
        for begin in range(0, trials, chunk):
            if begin and time.monotonic() > end:
                break
            jobs = [
                pool.submit(run_cell, cell, trials=chunk, seed=1000 * (begin + 1) + i)
                for i, (_, cell, _) in enumerate(cells)
            ]
            for (_, _, found), job in zip(cells, jobs, strict=True):
                found.add(job.result())
            print(f"{begin + chunk} trials of each row", file=sys.stderr, flush=True)
    done, n = cells, cells[0][2].n
    parts = [
        "# How often the judge errs: synthetic histories",
        "",
        _stamp(),
        "",
        INTRODUCTION.format(n=n, rate=RATE, median=1e3 * MEDIAN),
    ]
    for table, (title, header, row) in TABLES.items():
        parts += ["", f"## {title}", "", header, "|" + "---|" * (header.count("|") - 1)]
        parts += [row(cell, found) for name, cell, found in done if name == table]
    aa = [found for name, _, found in done if name == "aa"]
    wrong, n = sum(f.findings[Finding.HURT] for f in aa), sum(f.n for f in aa)
    above = [f for name, _, f in done if name in ("errors", "slow")]
    missed = sum(f.truths["above", Finding.NOT_HURT] for f in above)
    out_of = sum(v for f in above for (side, _), v in f.truths.items() if side == "above")
    parts += [
        "",
        "## In all",
        "",
        f"- A/A: {wrong} wrong *hurt* in {n} windows, at most {clopper_pearson(Count(wrong, n), 0.025)[1]:.3%}.",
        f"- Above the margins: {missed} wrong *not hurt* in {out_of} windows, at most "
        f"{clopper_pearson(Count(missed, out_of), 0.025)[1]:.3%}.",
        "",
    ]
    return "\n".join(parts)


def _cells() -> Iterator[tuple[str, Cell]]:
    for kind in PLANS:
        for name, noise in NOISES.items():
            yield "aa", Cell(name, noise, HarmDone(), kind)
    for share in ERRORS:
        yield (
            "errors",
            Cell(
                f"{share:.1%}, quiet, baseline of 30 s",
                NOISES["quiet"],
                HarmDone(error_share=share),
                plan=Plan(rate=RATE, baseline=30.0),
            ),
        )
    for label in ("quiet", "memory 0.1 s, 0.5 % failures"):
        for share in ERRORS:
            yield "errors", Cell(f"{share:.1%}, {label}", NOISES[label], HarmDone(error_share=share))
        for factor in SLOWER:
            yield "slow", Cell(f"{factor:g} x, {label}", NOISES[label], HarmDone(slow_factor=factor))
    for factor in (2.0, 3.0, 4.0, 5.0):
        yield "slow", Cell(f"{factor:g} x of 2 ms, quiet", Noise(), HarmDone(slow_factor=factor))
    for factor in SLOWER:
        yield (
            "slow",
            Cell(
                f"{factor:g} x, drift to 1.3 x",
                NOISES["drift to 1.3 x"],
                HarmDone(slow_factor=factor),
                FaultShape.GRADUAL,
            ),
        )
    for memory in (0.05, 0.25, 1.0):
        for share in (0.03, 0.05, 0.10):
            yield (
                "clusters",
                Cell(
                    f"{share:.0%} in clusters of {memory:g} s",
                    NOISES["quiet"],
                    HarmDone(error_share=share, memory=memory),
                ),
            )
    for name, thresholds in VARIANTS.items():
        for label in ("memory 0.5 s, 1 % failures", "stalls of one flow, 1 in 2 s", "step to 1.6 x (machine)"):
            yield "variants", Cell(f"{name}: A/A, {label}", NOISES[label], HarmDone(), thresholds=thresholds)
        yield (
            "variants",
            Cell(
                f"{name}: 2.5 % errors",
                NOISES["memory 0.1 s, 0.5 % failures"],
                HarmDone(error_share=0.025),
                thresholds=thresholds,
            ),
        )
        yield "variants", Cell(f"{name}: quiet", NOISES["quiet"], HarmDone(), thresholds=thresholds)


def _shares(found: Tallied) -> str:
    return " | ".join(f"{found.findings[finding] / found.n:.1%}" for finding in Finding)


def _seconds(found: Tallied) -> str:
    return f"{np.mean(found.seconds):.1f}" if found.seconds else "-"


def _row_aa(cell: Cell, found: Tallied) -> str:
    wrong = found.findings[Finding.HURT]
    bound = clopper_pearson(Count(wrong, found.n), 0.025)[1]
    inconclusive = found.findings[Finding.INCONCLUSIVE] / found.n
    return (
        f"| {cell.kind} | {cell.name} | {wrong} of {found.n} | {bound:.2%} | {inconclusive:.1%} | {_seconds(found)} |"
    )


def _row_power(cell: Cell, found: Tallied) -> str:
    errors, slow = np.mean(found.rises, axis=0)
    wrong = found.truths["above", Finding.NOT_HURT] + found.truths["below", Finding.HURT]
    by_slowness = cell.harm.slow_factor != 1.0
    base, rise_of = (float(np.mean(found.usual)), slow) if by_slowness else (0.0, cell.harm.error_share)
    margin = cell.thresholds.margin(EffectKind.SLOW if by_slowness else EffectKind.ERRORS)
    least = least_seconds(base + rise_of, base + margin, cell.thresholds.alpha, PLANS[cell.kind].rate)
    shown = "-" if math.isnan(least) else f"{least:.2f}"
    rise = f"{100 * max(errors, slow):.1f}"
    return f"| {cell.kind} | {cell.name} | {rise} | {_shares(found)} | {wrong} | {_seconds(found)} | {shown} |"


_POWER = "| fault | harm | true rise, points | hurt | not hurt | inconclusive | wrong | s | least s |"
TABLES: dict[str, tuple[str, str, Callable[[Cell, Tallied], str]]] = {
    "aa": ("Nothing was done (A/A)", "| fault | noise | wrong *hurt* | at most | inconclusive | s |", _row_aa),
    "errors": ("Errors on both sides of the margin of 2 points", _POWER, _row_power),
    "slow": ("Slowness on both sides of the margin of 15 points", _POWER, _row_power),
    "clusters": ("Errors that come in clusters, in the fault window alone", _POWER, _row_power),
    "variants": ("The judge with one guard taken away", _POWER, _row_power),
}
INTRODUCTION = """Each row is {n} windows: trials of four flows of {rate:g} requests/s, each with a sentinel of 50/s of
the same client, a median latency of {median:g} ms where nothing else is said, and a baseline of 6 s. A pulse comes
twice, as a kill does whose first one does not decide. `s` is the mean time after which a flow was decided; `least s`
is the mean time that any test with the same error rates needs, for independent requests and a baseline known for
certain (Kaufmann, Cappé and Garivier 2016). `wrong` counts *not hurt* above a margin and *hurt* below both. Truth is
computed from the generator, for each trial's own threshold. The harm of a cluster row is a long-run share: the window
that was judged may have held none of it, which is why those rows are not part of the sums."""


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, numpy {np.__version__}; by `python -m proof.judge`."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500, help="of each row, with four flows each")
    parser.add_argument("--minutes", type=float, default=120.0, help="stop adding trials after so long")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = synthetic(trials=options.trials, workers=options.workers, minutes=options.minutes)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
