"""The judge's error rates: how often it is wrong, how often it cannot tell, and how many seconds it takes.

    python -m proof.judge synthetic --out docs/judge-error-rates.md     histories whose truth is known (minutes)
    python -m proof.judge live RUN... --out docs/judge-live.md          A/A windows of saved runs without a fault

The synthetic part runs the very `judge` that trials run, on whole histories from `proof.synthetic`; nothing is
re-implemented for speed. Variants of the judge with one guard taken away show what that guard is for.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from chaos.history.model import Flow, Outcome, Samples, Window, WindowKind
from chaos.verdict import Evidence, Expectation, FaultKind, Finding, Harm, HistoryView, Thresholds, judge, view_from
from chaos.verdict.proportions import Count, Limits, clopper_pearson
from chaos.verdict.tally import Series
from proof.synthetic import NANO, HarmDone, Noise, Plan, flows, switchback, true_rise, view

FLOWS = 4
PLANS: dict[FaultKind, Plan] = {
    FaultKind.HELD: Plan(),
    FaultKind.PULSE: Plan(
        windows=((WindowKind.BASELINE, 0.0, 6.0), (WindowKind.FAULT, 6.0, 6.5), (WindowKind.RECOVERY, 6.5, 38.0))
    ),
    FaultKind.GRADUAL: switchback(pairs=6),
}
HARMS = {FaultKind.HELD: Harm.EITHER, FaultKind.PULSE: Harm.ERRORS, FaultKind.GRADUAL: Harm.SLOW}
NOISES: dict[str, Noise] = {
    "quiet": Noise(),
    "Poisson arrivals": Noise(poisson=True),
    "0.5 % failures always": Noise(error_share=0.005),
    "memory 0.1 s, 0.5 % failures": Noise(memory=0.1, error_share=0.005),
    "memory 0.5 s, 1 % failures": Noise(memory=0.5, error_share=0.01),
    "stalls of all, 1 in 10 s": Noise(bursts=0.1),
    "stalls of all, 1 in 2 s": Noise(bursts=0.5),
    "stalls of one flow, 1 in 10 s": Noise(own_bursts=0.1),
    "stalls of one flow, 1 in 2 s": Noise(own_bursts=0.5),
    "drift to 1.3 x": Noise(drift=1.3),
    "step to 1.15 x": Noise(step=1.15),
    "step to 1.6 x (machine)": Noise(step=1.6),
    "2 % late": Noise(late_share=0.02),
    "20 % late": Noise(late_share=0.2),
}
ERRORS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.10)
SLOWER = (1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0, 3.0, 5.0)
DEFAULT = Thresholds(bootstrap=0)
VARIANTS: dict[str, Thresholds] = {
    "as it is": DEFAULT,
    "inflation taken as 1": replace(DEFAULT, inflation=1.0, scales=(1e-6,)),
    "no sentinel": replace(DEFAULT, sentinel_factor=0.0),
    "score limits (Newcombe)": replace(DEFAULT, limits=Limits.SCORE),
    "even spending": replace(DEFAULT, spending=(1 / 6,) * 6),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a table: so many trials of one kind of noise and harm."""

    name: str
    noise: Noise
    harm: HarmDone
    kind: FaultKind = FaultKind.HELD
    thresholds: Thresholds = DEFAULT
    plan: Plan | None = None  # None: the usual one of the kind


@dataclass
class Tallied:
    findings: Counter[Finding] = field(default_factory=Counter)
    truths: Counter[tuple[str, Finding]] = field(default_factory=Counter)  # (above | below, finding)
    seconds: list[float] = field(default_factory=list)
    rises: list[tuple[float, float]] = field(default_factory=list)

    @property
    def n(self) -> int:
        return sum(self.findings.values())


def run_cell(cell: Cell, *, trials: int, seed: int) -> Tallied:
    """Judges `trials` histories of FLOWS flows each, all alike; whether a flow is above its margin is computed."""
    out = Tallied()
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        names = flows(FLOWS)
        seen = view(rng, cell.plan or PLANS[cell.kind], cell.noise, dict.fromkeys(names, cell.harm))
        expected = Expectation.nobody(names, harm=HARMS[cell.kind], fault_kind=cell.kind)
        judgement = judge(seen, expected, cell.thresholds)
        if not judgement.flows:
            raise RuntimeError(f"{cell.name}: {judgement.reason}")
        for verdict in judgement.flows:
            errors, slow = true_rise(cell.harm, cell.noise, cell.plan or PLANS[cell.kind], verdict.tau)
            above = errors > cell.thresholds.errors_margin or slow > cell.thresholds.slow_margin
            out.findings[verdict.finding] += 1
            out.truths["above" if above else "below", verdict.finding] += 1
            out.rises.append((errors, slow))
            if verdict.decided_after is not None:
                out.seconds.append(verdict.decided_after)
    return out


