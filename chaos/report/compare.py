"""Finds what got worse from one `report.json` to another: `sharedfate compare BASE NEW`, and `--chaos-baseline`.

A raw difference says nothing: each line here rests on the reports' intervals (`chaos.report.regressions`). What
counts:

    a verdict that was pass or inconclusive and is fail now
    a verdict that became inconclusive, unless the policy lets that trial be so
    a trial or a measure that is gone, unless the policy lets that trial be missing
    a measure that worsened beyond its interval, the tolerance and its unit's floor; of a trial that can be told in both

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
    floors: {s: 0.6}       # and by how much at least, by unit; what is not named keeps its own
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
from chaos.fields import Fields
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
    """A pattern of trials, by name."""

    scenario: str = "*"
    mode: str = "*"

    def matches(self, change: Change) -> bool:
        return fnmatchcase(change.scenario, self.scenario) and fnmatchcase(change.mode, self.mode)


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a gate tolerates."""

    may_be_inconclusive: tuple[TrialPattern, ...] = ()
    may_be_missing: tuple[TrialPattern, ...] = ()
    tolerance: float = 0.10
    alpha: float = 0.01
    floors: Mapping[str, float] = field(default_factory=lambda: dict(FLOORS))


def compare(
    base_report: Mapping[str, Any], new_report: Mapping[str, Any], policy: GatePolicy | None = None
) -> list[Regression]:
    """Return what got worse, the worst first; empty when nothing did. Both are parsed reports that passed
    `load_report`.
    """
    policy = policy or GatePolicy()
    changes = changes_between(
        base_report, new_report, alpha=policy.alpha, tolerance=policy.tolerance, floors=policy.floors
    )
    return [Regression(change, why) for change in changes if (why := detect_regression(change, policy))]


def detect_regression(change: Change, policy: GatePolicy) -> str:
    """Return why a change is a regression; empty when it is none."""
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
    """Return 0 or 1; refused input is the caller's 4 (`Misuse`)."""
    return REGRESSED if regressions else OK


def comparability(base_report: Mapping[str, Any], new_report: Mapping[str, Any]) -> list[str]:
    """Return reasons to distrust a comparison of the measures: printed, and no regression by themselves."""
    base, new = base_report["cluster"], new_report["cluster"]
    return [
        f"the cluster's {key} differs: {base[key]} and {new[key]}"
        for key in ("kind", "version", "nodes")
        if base[key] != new[key]
    ]


def load_report(path: Path) -> dict[str, Any]:
    """Load a `report.json`, checked against the schema; a run directory stands for the one inside it. Raises Misuse."""
    if path.is_dir():
        path = path / "report.json"
    if not path.exists():
        raise Misuse(f"{shown(path)}: no such file: give a report.json or a run directory")
    report = read_json(path)
    check(report, name=shown(path))
    names = [(str(trial["scenario"]), str(trial["mode"])) for trial in report["trials"]]
    if twice := sorted({f"{scenario}[{mode}]" for scenario, mode in names if names.count((scenario, mode)) > 1}):
        raise Misuse(f"{path}: {', '.join(twice)} appears twice: a run holds each trial once")
    loaded: dict[str, Any] = report
    return loaded


def load_policy(path: Path) -> GatePolicy:
    """Load a policy file; raises Misuse with all that is wrong in it."""
    raw = read_yaml(path) or {}
    problems: list[str] = []
    top = Fields(raw, "", problems, known=[one.name for one in fields(GatePolicy)])
    policy = GatePolicy(
        _patterns(top, "may_be_inconclusive"),
        _patterns(top, "may_be_missing"),
        top.number("tolerance", default=0.10, low=0.0, high=10.0),
        top.number("alpha", default=0.01, high=0.5),
        _floors(top.inside("floors", known=tuple(FLOORS))),
    )
    if problems:
        raise Misuse(f"{path}: " + "; ".join(problems))
    return policy


def _patterns(top: Fields, name: str) -> tuple[TrialPattern, ...]:
    found = []
    for number, entry in enumerate(top.items(name)):
        one = Fields(entry, f"{name}[{number}]", top.problems, known=("scenario", "mode"))
        if entry == {}:
            one.wrong("", "is empty, and should hold scenario, mode or both")
        found.append(TrialPattern(one.text("scenario", default="*"), one.text("mode", default="*")))
    return tuple(found)


def _floors(given: Fields) -> dict[str, float]:
    return {unit: given.number(unit, default=least, low=0.0) for unit, least in FLOORS.items()}
