"""The table of Jobs: what befell them and by which policy, against the mode: completed, retried how often, work done
twice, failed, or never ending.

Pure: from the checks of the scenario that tried them, whose names are the model's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.history.result import VERDICTS, TrialResult
from chaos.model.job_fate import ROWS
from chaos.report.formatting import DASH


@dataclass(frozen=True, slots=True)
class JobLine:
    """One row: what befell the Job, its policy, and a cell for each mode."""

    trouble: str
    policy: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobTable:
    """The whole table; without lines when no trial tried Jobs by policy."""

    modes: tuple[str, ...]
    lines: tuple[JobLine, ...]


def job_table(trials: Sequence[TrialResult]) -> JobTable:
    """Return the table of a run. A mode that was tried twice shows its last trial."""
    names = {row.name for row in ROWS}
    found: dict[str, dict[str, str]] = {}
    for trial in trials:
        cells = {
            str(check["name"]): _cell(check) for check in trial.judgement.get("checks") or () if check["name"] in names
        }
        if cells:
            found[trial.mode] = cells
    lines = tuple(
        JobLine(str(row.trouble), row.policy.name, tuple(cells.get(row.name, DASH) for cells in found.values()))
        for row in ROWS
        if any(row.name in cells for cells in found.values())
    )
    return JobTable(tuple(found), lines)


def _cell(check: dict[str, str]) -> str:
    """What became of the Job; beside it the verdict where the prediction was not met."""
    said = check["sentence"].partition(";")[0]
    return said if check["verdict"] == "pass" else f"{said} ({VERDICTS[check['verdict']]})"
