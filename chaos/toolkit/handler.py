"""The control's state from hook to hook: error handler, session, guard, and finally the gate's verdict on the
journal.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaoslib.exceptions import InterruptExecution
from chaoslib.exit import exit_gracefully
from chaoslib.run import RunEventHandler

from chaos.engine.progress import Progress
from chaos.engine.run import Run
from chaos.history.files import write_whole
from chaos.toolkit import session as sessions
from chaos.toolkit.gate import KEY, GateVerdict, judge_journal
from chaos.toolkit.guard import BystanderGuard
from chaos.toolkit.options import options_from
from chaos.toolkit.session import Session, SessionOutcome
from chaos.toolkit.swallowed import LOGGER, SwallowedErrorHandler

JOURNAL_FILE: Final = "journal.json"
logger = logging.getLogger(LOGGER)


class LogProgress:
    """Steps as records of Chaos Toolkit's own logger."""

    def step(self, text: str) -> None:
        logger.info(f"sharedfate: {text}")

    def live(self, text: str) -> None:
        del text


@dataclass(slots=True)
class SharedRun:
    """Resources that the caller lends to experiments."""

    run: Run | None = None  # its cluster and deployments are shared by experiments in the same mode
    witness: SwallowedErrorHandler | None = None
    progress: Progress = field(default_factory=LogProgress)


class ExperimentHandler(RunEventHandler):  # type: ignore[misc]  # chaoslib has no types
    """The state of one experiment, from the control's `configure_control` to the library's last event."""

    def __init__(self, lent: SharedRun) -> None:
        self.lent = lent
        self.witness = lent.witness or SwallowedErrorHandler()
        self.witness.__enter__()
        self.session: Session | None = None
        self.guard: BystanderGuard | None = None
        self.closing: SessionOutcome | None = None
        self.gate_verdict: GateVerdict | None = None
        self.problems: list[str] = []  # that make the outcome doubtful
        self.mode = ""
        self.interrupted = False  # a SIGTERM was passed on
        self.finished = False

    # ---- the course of an experiment

    def open(self, arguments: Mapping[str, Any], title: str) -> None:
        """Deploy and take a baseline; raises InterruptExecution, the only error that the library does not swallow."""
        try:
            options = options_from(arguments, title=title)
            if not arguments.get("deploy", True):
                return
            self.mode = options.mode
            self.session = Session(options, progress=self.lent.progress, run=self.lent.run)
            sessions.enter(self.session)
            self.session.open()
        except InterruptExecution:
            raise
        except Exception as error:
            self.problems.append(f"nothing was deployed: {error}")
            raise InterruptExecution(f"sharedfate: nothing was deployed: {error}") from error

    def begin_method(self) -> None:
        self.raise_if_terminated()
        if self.session is not None and self.session.options.guard:
            self.guard = BystanderGuard(self.session.wrongly_hurt, exit_gracefully)
            self.guard.start()

    def end_method(self) -> None:
        if self.guard is not None:
            self.guard.stop()

    def note(self, text: str) -> None:
        if self.session is not None and sessions.is_open():
            self.session.note(text)

    def raise_if_terminated(self) -> None:
        """End the experiment on a SIGTERM inside an activity, which the library turns into a mere failed
        activity.

        Once: the rollbacks that follow are not to be interrupted again.
        """
        if self.witness.terminated and not self.interrupted:
            self.interrupted = True
            raise InterruptExecution("SIGTERM came inside an activity")

    def close(self) -> None:
        """Undo, judge, report, take down. Safe to repeat; errors are kept for the gate."""
        self.end_method()
        if self.session is None or self.closing is not None:
            return
        session = self.session
        try:
            self.closing = session.close()
        except BaseException as error:
            self.closing = SessionOutcome(directory=getattr(getattr(session, "trial", None), "directory", None))
            self.closing.problems.append(f"closing failed: {type(error).__name__}: {error}")
            if not isinstance(error, Exception):
                raise
        finally:
            sessions.leave()

    # ---- the library's last event

    def finish(self, journal: dict[str, Any]) -> None:
        """Judge the journal, and set its status. The library swallows errors here, so the status is "aborted" until
        this is done.
        """
        if self.finished:
            return
        status, journal["status"] = journal.get("status"), "aborted"
        try:
            self.close()
            journal[KEY] = self.facts()
            self.gate_verdict = judge_journal(
                {**journal, "status": status}, self.witness.heard, terminated=self.witness.terminated
            )
        finally:
            self.finished = True
            self.witness.__exit__()
        journal[KEY].update(verdict=str(self.gate_verdict.verdict), reasons=list(self.gate_verdict.reasons))
        if self.gate_verdict.passed or status != "completed" or journal.get("deviated"):
            journal["status"] = status
        else:
            journal["status"] = "failed"
        self.keep(journal)
        tell = logger.info if self.gate_verdict.passed else logger.fatal
        tell(f"sharedfate: {self.gate_verdict}")

    def facts(self) -> dict[str, Any]:
        """Return what a journal holds about this experiment."""
        closing = self.closing or SessionOutcome()
        guard = self.guard
        doubts = [*self.problems, *([guard.failure] if guard and guard.failure else [])]
        facts: dict[str, Any] = {
            "mode": self.mode,
            "history": str(closing.directory.resolve()) if closing.directory else None,
            "reports": closing.reports,
            "problems": closing.problems,
            "doubts": doubts,
            "alarm": guard.alarm if guard else "",
            "heard": list(self.witness.heard),
            "trial": None,
        }
        if (result := closing.result) is not None:
            facts["trial"] = {
                "target": result.target,
                "seed": result.seed,
                "predicted": dict(result.predicted),
                "observed": dict(result.observed),
                "measures": dict(result.measures),
                "verdict": result.verdict,
                "reason": result.reason,
            }
        return facts

    def keep(self, journal: Mapping[str, Any]) -> None:
        """Write a copy of the journal beside the history."""
        if self.closing is not None and self.closing.directory is not None:
            write_journal(self.closing.directory / JOURNAL_FILE, journal)


def write_journal(path: Path, journal: Mapping[str, Any]) -> None:
    """Write the journal whole or not at all; what JSON lacks becomes text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(journal, indent=2, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return getattr(value, "value", None) or str(value)


_lent = SharedRun()
_handler: list[ExperimentHandler] = []


def lend(lent: SharedRun) -> None:
    """Lend the next experiments of this process what they need not create; `SharedRun()` takes it back."""
    global _lent
    _lent = lent


def new() -> ExperimentHandler:
    """Make the handler of an experiment that begins."""
    _handler[:] = [ExperimentHandler(_lent)]
    return _handler[0]


def current() -> ExperimentHandler | None:
    """Return the running experiment's handler; None when its control was not configured."""
    return _handler[0] if _handler and not _handler[0].finished else None


def last() -> ExperimentHandler | None:
    """Return the handler of the last experiment that ended in this process."""
    return _handler[0] if _handler else None
