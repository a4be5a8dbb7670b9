"""What got worse from one `report.json` to another: `sharedfate compare BASE NEW`, and `--chaos-baseline`.

A raw difference says nothing: each line here rests on the reports' intervals (`chaos.report.regressions`). What
counts:

    a verdict that was pass or inconclusive and is fail now
    a verdict that became inconclusive, unless the policy lets that trial be so
    a trial or a measure that is gone, unless the policy lets that trial be missing
    a measure that worsened beyond its interval, the tolerance and its unit's floor

Exit codes, as pytest's where they mean the same:

    0  nothing got worse (what is new, and what got better, is no regression)
    1  at least one regression; each is printed with its interval
    4  refused: a file is missing, or is no report of version 1; or the policy is not as it should be

A policy is a YAML file; names may hold `*` and `?`, a missing name matches all:

    may_be_inconclusive:
      - {scenario: noisy-neighbour}
      - {scenario: "proxy-*", mode: ambient-pod}
    may_be_missing: []
    tolerance: 0.10        # share of the base value by which a measure may worsen
    floors: {s: 0.5}       # and by how much at least, by unit; what is not named keeps its own
    alpha: 0.01            # chance of one wrong regression among all measures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from chaos.documents import read_json, read_yaml, shown
from chaos.errors import Misuse
from chaos.report.document import check
from chaos.report.regressions import FLOORS, Change, Moved
from chaos.report.regressions import compare as changes_between

OK: Final = 0
REGRESSED: Final = 1


@dataclass(frozen=True, slots=True)
class Regression:
    """One thing that got worse. `low` and `high` of the change are the interval of new - base; NaN for a verdict."""

    change: Change
    why: str

    def __str__(self) -> str:
        return f"{self.change}: {self.why}"


@dataclass(frozen=True, slots=True)
class TrialPattern:
    """Some trials, by name."""

    scenario: str = "*"
    mode: str = "*"

    def matches(self, change: Change) -> bool:
        return fnmatchcase(change.scenario, self.scenario) and fnmatchcase(change.mode, self.mode)


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a gate lets pass."""

    may_be_inconclusive: tuple[TrialPattern, ...] = ()
    may_be_missing: tuple[TrialPattern, ...] = ()
    tolerance: float = 0.10
    alpha: float = 0.01
    floors: Mapping[str, float] = field(default_factory=lambda: dict(FLOORS))


def compare(
    base_report: Mapping[str, Any], new_report: Mapping[str, Any], policy: GatePolicy | None = None
) -> list[Regression]:
    """What got worse, the worst first; empty when nothing did. Both are parsed reports that passed `load_report`."""
    policy = policy or GatePolicy()
    changes = changes_between(
        base_report, new_report, alpha=policy.alpha, tolerance=policy.tolerance, floors=policy.floors
    )
    return [Regression(change, why) for change in changes if (why := detect_regression(change, policy))]


def detect_regression(change: Change, policy: GatePolicy) -> str:
    """Why a change is a regression; empty when it is none."""
    if change.moved is Moved.REGRESSED:
        return (
            "worse by more than its interval, the tolerance and the floor of its unit explain"
            if change.measure
            else "it fails now"
        )
    if change.moved is Moved.MISSING:
        if any(pattern.matches(change) for pattern in policy.may_be_missing):
            return ""
        return "the new report does not have it"
    if change.moved is Moved.UNKNOWN and not change.measure:
        if any(pattern.matches(change) for pattern in policy.may_be_inconclusive):
            return ""
        return "it can no longer be told, and no policy lets it be so"
    return ""


def exit_code(regressions: Sequence[Regression]) -> int:
    """0 or 1; refused input is the caller's 4 (`Misuse`)."""
    return REGRESSED if regressions else OK


def comparability(base_report: Mapping[str, Any], new_report: Mapping[str, Any]) -> list[str]:
    """Reasons to distrust a comparison of the measures: printed, and no regression by themselves."""
    base, new = base_report["cluster"], new_report["cluster"]
    return [
        f"the cluster's {key} differs: {base[key]} and {new[key]}"
        for key in ("kind", "version", "nodes")
        if base[key] != new[key]
    ]


def load_report(path: Path) -> dict[str, Any]:
    """A `report.json`, held against the schema; a run directory stands for the one inside it. Raises Misuse."""
    if path.is_dir():
        path = path / "report.json"
    if not path.exists():
        raise Misuse(f"{shown(path)}: no such file: give a report.json or a run directory")
    report = read_json(path)
    check(report, name=shown(path))
    names = [(str(trial["scenario"]), str(trial["mode"])) for trial in report["trials"]]
    if twice := sorted({f"{scenario}[{mode}]" for scenario, mode in names if names.count((scenario, mode)) > 1}):
        raise Misuse(f"{path}: {', '.join(twice)} stands there twice: a run holds each trial once")
    loaded: dict[str, Any] = report
    return loaded


def load_policy(path: Path) -> GatePolicy:
    """A policy file; raises Misuse with all that is wrong in it."""
    raw = read_yaml(path) or {}
    if not isinstance(raw, dict):
        raise Misuse(f"{path}: a mapping was expected")
    known = [one.name for one in fields(GatePolicy)]
    problems = [f"unknown field {name!r}: known are {', '.join(known)}" for name in raw if name not in known]
    patterns: dict[str, tuple[TrialPattern, ...]] = {}
    for name in ("may_be_inconclusive", "may_be_missing"):
        entries = raw.get(name) or []
        if not isinstance(entries, list):
            problems.append(f"{name} must be a list")
            continue
        good = []
        for number, entry in enumerate(entries):
            if (
                not isinstance(entry, dict)
                or not entry
                or not entry.keys() <= {"scenario", "mode"}
                or not all(isinstance(value, str) for value in entry.values())
            ):
                problems.append(f"{name}[{number}] must hold scenario, mode or both, as text")
            else:
                good.append(TrialPattern(**entry))
        patterns[name] = tuple(good)
    numbers: dict[str, float] = {}
    for name, default, top in (("tolerance", 0.10, 10.0), ("alpha", 0.01, 0.5)):
        value = raw.get(name, default)
        number_given = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number_given or not 0 <= value <= top or (name == "alpha" and not value):
            problems.append(
                f"{name} is {value!r}, and should be a number from {'above ' * (name == 'alpha')}0 to {top:g}"
            )
        else:
            numbers[name] = float(value)
    floors = raw.get("floors") or {}
    if not isinstance(floors, dict):
        problems.append("floors must be a mapping from unit to number")
        floors = {}
    for unit, value in floors.items():
        if unit not in FLOORS:
            problems.append(f"floors: unknown unit {unit!r}: known are {', '.join(FLOORS)}")
        elif not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
            problems.append(f"floors: {unit} is {value!r}, and should be a number from 0 on")
    if problems:
        raise Misuse(f"{path}: " + "; ".join(problems))
    return GatePolicy(
        patterns["may_be_inconclusive"],
        patterns["may_be_missing"],
        numbers["tolerance"],
        numbers["alpha"],
        {**FLOORS, **{unit: float(value) for unit, value in floors.items()}},
    )
