"""How often the gate alarms without cause, and finds what was planted: pairs of runs drawn from recorded trials.

    sharedfate run --modes none,sidecar,node --scenarios proxy-killed,noisy-neighbour -- --chaos-repeat 12
    python -m proof.gate --record RUN...                # adds the trials of these runs to the record
    python -m proof.gate --pairs 2000 --out docs/gate.md

A trial is drawn from the record of its name (two identical runs may draw the same); of what is repeated, so many
repeats are drawn, with replacement, from those of all its trials, whatever deployment they are of. A planted regression
changes the second run of a pair, and nothing else, by what it does to each request.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from chaos.history.result import TrialResult, results_of
from chaos.report.compare import Regression, compare
from chaos.verdict.measures import over_repeats
from chaos.verdict.model import Measure

RECORD: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "gate.json"
GAVE_OUT: Final = "the rate at which the path gives out"
HURT_RATE: Final = {"sidecar": 200.0, "node": 300.0}  # requests/s of the flows behind the proxy that is killed
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


def record(runs: Sequence[Path], store: Path = RECORD) -> None:
    """Add the trials of recorded runs to the record."""
    known: list[Trial] = json.loads(store.read_text()) if store.exists() else []
    known += [
        {
            "mode": one.mode,
            "scenario": one.scenario,
            "verdict": one.verdict,
            "observed": {side: list(flows) for side, flows in one.observed.items()},
            "measures": {name: dict(measure) for name, measure in one.measures.items()},
        }
        for run in runs
        for one in [*results_of(run), *map(TrialResult.read, sorted(run.glob("trials/*/*/attempt-1/result.json")))]
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
    return {**trial, "verdict": "pass", "measures": measures}  # what a verdict does is counted elsewhere


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
        by.update({f"{one.change.scenario}[{one.change.mode}] {one.change.measure}" for one in found})
    return wrong, by


def page(known: Sequence[Trial], *, pairs: int) -> str:
    """The table."""
    pools: dict[tuple[str, str], list[Trial]] = {}
    for trial in known:
        pools.setdefault((trial["mode"], trial["scenario"]), []).append(trial)
    lines = [
        INTRODUCTION.format(day=datetime.now(UTC).date(), pairs=pairs),
        "| trial | recorded | repeats |",
        "|---|---|---|",
    ]
    for (mode, scenario), pool in pools.items():
        most = [max([len(one.get("values") or ()) for one in trial["measures"].values()], default=0) for trial in pool]
        lines.append(f"| {scenario}[{mode}] | {len(pool)} | {sum(most) or '-'} |")
    lines += ["", "| second run of the pair | kills | alarms | share | by |", "|---|---|---|---|---|"]
    told = {name for trial in known for name in trial["measures"]}
    for plant in (None, *(one for one in PLANTED if one.measure in told)):
        for repeats in (1, 3):
            wrong, by = alarms(pools, pairs=pairs, repeats=repeats, plant=plant, seed=5)
            by_what = "; ".join(f"{name} {count}" for name, count in by.most_common(3)) or "-"
            lines.append(
                f"| {plant.name if plant else '**identical**'} | {repeats} | {wrong} of {pairs} | "
                f"{wrong / pairs:.1%} | {by_what} |"
            )
    return "\n".join(lines) + "\n"


INTRODUCTION = """# How often the gate alarms

{day}; by `python -m proof.gate`: {pairs} pairs of runs a row, drawn from recorded trials
(`benchmarks/results/gate.json`), on machines that were idle and busy. Repeats are drawn from those of all trials of a
name. Few were recorded: the rates say what the rules do with such a spread, not how wide it is elsewhere. A verdict
that becomes *inconclusive* is an alarm too, and is not counted here: how often that happens is the judge's rate.
Identical runs should alarm in at most one pair of thirty; a planted regression should be found in nine of ten.

A planted regression is laid over the drawn values: a start that is 2 s later adds 2 s to each outage and the requests
that fall due in them; half the CPU halves the rate at which the path gives out; one more retry of a Job is one pod.
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--record", type=Path, nargs="+", default=[], help="run directories")
    options.add_argument("--pairs", type=int, default=2000)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.record:
        record(chosen.record)
        return
    text = page(json.loads(RECORD.read_text()), pairs=chosen.pairs)
    print(text) if not chosen.out else chosen.out.write_text(text)


if __name__ == "__main__":
    main()
