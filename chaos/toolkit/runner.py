"""Runs an experiment file from Python, as `chaos run` does, and judges the whole journal.

Two things the library leaves to its own command are done here: the file's `runtime` block (ignored when the library is
called from Python), and the journal's file. Rollbacks are always played, unless the file says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslib.experiment import run_experiment
from chaoslib.types import Schedule, Strategy

from chaos.engine.progress import Progress
from chaos.engine.run import Run
from chaos.toolkit import files, handler
from chaos.toolkit.gate import KEY, GateVerdict, judge_journal
from chaos.toolkit.handler import JOURNAL_FILE, LogProgress, write_journal
from chaos.toolkit.options import slug
from chaos.toolkit.swallowed import SwallowedErrorHandler


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of an experiment."""

    gate_verdict: GateVerdict
    journal: Mapping[str, Any] | None  # None: the library raised
    path: Path | None  # where the journal lies


def run_file(
    path: Path,
    *,
    variables: Mapping[str, Any] | None = None,
    out: Path = Path("sharedfate-out"),
    run: Run | None = None,
    progress: Progress | None = None,
) -> RunOutcome:
    """Run an experiment file. Raises Misuse, before anything is started, when the file is wrong.

    Args:
        variables: override the file's configuration.
        out: where the journal goes when no history is there to lie beside.
        run: a run whose cluster and deployments are to be used; by default the control makes its own.
    """
    return run_loaded(files.load_checked(path, variables), variables=variables, out=out, run=run, progress=progress)


def run_loaded(
    experiment: Mapping[str, Any],
    *,
    variables: Mapping[str, Any] | None = None,
    out: Path = Path("sharedfate-out"),
    run: Run | None = None,
    progress: Progress | None = None,
) -> RunOutcome:
    """Run an experiment that was loaded and checked."""
    chosen = deepcopy(dict(experiment))
    runtime = chosen.get("runtime") or {}
    rollbacks = (runtime.get("rollbacks") or {}).get("strategy", "always")
    strategy = Strategy.from_string((runtime.get("hypothesis") or {}).get("strategy", "default"))
    settings = {"runtime": {"rollbacks": {"strategy": rollbacks}}}
    journal: dict[str, Any] | None = None
    with SwallowedErrorHandler() as witness:
        handler.lend(handler.SharedRun(run, witness, progress or LogProgress()))
        try:
            journal = run_experiment(
                chosen,
                settings=settings,
                experiment_vars=(dict(variables or {}), {}),
                strategy=strategy,
                schedule=Schedule(),
            )
        except Exception as error:  # the library's own failure is an answer too: it was not found out
            witness.heard.append(f"the library failed: {type(error).__name__}: {error}")
        finally:
            kept = handler.last()
            handler.lend(handler.SharedRun())
            if kept is not None:
                kept.close()  # finds nothing to do, unless the library fell over on its way
        gate_verdict = judge_journal(journal, witness.heard, terminated=witness.terminated)
    where = kept.closing.directory if kept is not None and kept.closing is not None else None
    if journal is None:
        return RunOutcome(gate_verdict, None, None)
    journal.setdefault(KEY, {}).update(verdict=str(gate_verdict.verdict), reasons=list(gate_verdict.reasons))
    target = (where or out / "experiments" / slug(str(chosen.get("title")))) / JOURNAL_FILE
    write_journal(target, journal)
    return RunOutcome(gate_verdict, journal, target)