def least_seconds(harm: HarmDone, thresholds: Thresholds, rate: float) -> float:
    """The least mean time in which any test that errs with alpha on either side can decide, independent requests given.

    n >= kl(alpha, 1 - alpha) / KL(share, margin): Kaufmann, Cappe and Garivier, JMLR 17, 2016, lemma 1, with a
    baseline known for certain. NaN for harm that is slowness (its share depends on each trial's tau) or at the margin.
    """
    share, margin = harm.error_share, thresholds.errors_margin
    if harm.slow_factor != 1.0 or share == margin:
        return math.nan
    information = (share * math.log(share / margin) if share else 0.0) + (1 - share) * math.log((1 - share) / (1 - margin))
    alpha = thresholds.alpha
    return ((1 - 2 * alpha) * math.log((1 - alpha) / alpha)) / information / rate


# A/A windows of live runs


def aa_views(seen: HistoryView, *, begin: int, end: int, baseline: float, fault: float) -> Iterator[HistoryView]:
    """Cuts steady load into histories without a fault: baseline, then a window that is judged as if it were one.

    They follow each other without overlap, so that their answers are as independent as the machine lets them be.
    """
    at = begin
    while at + round((baseline + fault) * NANO) <= end:
        middle, last = at + round(baseline * NANO), at + round((baseline + fault) * NANO)
        part = {flow: rows[(rows["due"] >= at) & (rows["due"] < last)] for flow, rows in seen.flows.items()}
        windows = (Window(WindowKind.BASELINE, at, middle), Window(WindowKind.FAULT, middle, last))
        yield HistoryView(part, windows, Evidence(True, True, middle, last), last)
        at = last


def judge_aa(views: Sequence[HistoryView], names: Sequence[Flow], thresholds: Thresholds) -> Counter[Finding]:
    """Findings of all flows in all windows; each *hurt* among them is wrong."""
    found: Counter[Finding] = Counter()
    for seen in views:
        judgement = judge(seen, Expectation.nobody(list(names)), thresholds)
        if judgement.flows:
            found.update(flow.finding for flow in judgement.flows)
        else:
            found[Finding.INCONCLUSIVE] += len(names)
    return found


def spiked(seen: HistoryView, harm: HarmDone, rng: np.random.Generator) -> tuple[HistoryView, dict[Flow, float]]:
    """A live A/A window with harm of known size laid over its real samples, and the rise of errors in it per flow.

    Slowness has no such truth apart from the judge's own tau, so its rise is read with tau as `Series` computes it.
    """
    (fault,) = seen.windows_of(WindowKind.FAULT)
    hurt: dict[Flow, Samples] = {}
    for flow, rows in seen.flows.items():
        hurt[flow] = rows
        if not flow.sentinel:
            hurt[flow] = rows = rows.copy()
            during = (rows["due"] >= fault.begin) & (rows["due"] < fault.end)
            rows["outcome"][during & (rng.random(len(rows)) < harm.error_share)] = Outcome.UNKNOWN
            longer = np.round((rows["done"] - rows["due"]) * harm.slow_factor).astype(np.int64)
            rows["done"] = np.where(during, rows["due"] + longer, rows["done"])
    after = replace(seen, flows=hurt)
    rises: dict[Flow, float] = {}
    for flow in hurt:
        if not flow.sentinel:
            before, now = Series(seen, flow, DEFAULT), Series(after, flow, DEFAULT)
            inside = now.within((fault,))
            slow = float(np.mean(now.slow[inside])) - float(np.mean(before.slow[inside]))
            rises[flow] = max(harm.error_share / DEFAULT.errors_margin, slow / DEFAULT.slow_margin)
    return after, rises


