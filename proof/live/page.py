"""Writes docs/judge-live.md, and every single window beside it as CSV, from recorded histories alone."""

from __future__ import annotations

import csv
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from chaos.history.model import Flag
from chaos.history.store import History
from chaos.model.faulting import FaultShape
from chaos.verdict import EffectKind, Finding, Thresholds
from chaos.verdict.proportions import Count, clopper_pearson
from proof.information import least_seconds
from proof.live.cut import DEFAULT, NANO, Judged, by_flow, judge_quiet
from proof.live.harm import Given, Harmed, Way, judge_harm
from proof.live.machine import Machine
from proof.live.overlay import SIZES, judge_overlaid
from proof.live.record import FLOWS, RATE, load

ONE_SIDED: Final = 0.05  # of the upper Clopper-Pearson bounds
VARIANTS: Final[dict[str, Thresholds]] = {
    "as it is": DEFAULT,
    "no sentinel": replace(DEFAULT, sentinel_factor=0.0),
    "design effect taken as 1": replace(DEFAULT, design_effect=1.0, scales=(1e-6,)),
    "design effect of 0.25 s alone": replace(DEFAULT, scales=(0.25,)),
    "neither": replace(DEFAULT, sentinel_factor=0.0, design_effect=1.0, scales=(1e-6,)),
    "late samples judged": replace(DEFAULT, late_share=0.999),
    "slow margin of 5 points": replace(DEFAULT, slow_margin=0.05),
    "slow margin of 10 points": replace(DEFAULT, slow_margin=0.10),
    "slow margin of 20 points": replace(DEFAULT, slow_margin=0.20),
    "errors margin of 1 point": replace(DEFAULT, errors_margin=0.01),
    "slow threshold without the 2 ms": replace(DEFAULT, slow_extra=0.0),
    "sentinel factor 1": replace(DEFAULT, sentinel_factor=1.0),
    "baseline of 10 s": replace(DEFAULT, baseline_seconds=10.0),
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A history with what it is."""

    history: History

    @property
    def machine(self) -> Machine:
        return Machine(self.history.header["machine"])

    @property
    def mode(self) -> str:
        return str(self.history.header["mode"])

    @property
    def seconds(self) -> float:
        return float(self.history.header["end"] - self.history.header["begin"]) / NANO


@dataclass(frozen=True, slots=True)
class Windowed:
    """One judged window of one recording."""

    machine: Machine
    mode: str
    said: Judged


def read(out: Path, what: str) -> list[Recorded]:
    """The recordings of that sort, in the order of the machine's states."""
    found = [Recorded(load(path.parent)) for path in out.glob(f"{what}-*/trial.json")]
    order = list(Machine), list(FLOWS)
    return sorted(found, key=lambda one: (order[0].index(one.machine), order[1].index(one.mode)))


def bound(wrong: int, of: int) -> str:
    """The upper end of a one-sided 95 % Clopper-Pearson interval."""
    return f"{clopper_pearson(Count(wrong, of), ONE_SIDED)[1]:.2%}" if of else "-"


def write(out: Path, page: Path) -> None:
    """The page, and `page` with the suffix .csv."""
    quiet, harmed = read(out, "aa"), read(out, "harm")
    windows = [Windowed(one.machine, one.mode, said) for one in quiet for said in judge_quiet(one.history)]
    done = [(one, harm) for one in harmed for harm in judge_harm(one.history)]
    page.write_text(
        "\n".join(
            [
                "# How often the judge errs: live histories",
                "",
                stamp(quiet + harmed),
                "",
                INTRODUCTION,
                "",
                "## Nothing was done (A/A)",
                "",
                *_aa(windows),
                "",
                *_wrong(windows),
                "",
                "## What the machine did meanwhile",
                "",
                *_weather(quiet),
                "",
                "## The judge with one number changed, on the same windows",
                "",
                *_variants(quiet),
                "",
                "## Harm of a known size, done by real servers",
                "",
                HARM,
                "",
                *_harm(done),
                "",
                "## Harm of a known size, laid over the real samples above",
                "",
                OVERLAID,
                "",
                *_overlaid(quiet),
                "",
            ]
        )
    )
    with page.with_suffix(".csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            [
                "what",
                "machine",
                "mode",
                "kind",
                "begin_s",
                "flow",
                "harm",
                "finding",
                "decided_s",
                "used_s",
                "errors_rise",
                "slow_rise",
                "errors_inflation",
                "slow_inflation",
            ]
        )
        for one in windows:
            table.writerow(["aa", one.machine, one.mode, *_cells(one.said, "")])
        for recorded, harm in done:
            table.writerow(["harm", recorded.machine, recorded.mode, *_cells(harm.said, str(harm.harm))])


