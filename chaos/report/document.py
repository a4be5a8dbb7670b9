"""`report.json`, version 1: the contract with CI gates and other programs, and its schema `report.schema.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jsonschema

from chaos.errors import Misuse
from chaos.history.result import TrialResult
from chaos.report.records import RunRecord

VERSION = 1


def schema() -> dict[str, Any]:
    """Return the shipped JSON schema."""
    text = files("chaos.report").joinpath("report.schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def document(run: RunRecord) -> dict[str, Any]:
    """Return the run as `report.json` holds it."""
    return {
        "version": VERSION,
        "run": run.header["run"],
        "started": run.header["started"],
        "seconds": round(run.seconds, 3),
        "cluster": {key: run.cluster[key] for key in ("kind", "version", "nodes")},
        "trials": [_trial(trial) for trial in run.trials],
        "unfinished": list(run.unfinished),
        **({"errors": dict(run.errors)} if run.errors else {}),
    }


def _trial(trial: TrialResult) -> dict[str, Any]:
    return {
        "mode": trial.mode,
        "scenario": trial.scenario,
        "target": trial.target,
        "seed": trial.seed,
        "seconds": round(trial.seconds, 3),
        "predicted": dict(trial.predicted),
        "observed": dict(trial.observed),
        "measures": {name: dict(measure) for name, measure in trial.measures.items()},
        "verdict": trial.verdict,
        "reason": trial.reason,
    }


def check(report: Mapping[str, Any], *, name: str = "report.json") -> None:
    """Raise Misuse that names every field that violates the schema."""
    validator = jsonschema.Draft202012Validator(schema())
    errors = sorted(validator.iter_errors(report), key=lambda error: error.json_path)
    if errors:
        raise Misuse(f"{name}: " + "; ".join(f"{error.json_path}: {error.message[:200]}" for error in errors[:10]))