def judge_spiked(views: Sequence[HistoryView], harm: HarmDone, *, seed: int) -> tuple[Counter[Finding], int, int]:
    """Findings, windows truly above a margin, and *not hurt* among those (wrong)."""
    found: Counter[Finding] = Counter()
    above = missed = 0
    for number, seen in enumerate(views):
        after, rises = spiked(seen, harm, np.random.default_rng([seed, number]))
        for verdict in judge(after, Expectation.nobody(rises), DEFAULT).flows:
            found[verdict.finding] += 1
            above += rises[verdict.flow] > 1
            missed += rises[verdict.flow] > 1 and verdict.finding is Finding.NOT_HURT
    return found, above, missed


def live(runs: Sequence[Path], *, baseline: float, fault: float) -> str:
    """The table of A/A windows from saved trials: each directory below `runs` that holds a history."""
    from chaos.history.store import History

    rows, total, everything = [], Counter[Finding](), list[HistoryView]()
    for trial in sorted({path.parent for run in runs for path in run.rglob("samples.arrows")}):
        saved = History.load(trial)
        seen = view_from(saved.samples, saved.events, flows=saved.flows)
        faults = seen.windows_of(WindowKind.FAULT)
        steady = seen.windows_of(WindowKind.BASELINE)
        if not steady:
            continue
        begin, end = steady[0].begin, min([w.begin for w in faults], default=seen.until)
        names = [flow for flow, samples in seen.flows.items() if not flow.sentinel and len(samples)]
        views = list(aa_views(seen, begin=begin, end=end, baseline=baseline, fault=fault))
        found = judge_aa(views, names, DEFAULT)
        total += found
        everything += views
        rows.append(f"| {trial.parent.name}/{trial.name} | {sum(found.values())} | {_counts(found)} |")
    n = sum(total.values())
    bound = clopper_pearson(Count(total[Finding.HURT], n), 0.025)[1] if n else 1.0
    harms = [(f"{share:.1%} errors", HarmDone(error_share=share)) for share in ERRORS]
    harms += [(f"{factor:g} x latency", HarmDone(slow_factor=factor)) for factor in SLOWER]
    spikes = []
    for seed, (name, harm) in enumerate(harms):
        findings, above, missed = judge_spiked(everything, harm, seed=seed)
        spikes.append(f"| {name} | {sum(findings.values())} | {_counts(findings)} | {above} | {missed} |")
    return "\n".join([
        "# A/A windows of live runs", "", _stamp(), "",
        f"{n} windows ({baseline:g} s baseline, {fault:g} s judged): {total[Finding.HURT]} wrong *hurt*, "
        f"at most {bound:.2%} (Clopper-Pearson, 97.5 %), {total[Finding.INCONCLUSIVE] / max(1, n):.1%} inconclusive.", "",
        "| trial | windows | hurt | not hurt | inconclusive |", "|---|---|---|---|---|", *rows, "",
        "## The same windows with harm of known size laid over their real samples", "",
        "| harm | windows | hurt | not hurt | inconclusive | truly above a margin | of these *not hurt* |",
        "|---|---|---|---|---|---|---|", *spikes, "",
    ])


def _counts(found: Counter[Finding]) -> str:
    return " | ".join(str(found[finding]) for finding in Finding)


# Synthetic tables


def synthetic(*, trials: int, workers: int) -> str:
    cells = list(_cells())
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(run_cell, cell, trials=trials, seed=1000 + i) for i, (_, cell) in enumerate(cells)]
        done = []
        for (table, cell), job in zip(cells, jobs, strict=True):
            done.append((table, cell, job.result()))
            print(f"{table}: {cell.name} ({cell.kind}): {_counts(done[-1][2].findings)}", file=sys.stderr, flush=True)
    parts = ["# How often the judge errs: synthetic histories", "", _stamp(), "", INTRODUCTION.format(n=trials * FLOWS)]
    for table, (title, header, row) in TABLES.items():
        parts += ["", f"## {title}", "", header, "|" + "---|" * (header.count("|") - 1)]
        parts += [row(cell, found) for name, cell, found in done if name == table]
    aa = [found for name, _, found in done if name == "aa"]
    wrong, n = sum(f.findings[Finding.HURT] for f in aa), sum(f.n for f in aa)
    above = [f for name, _, f in done if name in ("errors", "slow")]
    missed = sum(f.truths["above", Finding.NOT_HURT] for f in above)
    out_of = sum(v for f in above for (side, _), v in f.truths.items() if side == "above")
    parts += [
        "", "## In all", "",
        f"- A/A: {wrong} wrong *hurt* in {n} windows, at most {clopper_pearson(Count(wrong, n), 0.025)[1]:.3%}.",
        f"- Above the margins: {missed} wrong *not hurt* in {out_of} windows, at most "
        f"{clopper_pearson(Count(missed, out_of), 0.025)[1]:.3%}.", "",
    ]
    return "\n".join(parts)


