"""How often the gate alarms without cause, and finds what was planted: real pairs of runs, and pairs drawn from them.

    sharedfate run --modes none,sidecar,node --scenarios proxy-killed,noisy-neighbour --out RUN     some times
    python -m proof.gate --record RUN...                # adds the trials of these runs to the record
    sharedfate run ... --budget 600 --out WORSE
    python -m proof.gate --record WORSE --planted "proxies with half the CPU"
    python -m proof.gate --pairs 2000 --out docs/gate.md

Each two recorded runs are two real pairs, either being the base. Beside them pairs are drawn: a trial of the record of
its name (two identical runs may draw the same); of what is repeated, so many repeats, with replacement, from those of
all its trials, whatever deployment they are of. A planted regression changes the second run of a pair, and nothing
else, by what it does to each request.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import permutations, product
from pathlib import Path
from typing import Any, Final

import numpy as np

from chaos.engine.settings import Settings
from chaos.history.result import results_of
from chaos.report.compare import Regression, compare
from chaos.verdict.measures import over_repeats
from chaos.verdict.model import Measure

RECORD: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "gate.json"
GAVE_OUT: Final = "the rate at which the path gives out"
RATE: Final = Settings().rate
HURT_RATE: Final = {"sidecar": RATE, "node": 2 * RATE}  # requests/s of the flows behind the proxy that is killed
Trial = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Planted:
    """A regression, by what it does to one value of a measure.

    Attributes:
        measure: one that it moves; without a record of it nothing is counted.
        change: (mode, measure, value) -> the value as it would have been.
    """

    name: str
    measure: str
    change: Callable[[str, str, float], float]


def _late_start(seconds: float) -> Callable[[str, str, float], float]:
    def change(mode: str, measure: str, value: float) -> float:
        if measure == "outage":
            return value + seconds
        return value + seconds * HURT_RATE.get(mode, 0.0) if measure == "requests lost" else value

    return change


def _half_the_cpu(mode: str, measure: str, value: float) -> float:
    return value / 2 if measure == GAVE_OUT and mode != "none" else value


def _one_retry(mode: str, measure: str, value: float) -> float:
    del mode
    return value + 1 if measure == "retries of the Job" else value


PLANTED: Final = (
    Planted("a proxy that starts 2 s later", "outage", _late_start(2.0)),
    Planted("proxies with half the CPU", GAVE_OUT, _half_the_cpu),
    Planted("a Job that needs one more pod", "retries of the Job", _one_retry),
)


def record(runs: Sequence[Path], store: Path = RECORD, *, planted: str = "") -> None:
    """Add the trials of recorded runs to the record.

    Args:
        planted: the regression that the runs had; empty: they were made as they should be.
    """
    known: list[Trial] = json.loads(store.read_text()) if store.exists() else []
    known += [
        {
            "run": str(json.loads((run / "report.json").read_text())["run"]),
            "planted": planted,
            "mode": one.mode,
            "scenario": one.scenario,
            "verdict": one.verdict,
            "observed": {side: list(flows) for side, flows in one.observed.items()},
            "measures": {name: dict(measure) for name, measure in one.measures.items()},
        }
        for run in runs
        for one in results_of(run)
    ]
    store.write_text(json.dumps(known, indent=1) + "\n")


def draw(rng: np.random.Generator, pool: Sequence[Trial], repeats: int, plant: Planted | None) -> Trial:
    """One trial as another run of the same would have brought it."""
    trial = pool[int(rng.integers(len(pool)))]
    measures: dict[str, Any] = {}
    for name, measure in trial["measures"].items():
        values = [float(value) for value in measure.get("values") or ()]
        if not values:
            change = plant.change if plant and measure["unit"] == "pods" else None  # what else stands alone it spares
            shift = change(trial["mode"], name, measure["value"]) - measure["value"] if change else 0.0
            moved = {key: None if measure[key] is None else measure[key] + shift for key in ("value", "low", "high")}
            measures[name] = {**measure, **moved}
            continue
        number = repeats if measure.get("each") == "kill" else 3
        everyone = [one["measures"].get(name, {}).get("values") or () for one in pool]
        drawn = [float(value) for value in rng.choice(np.concatenate(everyone), number)]
        if plant:
            drawn = [plant.change(trial["mode"], name, value) for value in drawn]
        found = over_repeats([Measure(one, one, one, measure["unit"]) for one in drawn], str(measure.get("each", "")))
        measures[name] = {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "unit": found.unit,
            "values": list(found.values),
            "each": found.each,
        }
    return {**trial, "verdict": "pass", "measures": measures}  # what a verdict does is counted on real pairs


def alarms(
    pools: Mapping[tuple[str, str], Sequence[Trial]], *, pairs: int, repeats: int, plant: Planted | None, seed: int
) -> tuple[int, Counter[str]]:
    """(pairs with an alarm, by what) of so many pairs."""
    rng, wrong, by = np.random.default_rng([seed, repeats]), 0, Counter[str]()
    for _ in range(pairs):
        base = {"trials": [draw(rng, pool, repeats, None) for pool in pools.values()]}
        new = {"trials": [draw(rng, pool, repeats, plant) for pool in pools.values()]}
        found: list[Regression] = compare(base, new)
        wrong += bool(found)
        by.update({_named(one) for one in found})
    return wrong, by


def by_run(known: Sequence[Trial], planted: str = "") -> list[list[Trial]]:
    """The trials of each recorded run with that regression."""
    runs: dict[str, list[Trial]] = {}
    for trial in known:
        if trial["planted"] == planted:
            runs.setdefault(trial["run"], []).append(trial)
    return list(runs.values())


def real_alarms(pairs: Iterable[tuple[list[Trial], list[Trial]]]) -> tuple[int, int, int, Counter[str]]:
    """(pairs, those with an alarm, those with one of a measure, by what) of real runs that tried the same."""
    number = wrong = of_measures = 0
    by = Counter[str]()
    for base, new in pairs:
        if _tried(base) != _tried(new):
            continue
        found: list[Regression] = compare({"trials": base}, {"trials": new})
        number, wrong = number + 1, wrong + bool(found)
        of_measures += any(one.change.measure for one in found)
        by.update({_named(one) for one in found})
    return number, wrong, of_measures, by


def _tried(run: Sequence[Trial]) -> set[tuple[str, str]]:
    return {(one["mode"], one["scenario"]) for one in run}


def _named(one: Regression) -> str:
    return f"{one.change.scenario}[{one.change.mode}] {one.change.measure or 'verdict'}"


def _most(by: Counter[str]) -> str:
    return "; ".join(f"{name} {count}" for name, count in by.most_common(3)) or "-"


def page(known: Sequence[Trial], *, pairs: int) -> str:
    """The tables."""
    sound = by_run(known)
    lines = [
        INTRODUCTION.format(day=datetime.now(UTC).date(), runs=len(sound)),
        "| second run of the pair | pairs | alarms | of them by a measure | by |",
        "|---|---|---|---|---|",
    ]
    names = dict.fromkeys(trial["planted"] for trial in known if trial["planted"])
    real = [("**identical**", permutations(sound, 2)), *((name, product(sound, by_run(known, name))) for name in names)]
    for name, both in real:
        number, wrong, of_measures, by = real_alarms(both)
        lines.append(f"| {name} | {number} | {wrong} ({wrong / max(1, number):.0%}) | {of_measures} | {_most(by)} |")
    pools: dict[tuple[str, str], list[Trial]] = {}
    for trial in known:
        if not trial["planted"] and trial["verdict"] != "inconclusive":  # whose measures are not compared
            pools.setdefault((trial["mode"], trial["scenario"]), []).append(trial)
    lines += [DRAWN.format(pairs=pairs), "| trial | recorded | repeats |", "|---|---|---|"]
    for (mode, scenario), pool in pools.items():
        most = [max([len(one.get("values") or ()) for one in trial["measures"].values()], default=0) for trial in pool]
        lines.append(f"| {scenario}[{mode}] | {len(pool)} | {sum(most) or '-'} |")
    lines += ["", "| second run of the pair | kills | alarms | share | by |", "|---|---|---|---|---|"]
    told = {name for trial in known for name in trial["measures"]}
    for plant in (None, *(one for one in PLANTED if one.measure in told)):
        for repeats in (1, 3):
            wrong, by = alarms(pools, pairs=pairs, repeats=repeats, plant=plant, seed=5)
            lines.append(
                f"| {plant.name if plant else '**identical**'} | {repeats} | {wrong} of {pairs} | "
                f"{wrong / pairs:.1%} | {_most(by)} |"
            )
    return "\n".join(lines) + "\n"


INTRODUCTION = """# How often the gate alarms

