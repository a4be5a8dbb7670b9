"""A run directory, read back: the run's header and what each trial came to. Everything in chaos/report starts from
here.

The engine writes `run.json` and, trial by trial, `trials/<mode>/<scenario>/result.json`. They are read as plain JSON:
the report lies below the engine, and works on a directory that was copied from another machine years ago.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from chaos.errors import Misuse
from chaos.model.modes import MODES

VERDICTS: Final = ("pass", "fail", "inconclusive")


class Result(Protocol):
    """What a table needs of a trial's result; the engine's own result is one."""

    @property
    def mode(self) -> str: ...
    @property
    def scenario(self) -> str: ...
    @property
    def predicted(self) -> Mapping[str, list[str]]: ...
    @property
    def observed(self) -> Mapping[str, list[str]]: ...
    @property
    def measures(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def verdict(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def judgement(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial's `result.json`. `directory` holds its history, when it was kept."""

    mode: str
    scenario: str
    target: str
    seed: int
    seconds: float
    predicted: Mapping[str, list[str]]
    observed: Mapping[str, list[str]]
    measures: Mapping[str, Mapping[str, Any]]
    verdict: str
    reason: str
    directory: Path
    judgement: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.scenario}[{self.mode}]"

    @property
    def anchor(self) -> str:
        """The trial's place in the page."""
        return "trial-" + "-".join(self.directory.parts[-2:])


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: its header (`run.json`), its trials in the order of modes, and how long it took."""

    header: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]
    seconds: float
    unfinished: tuple[str, ...] = ()  # trials that began and came to no result

    @property
    def cluster(self) -> Mapping[str, Any]:
        cluster: Mapping[str, Any] = self.header["cluster"]
        return cluster

    @property
    def modes(self) -> list[str]:
        return sorted({trial.mode for trial in self.trials}, key=mode_rank)

    @property
    def scenarios(self) -> list[str]:
        return sorted({trial.scenario for trial in self.trials})

    def of(self, mode: str, scenario: str) -> list[TrialRecord]:
        return [trial for trial in self.trials if (trial.mode, trial.scenario) == (mode, scenario)]


def mode_rank(mode: str) -> tuple[int, str]:
    """Modes in the order of DESIGN.md's table; the user's own after them."""
    known = list(MODES)
    return (known.index(mode) if mode in known else len(known), mode)


def read_run(run_dir: Path, *, seconds: float) -> RunRecord:
    """Read a run directory; raises Misuse that names the file and the field when something is not as it should be."""
    header = _json(run_dir / "run.json")
    wrong = [name for name in ("run", "started", "cluster") if name not in header]
    if wrong:
        raise Misuse(f"{run_dir / 'run.json'}: no {', '.join(wrong)}: not the header of a run")
    cluster = header["cluster"]
    if not isinstance(cluster, dict) or not {"kind", "version", "nodes"} <= cluster.keys():
        raise Misuse(f"{run_dir / 'run.json'}: cluster must hold kind, version and nodes")
    trials = [read_trial(path) for path in (run_dir / "trials").glob("*/*/result.json")]
    trials.sort(key=lambda trial: (mode_rank(trial.mode), trial.scenario, str(trial.directory)))
    begun = sorted(path for path in (run_dir / "trials").glob("*/*") if path.is_dir())
    unfinished = tuple(f"{path.name}[{path.parent.name}]" for path in begun if not (path / "result.json").exists())
    return RunRecord(header, tuple(trials), seconds, unfinished)


def read_trial(path: Path) -> TrialRecord:
    """Read a trial's `result.json`."""
    raw = _json(path)
    try:
        if raw["verdict"] not in VERDICTS:
            raise Misuse(f"{path}: verdict is {raw['verdict']!r}, and should be one of {', '.join(VERDICTS)}")
        return TrialRecord(
            mode=str(raw["mode"]),
            scenario=str(raw["scenario"]),
            target=str(raw["target"]),
            seed=int(raw["seed"]),
            seconds=float(raw["seconds"]),
            predicted={key: _texts(raw["predicted"][key]) for key in ("hurt", "unhurt")},
            observed={key: _texts(raw["observed"][key]) for key in ("hurt", "unhurt", "inconclusive")},
            measures={str(name): _measure(measure) for name, measure in raw["measures"].items()},
            verdict=raw["verdict"],
            reason=str(raw["reason"]),
            directory=path.parent,
            judgement=_finite(raw.get("judgement") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Misuse(f"{path}: not a trial's result: {error!r}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Misuse(f"{path}: no such file: not a run directory") from error
    except ValueError as error:
        raise Misuse(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise Misuse(f"{path}: a JSON object was expected")
    return raw


def _texts(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values]


def _measure(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: _finite(raw.get(key)) for key in ("value", "low", "high")}, "unit": str(raw.get("unit", ""))}


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: None stands for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
