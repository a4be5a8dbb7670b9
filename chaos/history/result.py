"""The result of one trial: `result.json`, an entry of report.json, written beside its history as soon as it is known.

Written by the engine, read by the report, by `sharedfate check` and by the plugin.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from chaos.documents import read_json, shown
from chaos.errors import Misuse
from chaos.history.files import write_whole
from chaos.history.seal import seal

RESULT_FILE: Final = "result.json"
ERROR_FILE: Final = "error.txt"  # in place of a result: what a trial ended in before it came to one, in a line
VERDICTS: Final = {"pass": "as predicted", "fail": "not as predicted", "inconclusive": "cannot tell"}  # for people
_PREDICTED: Final = ("hurt", "unhurt")
_OBSERVED: Final = ("hurt", "unhurt", "inconclusive")


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The fields of report.json, version 1, plus the whole judgement. Flows are spelt `client -> server`.

    `directory`: where it was read from, which holds the history when that was kept; not written.
    """

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
    directory: Path = field(default=Path(), compare=False)

    @property
    def name(self) -> str:
        return f"{self.scenario}[{self.mode}]"

    @property
    def anchor(self) -> str:
        """The trial's anchor in the HTML page."""
        return "trial-" + "-".join(self.directory.parts[-2:])

    def write(self, directory: Path) -> None:
        """Write `result.json` whole or not at all, and seal the trial's directory: nothing is written after it."""
        write_whole(directory / RESULT_FILE, self.text())
        seal(directory)

    def text(self) -> str:
        """Return the text of `result.json`."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "directory"}
        return json.dumps(kept, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> TrialResult:
        """Read a `result.json`; raises Misuse that names the file and what is wrong. NaN and infinity become None."""
        raw = read_object(path)
        try:
            if raw["verdict"] not in VERDICTS:
                raise Misuse(f"{path}: verdict is {raw['verdict']!r}, and should be one of {', '.join(VERDICTS)}")
            return cls(
                mode=str(raw["mode"]),
                scenario=str(raw["scenario"]),
                target=str(raw["target"]),
                seed=int(raw["seed"]),
                seconds=float(raw["seconds"]),
                predicted={key: _texts(raw["predicted"][key]) for key in _PREDICTED},
                observed={key: _texts(raw["observed"][key]) for key in _OBSERVED},
                measures={str(name): _measure(measure) for name, measure in raw["measures"].items()},
                verdict=raw["verdict"],
                reason=str(raw["reason"]),
                history=str(raw.get("history", "")),
                judgement=_finite(dict(raw.get("judgement") or {})),
                directory=path.parent,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Misuse(f"{path}: not a trial's result: {error!r}") from error


def results_of(run: Path) -> list[TrialResult]:
    """Read every finished trial of a run directory, in the order of their paths."""
    return [TrialResult.read(path) for path in sorted((run / "trials").glob(f"*/*/{RESULT_FILE}"))]


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises Misuse that names the file."""
    raw = read_json(path, nan=True)
    if not isinstance(raw, dict):
        raise Misuse(f"{shown(path)}: a JSON object was expected")
    return raw


def _texts(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values]


def _measure(raw: Mapping[str, Any]) -> dict[str, Any]:
    found = {**{key: _finite(raw.get(key)) for key in ("value", "low", "high")}, "unit": str(raw.get("unit", ""))}
    if raw.get("values"):
        found |= {"values": [float(value) for value in raw["values"]], "each": str(raw.get("each", ""))}
    return found


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def has_errors(run: Path) -> bool:
    """Whether anything in a run directory, or the run itself, ended in an error before it had a result."""
    header = run / "run.json"
    if any((run / "trials").glob(f"*/*/{ERROR_FILE}")):
        return True
    return header.is_file() and "error" in read_object(header)