{day}; by `python -m proof.gate`, from recorded runs of the demo and of `job-proxy-killed`
(`benchmarks/results/gate.json`).
Identical runs should alarm in at most one pair of thirty; a planted regression should be found in nine of ten.

## Real runs

{runs} runs of the same code with the same settings, one after the other, on a machine with nothing else to do. Every
two of them that tried the same make two pairs, one in each order. A verdict that became inconclusive is an alarm too,
unless a policy allows it. Two rules were chosen on these runs: rates are compared by
their medians (by means 4 of the first 30 pairs alarmed), and what was measured once by twice its floor (a time to
recover of 0.9 s alarmed in 7 pairs).
"""

DRAWN = """
## Runs that are drawn from these

{pairs} pairs a row. A trial is drawn from the decided records of its name; its repeats are drawn from
those of all trials of the name. The rates show what the rules do with this spread, not how wide it is elsewhere.

A planted regression is laid over the drawn values. A start that is 2 s later adds 2 s to each outage, and the requests
that fall due in them. Half the CPU halves the rate at which the path gives out. One more retry of a Job is one pod.
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--record", type=Path, nargs="+", default=[], help="run directories")
    options.add_argument("--planted", default="", help="the regression that the runs to record had")
    options.add_argument("--pairs", type=int, default=2000)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.record:
        record(chosen.record, planted=chosen.planted)
        return
    text = page(json.loads(RECORD.read_text()), pairs=chosen.pairs)
    print(text) if not chosen.out else chosen.out.write_text(text)


if __name__ == "__main__":
    main()
