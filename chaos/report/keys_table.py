"""The table of what the keys of one taken-over proxy open: a line for each proxy whose keys were tried.

Pure: from the checks of the scenario that tried them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history.result import VERDICTS, TrialResult

KEYS_OF: Final = "keys of "  # begins the name of the check of one proxy's keys


@dataclass(frozen=True, slots=True)
class KeysLine:
    """One proxy, and what its keys opened."""

    mode: str
    proxy: str
    opened: str


def keys_table(trials: Sequence[TrialResult]) -> tuple[KeysLine, ...]:
    """Return the lines of a run; none when no trial tried keys. A mode that was tried twice shows its last trial."""
    found: dict[str, list[KeysLine]] = {}
    for trial in trials:
        lines = [
            KeysLine(trial.mode, str(check["name"]).removeprefix(KEYS_OF), _cell(check))
            for check in trial.judgement.get("checks") or ()
            if str(check["name"]).startswith(KEYS_OF)
        ]
        if lines:
            found[trial.mode] = lines
    return tuple(line for lines in found.values() for line in lines)


def _cell(check: dict[str, str]) -> str:
    """What was opened; beside it the verdict where the prediction was not met."""
    said = check["sentence"]
    return said if check["verdict"] == "pass" else f"{said} ({VERDICTS[check['verdict']]})"
