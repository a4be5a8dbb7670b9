"""What one trial came to: an entry of report.json, written beside its history as soon as it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The fields of report.json, version 1, plus the judgement in full. Flows are spelt `client -> server`."""

    mode: str
    scenario: str
    target: str
    seed: int
    seconds: float
    predicted: Mapping[str, list[str]]  # hurt, unhurt
    observed: Mapping[str, list[str]]  # hurt, unhurt, inconclusive
    measures: Mapping[str, Mapping[str, Any]]  # name -> value, low, high, unit
    verdict: str
    reason: str
    history: str = ""  # directory, relative to the run's
    judgement: Mapping[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Written whole or not at all."""
        path = directory / "result.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> TrialResult:
        return cls(**json.loads(path.read_text()))


def results_of(run: Path) -> list[TrialResult]:
    """Every trial of a run directory that came to a result, in the order of their paths."""
    return [TrialResult.read(path) for path in sorted((run / "trials").glob("*/*/result.json"))]