def _cells(said: Judged, harm: str) -> list[str]:
    return [
        said.kind,
        f"{said.begin:.1f}",
        str(said.flow),
        harm,
        said.finding,
        "" if said.decided is None else f"{said.decided:g}",
        f"{said.seconds:.2f}",
        f"{said.errors:.4f}",
        f"{said.slow:.4f}",
        *(f"{value:.1f}" for value in said.design_effect),
    ]


def stamp(recorded: Iterable[Recorded]) -> str:
    """Date and machine."""
    days = sorted({str(one.history.header["when"]) for one in recorded})
    memory = next(
        int(transport.split()[1])
        for transport in Path("/proc/meminfo").read_text().splitlines()
        if transport.startswith("MemTotal")
    )
    return (
        f"{' and '.join(days)}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB, Linux "
        f"{platform.release().split('-')[0]}, "
        f"numpy {np.__version__}; by `python -m proof.live --page docs/judge-live.md`. Every window: "
        "[judge-live.csv](judge-live.csv)."
    )


def _aa(windows: Sequence[Windowed]) -> list[str]:
    header = [
        "| machine | windows | wrong *hurt* | at most | inconclusive | s to a decision | s used |",
        "|---|---|---|---|---|---|---|",
    ]
    lines = list(header)
    for machine in Machine:
        if not any(w.machine is machine for w in windows):
            continue
        for kind in FaultShape:
            lines.append(
                _aa_row(f"{machine}, {kind}", [w for w in windows if w.machine is machine and w.said.kind is kind])
            )
        lines.append(_aa_row(f"**{machine}**", [w for w in windows if w.machine is machine]))
    lines.append(_aa_row("**in all**", windows))
    lines += ["", *[transport.replace("machine", "mode, machine") for transport in header]]
    for mode in dict.fromkeys(w.mode for w in windows):
        for machine in Machine:
            if mine := [w for w in windows if w.machine is machine and w.mode == mode]:
                lines.append(_aa_row(f"`{mode}`, {machine}", mine))
    return lines


def _aa_row(name: str, windows: Sequence[Windowed]) -> str:
    n, wrong = len(windows), sum(w.said.finding is Finding.HURT for w in windows)
    if not n:
        return f"| {name} | 0 | - | - | - | - | - |"  # a recording too short for any
    open_ = sum(w.said.finding is Finding.INCONCLUSIVE for w in windows)
    decided = [w.said.decided for w in windows if w.said.decided is not None]
    mean = f"{np.mean(decided):.1f}" if decided else "-"
    return f"| {name} | {n} | {wrong} | {bound(wrong, n)} | {open_ / n:.1%} | {mean} | {np.mean([w.said.seconds for w in windows]):.1f} |"


def _wrong(windows: Sequence[Windowed]) -> list[str]:
    wrong = [w for w in windows if w.said.finding is Finding.HURT]
    return [
        f"- wrong *hurt*: {w.machine}, `{w.mode}`, {w.said.kind}, {w.said.flow}, {w.said.begin:.1f} s into the "
        "recording, at the "
        f"{w.said.decided:g} s look: errors {w.said.errors:+.1%}, slow {w.said.slow:+.1%}, design_effect "
        f"{w.said.design_effect[0]:.0f} and "
        f"{w.said.design_effect[1]:.0f}"
        for w in wrong
    ] or ["No window was called *hurt*."]


