"""Compares two `report.json`: verdicts that changed, and measures that moved by more than their intervals explain.

Used by `sharedfate compare BASE NEW` and `--chaos-baseline`. Plain data in and out: no file is read here.

A measure regressed when the lower limit of its worsening exceeds the tolerance. The limits of a difference come from
the limits of the two values by squares and sums (MOVER: Zou and Donner 2008), as for proportions. The reports' limits
are 95 % ones; for m measures compared at once they are widened by z(1 - alpha / 2m) / z(0.975), as if normal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any, Final

from chaos.verdict.model import Measure, Verdict

HIGHER_IS_BETTER: Final = frozenset({"requests/s", "1/s", "requests/s/core"})  # of units; in all others less is better
_Z95: Final = NormalDist().inv_cdf(0.975)


class Moved(StrEnum):
    """What became of a verdict or a measure."""

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
    base: Mapping[str, Any], new: Mapping[str, Any], *, alpha: float = 0.01, tolerance: float = 0.10
) -> list[Change]:
    """Every verdict and measure of two reports (version 1), the worst first.

    Args:
        base, new: parsed `report.json`.
        alpha: chance of one wrong *regressed* or *improved* among all measures.
        tolerance: a worsening by less than this share of the base value is not worth a word.

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
        changes += _compare_trial(key, before.get(key), after.get(key), widen=widen, tolerance=tolerance)
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
    measures: Mapping[str, Any] = trial.get("measures", {})
    return measures


def _compare_trial(
    key: _Key, base: Mapping[str, Any] | None, new: Mapping[str, Any] | None, *, widen: float, tolerance: float
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
    for name in sorted(_measures(base).keys() | _measures(new).keys()):
        first, second = _measure(_measures(base).get(name)), _measure(_measures(new).get(name))
        if first is None or second is None:
            moved = Moved.UNKNOWN
            if name not in _measures(base) or name not in _measures(new):
                moved = Moved.ADDED if name in _measures(new) else Moved.MISSING
            changes.append(Change(mode, scenario, name, moved, _text(first), _text(second)))
            continue
        moved, low, high = detect_shift(first, second, widen=widen, tolerance=tolerance)
        changes.append(Change(mode, scenario, name, moved, _text(first), _text(second), low, high, second.unit))
    return changes


def _verdict(trial: Mapping[str, Any] | None) -> str:
    return "-" if trial is None else str(trial["verdict"])


def _text(measure: Measure | None) -> str:
    return "-" if measure is None else f"{measure.value:.4g}"


def _measure(raw: Mapping[str, Any] | None) -> Measure | None:
    if raw is None or any(raw.get(name) is None or not math.isfinite(raw[name]) for name in ("value", "low", "high")):
        return None
    return Measure(float(raw["value"]), float(raw["low"]), float(raw["high"]), str(raw.get("unit", "")))


def detect_verdict_change(base: str, new: str) -> Moved:
    """pass -> fail is a regression; whatever becomes inconclusive is unknown."""
    if base == new:
        return Moved.SAME
    return {Verdict.PASS: Moved.IMPROVED, Verdict.FAIL: Moved.REGRESSED, Verdict.INCONCLUSIVE: Moved.UNKNOWN}[
        Verdict(new)
    ]


def detect_shift(base: Measure, new: Measure, *, widen: float, tolerance: float) -> tuple[Moved, float, float]:
    """Whether a measure moved, and the limits of new - base."""
    if base.unit != new.unit:
        return Moved.UNKNOWN, math.nan, math.nan
    change = new.value - base.value
    low = change - widen * math.hypot(max(0.0, new.value - new.low), max(0.0, base.high - base.value))
    high = change + widen * math.hypot(max(0.0, new.high - new.value), max(0.0, base.value - base.low))
    slack = tolerance * abs(base.value)
    worse, better = (-high, -low) if base.unit in HIGHER_IS_BETTER else (low, high)
    if worse > slack:
        return Moved.REGRESSED, low, high
    return (Moved.IMPROVED if -better > slack else Moved.SAME), low, high
