"""Compares two `report.json`: verdicts that changed, and measures that moved by more than chance explains.

Used by `sharedfate compare BASE NEW` and `--chaos-baseline`. Plain data in and out: no file is read here.

A measure regressed when it is worse by more than its slack, the larger of a floor of its unit and the tolerance, and

- of a repeated fault: when the interval of the difference (Student's, from the spread between the repeats of both
  sides) excludes 0, and each repeat is worse than each of the other side;
- of a rate, which a ramp finds in steps of a half: when each repeat is worse than each of the other side, and the
  medians are further apart than one step (one ramp that ends a step late would draw a mean with it). Student's interval
  of three repeats a side in such steps excludes no halving;
- where one side has one kill, or whatever was measured once: when it is worse by twice the floor, beyond its own limits
  where it has such, for one says nothing of the next;
- of a share, whose limits are those of its own requests: when the lower limit of the difference exceeds the slack
  (squares and sums of the two values' limits: MOVER, Zou and Donner 2008).

Of a trial that is inconclusive in either report no measure is compared: what made it so moved its figures too.

The reports' limits are 95 % ones; for m measures compared at once they are widened by z(1 - alpha / 2m) / z(0.975), as
if normal. How often identical runs alarm, and planted regressions are found: docs/gate.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, fmean, median
from typing import Any, Final

from scipy.special import stdtrit

from chaos.verdict.model import Measure, Verdict

HIGHER_IS_BETTER: Final = frozenset({"requests/s", "1/s", "requests/s/core"})  # of units; in all others less is better
# Of a unit: the least difference that is worth a word, whatever the base. Argued from recorded kills in docs/gate.md.
FLOORS: Final[Mapping[str, float]] = {
    "s": 0.6,
    "requests": 180.0,
    "share": 0.05,
    "cores": 0.05,
    "core-seconds": 0.05,
    "MiB": 20.0,
    "pods": 0.4,
    "containers": 0.4,
    "successes": 0.4,
    "connections": 2.0,
    "requests/s": 0.0,
}
# Of a unit: the least share of the base, where the tolerance is smaller. A ramp finds a rate in steps of a half: one
# step less is a third less.
LEAST_SHARES: Final[Mapping[str, float]] = {"requests/s": 0.34}
SINGLE: Final = 2.0  # floors are so many times larger where a value stands alone
# Of the judge, which comes in looks; of the kubelet, whose probes have a period.
NOT_COMPARED: Final = frozenset({"time to detect", "ready again"})
OF_HARM: Final = frozenset({"requests lost", "time to recover", "outage"})  # there only where a flow was hurt
_Z95: Final = NormalDist().inv_cdf(0.975)


class Moved(StrEnum):
    """How a verdict or a measure changed."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    SAME = "same"  # or the difference lies within noise and tolerance
    UNKNOWN = "unknown"  # cannot be compared: no value, or a verdict that became inconclusive
    MISSING = "missing"  # was in the base, is not in the new
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a comparison. `measure` is empty for the verdict itself; the difference is new - base."""

    mode: str
    scenario: str
    measure: str
    moved: Moved
    base: str
    new: str
    low: float = math.nan
    high: float = math.nan
    unit: str = ""

    def __str__(self) -> str:
        name = f"{self.scenario}[{self.mode}]" + (f" {self.measure}" if self.measure else "")
        text = f"{name}: {self.base} -> {self.new} {self.unit}".rstrip()
        if math.isnan(self.low):
            return f"{text} ({self.moved})"
        return f"{text} (by {self.low:+.3g} to {self.high:+.3g}: {self.moved})"


def compare(
    base: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    alpha: float = 0.01,
    tolerance: float = 0.10,
    floors: Mapping[str, float] = FLOORS,
) -> list[Change]:
    """Compare every verdict and measure of two reports (version 1), the worst first.

    Args:
        base, new: parsed `report.json`.
        alpha: chance of one wrong *regressed* or *improved* among all measures.
        tolerance: a worsening by less than this share of the base value is not worth a word.
        floors: nor is one by less than this, by unit.

    A trial or a measure that is gone is *missing*, never left out. Several trials of one mode and scenario (seeds,
    targets) are compared in order.
    """
    before, after = _by_name(base["trials"]), _by_name(new["trials"])
    shared = sum(
        len(_measures(before[key]).keys() & _measures(after[key]).keys()) for key in before.keys() & after.keys()
    )
    widen = NormalDist().inv_cdf(1 - alpha / (2 * max(1, shared))) / _Z95
    changes: list[Change] = []
    for key in sorted(before.keys() | after.keys()):
        changes += _compare_trial(key, before.get(key), after.get(key), widen=widen, tolerance=tolerance, floors=floors)
    return sorted(changes, key=lambda change: list(_GRAVITY).index(change.moved))


_GRAVITY: Final = (Moved.REGRESSED, Moved.MISSING, Moved.UNKNOWN, Moved.IMPROVED, Moved.ADDED, Moved.SAME)
_Key = tuple[str, str, int]


def _by_name(trials: Iterable[Mapping[str, Any]]) -> dict[_Key, Mapping[str, Any]]:
    found: dict[_Key, Mapping[str, Any]] = {}
    for trial in trials:
        number = 0
        while (str(trial["mode"]), str(trial["scenario"]), number) in found:
            number += 1
        found[str(trial["mode"]), str(trial["scenario"]), number] = trial
    return found


def _measures(trial: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the measures of a trial that are compared."""
    return {name: measure for name, measure in trial.get("measures", {}).items() if name not in NOT_COMPARED}