def _cells() -> Iterator[tuple[str, Cell]]:
    for kind in PLANS:
        for name, noise in NOISES.items():
            yield "aa", Cell(name, noise, HarmDone(), kind)
    for share in ERRORS:
        yield "errors", Cell(f"{share:.1%}, quiet, baseline of 30 s", NOISES["quiet"], HarmDone(error_share=share),
                             plan=Plan(baseline=30.0))
    for label in ("quiet", "memory 0.1 s, 0.5 % failures"):
        for share in ERRORS:
            yield "errors", Cell(f"{share:.1%}, {label}", NOISES[label], HarmDone(error_share=share))
        for factor in SLOWER:
            yield "slow", Cell(f"{factor:g} x, {label}", NOISES[label], HarmDone(slow_factor=factor))
    for factor in SLOWER:
        yield "slow", Cell(f"{factor:g} x, drift to 1.3 x", NOISES["drift to 1.3 x"], HarmDone(slow_factor=factor),
                           FaultKind.GRADUAL)
    for memory in (0.05, 0.25, 1.0):
        for share in (0.03, 0.05, 0.10):
            yield "clusters", Cell(f"{share:.0%} in clusters of {memory:g} s", Noise(),
                                   HarmDone(error_share=share, memory=memory))
    for name, thresholds in VARIANTS.items():
        for label in ("memory 0.5 s, 1 % failures", "stalls of one flow, 1 in 2 s", "step to 1.6 x (machine)"):
            yield "variants", Cell(f"{name}: A/A, {label}", NOISES[label], HarmDone(), thresholds=thresholds)
        yield "variants", Cell(f"{name}: 2.5 % errors", Noise(memory=0.1, error_share=0.005),
                               HarmDone(error_share=0.025), thresholds=thresholds)
        yield "variants", Cell(f"{name}: quiet", Noise(), HarmDone(), thresholds=thresholds)


def _shares(found: Tallied) -> str:
    return " | ".join(f"{found.findings[finding] / found.n:.1%}" for finding in Finding)


def _seconds(found: Tallied) -> str:
    return f"{np.mean(found.seconds):.1f}" if found.seconds else "-"


def _row_aa(cell: Cell, found: Tallied) -> str:
    wrong = found.findings[Finding.HURT]
    bound = clopper_pearson(Count(wrong, found.n), 0.025)[1]
    inconclusive = found.findings[Finding.INCONCLUSIVE] / found.n
    return f"| {cell.kind} | {cell.name} | {wrong} of {found.n} | {bound:.2%} | {inconclusive:.1%} | {_seconds(found)} |"


def _row_power(cell: Cell, found: Tallied) -> str:
    errors, slow = np.mean(found.rises, axis=0)
    wrong = found.truths["above", Finding.NOT_HURT] + found.truths["below", Finding.HURT]
    least = least_seconds(cell.harm, cell.thresholds, PLANS[cell.kind].rate)
    shown = "-" if math.isnan(least) else f"{least:.1f}"
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
INTRODUCTION = """Each row is {n} windows: trials of four flows of 200 requests/s, each with a sentinel of 50/s of
the same client, and a baseline of 6 s. `s` is the mean time after which a flow was decided; `least s` is the mean time
that any test with the same error rates needs, for independent requests and a baseline known for certain (Kaufmann,
Cappé and Garivier 2016). `wrong` counts *not hurt* above a margin and *hurt* below both. Truth is computed from the
generator, for each trial's tau. The harm of a cluster row is a long-run share: the window that was judged may have
held none of it, which is why those rows are not part of the sums."""


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, numpy {np.__version__}; by `python -m proof.judge`."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("synthetic")
    made.add_argument("--trials", type=int, default=500)
    made.add_argument("--workers", type=int, default=1)
    saved = commands.add_parser("live")
    saved.add_argument("runs", type=Path, nargs="+")
    saved.add_argument("--baseline", type=float, default=6.0)
    saved.add_argument("--fault", type=float, default=8.0)
    for command in (made, saved):
        command.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.command == "synthetic":
        text = synthetic(trials=options.trials, workers=options.workers)
    else:
        text = live(options.runs, baseline=options.baseline, fault=options.fault)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