def _weather(recorded: Sequence[Recorded]) -> list[str]:
    lines = [
        "| machine | mode | s | requests/s | median, ms | p99, ms | failed | late | sentinel median, ms | sentinel "
        "p99, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in recorded:
        flows = by_flow(one.history)
        begin, end = one.history.header["begin"], one.history.header["end"]
        cut = {flow: rows[(rows["due"] >= begin) & (rows["due"] < end)] for flow, rows in flows.items()}
        rows, sentinel = (
            np.concatenate([rows for flow, rows in cut.items() if flow.sentinel is wanted]) for wanted in (False, True)
        )
        waits = [(part["done"] - part["due"]) / 1e6 for part in (rows, sentinel)]
        quick, slow, bare_quick, bare_slow = (f"{np.quantile(wait, q):.2f}" for wait in waits for q in (0.5, 0.99))
        failed, late = np.mean(rows["outcome"] != 0), np.mean((rows["flags"] & Flag.LATE) != 0)
        lines.append(
            f"| {one.machine} | `{one.mode}` | {one.seconds:.0f} | {len(rows) / one.seconds:,.0f} | {quick} | {slow} | "
            f"{failed:.3%} | {late:.1%} | {bare_quick} | {bare_slow} |"
        )
    return lines


def _variants(recorded: Sequence[Recorded]) -> list[str]:
    states = " | ".join(Machine)
    lines = [
        f"| judge | windows | wrong *hurt*: {states} | inconclusive: {states} |",
        "|---|---|" + "---|" * (2 * len(Machine)),
    ]
    for name, thresholds in VARIANTS.items():
        found = {
            machine: [
                said.finding
                for one in recorded
                if one.machine is machine
                for said in judge_quiet(one.history, thresholds=thresholds)
            ]
            for machine in Machine
        }
        wrong = [str(said.count(Finding.HURT)) for said in found.values()]
        left = [f"{said.count(Finding.INCONCLUSIVE) / max(1, len(said)):.0%}" for said in found.values()]
        lines.append(f"| {name} | {sum(map(len, found.values()))} | {' | '.join(wrong)} | {' | '.join(left)} |")
    return lines


@dataclass(frozen=True, slots=True)
class Truth:
    """What a harm did to one kind of effect in all rounds of one recording, as a rise of a share; and how well that is
    known.
    """

    kind: EffectKind
    rise: float
    error: float  # standard error; 0: it was set
    base: float

    def side(self, margin: float) -> str:
        """Above the margin, below it, or so near that nobody knows."""
        if abs(self.rise - margin) <= 2 * self.error:
            return "at the margin"
        return "above" if self.rise > margin else "below"


def truth_of(harm: Given, cases: Sequence[Harmed]) -> Truth:
    """From the probability that was set, or, of a factor, from all requests that were harmed."""
    base = float(np.mean([case.base for case in cases]))
    if harm.way is Way.ERRORS:
        return Truth(EffectKind.ERRORS, harm.size, 0.0, 0.0)
    if harm.way is Way.SLOWED:
        return Truth(EffectKind.SLOW, harm.size * (1 - base), 0.0, base)
    rises = [case.slow / case.n - case.base for case in cases if case.n]
    error = float(np.std(rises, ddof=1) / math.sqrt(len(rises))) if len(rises) > 1 else 1.0
    return Truth(EffectKind.SLOW, float(np.mean(rises)), error, base)


def _harm(done: Sequence[tuple[Recorded, Harmed]]) -> list[str]:
    lines = [
        "| machine, mode | harm | true rise, points | side | windows | hurt | not hurt | inconclusive | wrong | s to "
        "a decision | "
        "least s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    sides = {side: [0, 0, 0] for side in ("above", "below", "at the margin")}  # windows, wrong, inconclusive
    keys = sorted(
        {(list(Machine).index(one.machine), one.mode, list(Way).index(h.harm.way), h.harm.size) for one, h in done}
    )
    for place, mode, way, size in keys:
        machine, harm = list(Machine)[place], Given(list(Way)[way], size)
        cases = [h for one, h in done if one.machine is machine and one.mode == mode and h.harm == harm]
        true = truth_of(harm, cases)
        margin = DEFAULT.margin(true.kind)
        side = true.side(margin)
        count = {finding: sum(case.said.finding is finding for case in cases) for finding in Finding}
        wrong = {"above": count[Finding.NOT_HURT], "below": count[Finding.HURT], "at the margin": 0}[side]
        for place_in, value in enumerate((len(cases), wrong, count[Finding.INCONCLUSIVE])):
            sides[side][place_in] += value
        decided = [case.said.decided for case in cases if case.said.decided is not None]
        least = least_seconds(true.base + true.rise, true.base + margin, DEFAULT.alpha, RATE)
        n, doubt = len(cases), f" ± {2 * true.error * 100:.1f}" if true.error else ""
        lines.append(
            f"| {machine}, `{mode}` | {harm} | {true.rise * 100:.1f}{doubt} | {side} | {n} | "
            + " | ".join(f"{count[finding] / n:.0%}" for finding in Finding)
            + f" | {wrong} | {f'{np.mean(decided):.1f}' if decided else '-'} | {'-' if math.isnan(least) else f'{least:.2f}'} |"
        )
    lines += [
        "",
        f"- Above the margins: {sides['above'][1]} wrong *not hurt* in {sides['above'][0]} windows, at most "
        f"{bound(sides['above'][1], sides['above'][0])}; {sides['above'][2] / max(1, sides['above'][0]):.0%} "
        "inconclusive.",
        f"- Below the margins: {sides['below'][1]} wrong *hurt* in {sides['below'][0]} windows, at most "
        f"{bound(sides['below'][1], sides['below'][0])}; {sides['below'][2] / max(1, sides['below'][0]):.0%} "
        "inconclusive.",
        f"- At a margin, no answer wrong: {sides['at the margin'][0]} windows.",
    ]
    return lines


def _overlaid(recorded: Sequence[Recorded]) -> list[str]:
    lines = [
        "| harm | machine | windows | hurt | not hurt | inconclusive | wrong | s to a decision | least s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    totals = {side: [0, 0] for side in ("above", "below")}
    for seed, harm in enumerate(SIZES):
        margin = DEFAULT.margin(EffectKind.ERRORS if harm.way is Way.ERRORS else EffectKind.SLOW)
        side = "above" if harm.size > margin else "below"
        wrongly = Finding.NOT_HURT if side == "above" else Finding.HURT
        least = least_seconds(harm.size, margin, DEFAULT.alpha, RATE)
        for machine in Machine:
            found = [
                said
                for number, one in enumerate(recorded)
                if one.machine is machine
                for said in judge_overlaid(one.history, harm, seed=100 * seed + number)
            ]
            if not found:
                continue
            count = {finding: sum(said.finding is finding for said in found) for finding in Finding}
            decided = [said.decided for said in found if said.decided is not None]
            totals[side][0] += len(found)
            totals[side][1] += count[wrongly]
            lines.append(
                f"| {harm} | {machine} | {len(found)} | "
                + " | ".join(f"{count[finding] / len(found):.0%}" for finding in Finding)
                + f" | {count[wrongly]} | {f'{np.mean(decided):.1f}' if decided else '-'} | {least:.2f} |"
            )
    lines.append("")
    for side, name in (("above", "not hurt"), ("below", "hurt")):
        n, wrong = totals[side]
        lines.append(
            f"- {side.capitalize()} the margins: {wrong} wrong *{name}* in {n} windows, at most {bound(wrong, n)}."
        )
    return lines


INTRODUCTION: Final = f"""\
Recorded from real deployments on the embedded cluster: real Envoys, the reference tenants, their loaders and sentinels at the rates
of a trial ({RATE:g} requests a second of each flow). *Idle*: the machine does nothing else. *Busy*: a loop fills one core. *Full*:
loops fill both cores, and twice as many more come and go (on average 0.4 s of every 1.6 s). *Noisy*: loops fill both cores, and
bursts of six more a core begin and end together (again 0.4 s of 1.6 s).

A window is one flow in one (baseline, window) pair, cut as in a trial and judged by the same code (`proof/live/cut.py`). Held
and pulse have a baseline of 5 s and looks at 1 to 30 s until the judge has decided; gradual has three or six pairs. Flows are
judged in threes, one of each tenant, as in a trial. Within a group and a kind no two windows share a request. They are not wholly
independent: windows of one recording share its minutes, groups lie beside each other in time (a stall of the machine meets all of
them), and the three kinds are three cuts of the same recordings. The design effect is learnt from the 5 s of baseline alone, as in
the first trial of a deployment. *At most* is the upper end of a one-sided 95 % Clopper-Pearson interval, as if windows were
independent. *s to a decision*: mean of those that were decided; *s used*: of all, up to 30 s (gradual: the time that the fault was
held). A window that the recording's end cut short is inconclusive."""

HARM: Final = """\
Servers answer errors, or late, with a set probability (`proof/live/harm.py`): each tenant has its own harm, held until the judge
has decided for every flow. Sentinels do not feel it. For errors and slowed shares the truth is what was set. For a factor it is
the mean rise over all its windows, ± two standard errors, and a side is claimed only beyond these. *Wrong* is *not hurt* above a
margin and *hurt* below. *Least s*: the mean time that any test with alpha 0.001 on either side needs at this rate, from the
information in independent requests and a baseline known for certain (Kaufmann, Cappé and Garivier 2016)."""

OVERLAID: Final = """\
Held windows of the recordings without a fault, in which requests of the fault window were turned into failures, or made 60 ms
slower, with the given probability. These cost no time on the machine, so there are many. *Least s* as above, for a baseline
without any failure or slow request. A window above a margin that is *not hurt* is wrong, and so is one below that is *hurt*."""