def _nobody_hurt(trial: Mapping[str, Any]) -> bool:
    return not (trial.get("observed") or {"hurt": ["unknown"]})["hurt"]


def _compare_trial(
    key: _Key,
    base: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
    *,
    widen: float,
    tolerance: float,
    floors: Mapping[str, float],
) -> list[Change]:
    mode, scenario, _ = key
    if base is None or new is None:
        moved = Moved.ADDED if base is None else Moved.MISSING
        return [Change(mode, scenario, "", moved, _verdict(base), _verdict(new))]
    changes = [
        Change(
            mode, scenario, "", detect_verdict_change(base["verdict"], new["verdict"]), _verdict(base), _verdict(new)
        )
    ]
    untold = Verdict.INCONCLUSIVE in (base["verdict"], new["verdict"])
    for name in sorted(_measures(base).keys() | _measures(new).keys()):
        first, second = _measure(_measures(base).get(name)), _measure(_measures(new).get(name))
        if untold or first is None or second is None:
            moved = Moved.UNKNOWN  # where a machine or a loader could not be trusted, its figures cannot be either
            if not untold and (name not in _measures(base) or name not in _measures(new)):
                moved = Moved.ADDED if name in _measures(new) else Moved.MISSING
                if name in OF_HARM and moved is Moved.MISSING and _nobody_hurt(new):
                    moved = Moved.IMPROVED  # where that is no good news, the verdict says so
            changes.append(Change(mode, scenario, name, moved, _text(first), _text(second)))
            continue
        moved, low, high = detect_shift(first, second, widen=widen, tolerance=tolerance, floors=floors)
        changes.append(Change(mode, scenario, name, moved, _text(first), _text(second), low, high, second.unit))
    return changes


def _verdict(trial: Mapping[str, Any] | None) -> str:
    return "-" if trial is None else str(trial["verdict"])


def _text(measure: Measure | None) -> str:
    return "-" if measure is None else f"{measure.value:.4g}"


def _measure(raw: Mapping[str, Any] | None) -> Measure | None:
    """Return a measure; None for what cannot be compared: no value, or no limits and a unit without a known floor."""
    if raw is None or raw.get("value") is None or not math.isfinite(raw["value"]):
        return None
    value, unit = float(raw["value"]), str(raw.get("unit", ""))
    limits = [raw.get("low"), raw.get("high")]
    known = [float(limit) for limit in limits if limit is not None and math.isfinite(limit)]
    values = tuple(map(float, raw.get("values") or ()))
    if len(known) == 2:
        return Measure(value, known[0], known[1], unit, values)
    return Measure(value, value, value, unit, values or (value,)) if limits == [None, None] and unit in FLOORS else None


def detect_verdict_change(base: str, new: str) -> Moved:
    """Classify a verdict's change: pass -> fail is a regression; anything that becomes inconclusive is unknown."""
    if base == new:
        return Moved.SAME
    return {Verdict.PASS: Moved.IMPROVED, Verdict.FAIL: Moved.REGRESSED, Verdict.INCONCLUSIVE: Moved.UNKNOWN}[
        Verdict(new)
    ]


def detect_shift(
    base: Measure, new: Measure, *, widen: float, tolerance: float, floors: Mapping[str, float] = FLOORS
) -> tuple[Moved, float, float]:
    """Return whether a measure moved, and the limits of new - base. Pure."""
    if base.unit != new.unit:
        return Moved.UNKNOWN, math.nan, math.nan
    in_steps = bool(base.values and new.values) and base.unit in LEAST_SHARES
    before, after = (median(one.values) if in_steps else one.value for one in (base, new))
    change = after - before
    slack = max(tolerance, LEAST_SHARES.get(base.unit, 0.0)) * abs(before)
    floor = floors.get(base.unit, 0.0)
    sign = -1.0 if base.unit in HIGHER_IS_BETTER else 1.0
    if base.values and new.values:
        apart = min(new.values) - max(base.values), max(new.values) - min(base.values)
        low, high = apart if in_steps else _limits_of_repeats(base, new, widen)
        alone = min(len(base.values), len(new.values)) == 1
        beyond = max(slack, SINGLE * floor if alone else floor)
        if abs(change) <= beyond or low <= 0 <= high or apart[0] <= 0 <= apart[1]:
            return Moved.SAME, low, high
        return (Moved.REGRESSED if sign * change > 0 else Moved.IMPROVED), low, high
    low = change - widen * math.hypot(max(0.0, new.value - new.low), max(0.0, base.high - base.value))
    high = change + widen * math.hypot(max(0.0, new.high - new.value), max(0.0, base.value - base.low))
    worse, better = (-high, -low) if sign < 0 else (low, high)
    beyond = max(slack, floor if base.unit == "share" else SINGLE * floor)
    if worse > beyond:
        return Moved.REGRESSED, low, high
    return (Moved.IMPROVED if -better > beyond else Moved.SAME), low, high


def _limits_of_repeats(base: Measure, new: Measure, widen: float) -> tuple[float, float]:
    """Student's limits of the difference of two means, from the spread that both sides have in common; of one value
    each the difference itself."""
    change, n0, n1 = new.value - base.value, len(base.values), len(new.values)
    freedom = n0 + n1 - 2
    if not freedom:
        return change, change
    squares = sum((one - fmean(side.values)) ** 2 for side in (base, new) for one in side.values)
    half = widen * float(stdtrit(freedom, 0.975)) * math.sqrt(squares / freedom * (1 / n0 + 1 / n1))
    return change - half, change + half
