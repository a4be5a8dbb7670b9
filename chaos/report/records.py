"""Reads a run directory: the run's header and each trial's result. Everything in chaos/report starts from here.

The engine writes `run.json` and, trial by trial, `trials/<mode>/<scenario>/result.json`. They are read as plain JSON:
the report lies below the engine, and works on a directory that was copied from another machine years ago.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.errors import Misuse
from chaos.history.result import ERROR_FILE, RESULT_FILE, TrialResult, read_object, results_of
from chaos.history.spans import Span, read_trace
from chaos.model.modes import MODES


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: its header (`run.json`), its trials in the order of modes, and how long it took."""

    header: Mapping[str, Any]
    trials: tuple[TrialResult, ...]
    seconds: float
    unfinished: tuple[str, ...] = ()  # trials that began and came to no result
    spans: tuple[Span, ...] = ()  # where its time went, when it was traced
    errors: Mapping[str, str] = field(default_factory=dict)  # of those, and of `run`: what ended them, in a line

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

    def of(self, mode: str, scenario: str) -> list[TrialResult]:
        return [trial for trial in self.trials if (trial.mode, trial.scenario) == (mode, scenario)]


def mode_rank(mode: str) -> tuple[int, str]:
    """Return the order of modes: the built-in ones as in chaos.model.modes, then the user's own."""
    known = list(MODES)
    return (known.index(mode) if mode in known else len(known), mode)


def read_run(run_dir: Path, *, seconds: float) -> RunRecord:
    """Read a run directory; raises Misuse that names the file and the field when something is wrong."""
    header = read_object(run_dir / "run.json")
    wrong = [name for name in ("run", "started", "cluster") if name not in header]
    if wrong:
        raise Misuse(f"{run_dir / 'run.json'}: no {', '.join(wrong)}: not the header of a run")
    cluster = header["cluster"]
    if not isinstance(cluster, dict) or not {"kind", "version", "nodes"} <= cluster.keys():
        raise Misuse(f"{run_dir / 'run.json'}: cluster must hold kind, version and nodes")
    trials = results_of(run_dir)
    trials.sort(key=lambda trial: (mode_rank(trial.mode), trial.scenario, str(trial.directory)))
    left = _without_result(run_dir)
    errors = {
        name: (path / ERROR_FILE).read_text().strip() for name, path in left.items() if (path / ERROR_FILE).is_file()
    }
    if header.get("error"):
        errors["run"] = str(header["error"])
    return RunRecord(header, tuple(trials), seconds, tuple(left), tuple(read_trace(run_dir)), errors)


def unfinished_of(run_dir: Path) -> tuple[str, ...]:
    """Return the names of the trials of a run directory that began and came to no result."""
    return tuple(_without_result(run_dir))


def _without_result(run_dir: Path) -> dict[str, Path]:
    begun = sorted(path for path in (run_dir / "trials").glob("*/*") if path.is_dir())
    return {f"{path.name}[{path.parent.name}]": path for path in begun if not (path / RESULT_FILE).exists()}
