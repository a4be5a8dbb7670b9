"""`pytest experiments/`: collects each experiment file as an item, or one for each mode of `--chaos-modes`; green means
that the gate passes.

Experiments of one session share its cluster, and those in the same mode its deployment. A file is taken for an
experiment when it names our control or is named outright on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from chaos.documents import read_text
from chaos.engine.run import Run
from chaos.engine.settings import Inconclusive, Settings
from chaos.errors import Misuse
from chaos.toolkit import files
from chaos.toolkit.gate import KEY
from chaos.toolkit.runner import run_loaded
from chaos.verdict import Verdict

_RUNS: pytest.StashKey[Shared] = pytest.StashKey()
_OUT: Final = "experiments"


class NotProved(AssertionError):
    """The gate did not pass the experiment."""


class Shared:
    """The one run that a session's experiments share; made on first use."""

    def __init__(self, settings: Settings, progress: Any) -> None:
        self.settings, self.progress = settings, progress
        self._run: Run | None = None

    def run(self) -> Run:
        if self._run is None:
            self._run = Run(self.settings, progress=self.progress).__enter__()
        return self._run

    def close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.__exit__(None, None, None)


def is_experiment(path: Path, named: bool) -> bool:
    """Whether a file is ours to collect; cheap, because every YAML and JSON file of a tree is asked."""
    if path.suffix not in files.SUFFIXES:
        return False
    if named:
        return True
    try:
        return files.CONTROL in read_text(path)
    except Misuse:
        return False


class ExperimentFile(pytest.File):
    """An experiment file; a wrong one is a collection error that says what would be right."""

    settings: Settings
    modes: tuple[str, ...]  # empty: the file's own
    progress: Any

    def collect(self) -> Iterable[pytest.Item]:
        experiment = files.load(self.path)
        variable = files.mode_variable(experiment)
        modes: tuple[str, ...] = self.modes if variable else ()
        for mode in modes or ("",):
            variables = {variable: mode} if mode else {}
            try:
                checked = files.load_checked(self.path, variables)
            except Misuse as error:
                raise self.CollectError(str(error)) from error
            item: ExperimentItem = ExperimentItem.from_parent(self, name=mode or "experiment")
            item.experiment, item.variables = checked, variables
            yield item


class ExperimentItem(pytest.Item):
    """One experiment in one mode."""

    experiment: files.Experiment
    variables: dict[str, str]

    def runtest(self) -> None:
        parent: Any = self.parent
        settings: Settings = parent.settings
        shared = self.config.stash.get(_RUNS, None)
        if shared is None:
            shared = self.config.stash[_RUNS] = Shared(settings, parent.progress)
            self.config.add_cleanup(shared.close)
        run = shared.run() if files.deploys(self.experiment) else None
        outcome = run_loaded(
            self.experiment, variables=self.variables, out=settings.out / _OUT, run=run, progress=parent.progress
        )
        if outcome.gate_verdict.verdict is Verdict.INCONCLUSIVE and settings.inconclusive is Inconclusive.RETRY:
            if run is not None and outcome.journal and (mode := outcome.journal[KEY].get("mode")):
                run.redeploy(mode)  # fresh pods: a second fault on the same ones meets what the first has left
            outcome = run_loaded(
                self.experiment, variables=self.variables, out=settings.out / _OUT, run=run, progress=parent.progress
            )
        if outcome.gate_verdict.verdict is Verdict.INCONCLUSIVE and settings.inconclusive is Inconclusive.SKIP:
            pytest.skip(str(outcome.gate_verdict))
        if not outcome.gate_verdict.passed:
            raise NotProved(
                f"{self.experiment['title']}\n  "
                + "\n  ".join([str(outcome.gate_verdict.verdict), *outcome.gate_verdict.reasons])
                + f"\n  journal {outcome.path}"
            )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, NotProved) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.stem}[{self.name}]"


def grouped(items: list[pytest.Item]) -> None:
    """Sort the experiments by mode, in place: those of one mode share its deployment, and each change of mode costs
    one.
    """
    places = [n for n, item in enumerate(items) if isinstance(item, ExperimentItem)]
    order = {mode: n for n, mode in reversed(list(enumerate(items[n].name for n in places)))}
    for place, item in zip(places, sorted((items[n] for n in places), key=lambda item: order[item.name]), strict=True):
        items[place] = item


def collect(
    path: Path, parent: pytest.Collector, *, settings: Callable[[], Settings], modes: bool, progress: Any
) -> ExperimentFile | None:
    """Return the collector of an experiment file; None for any other. `modes`: the settings' modes were requested."""
    if not is_experiment(path, parent.session.isinitpath(path)):
        return None
    found: ExperimentFile = ExperimentFile.from_parent(parent, path=path)
    found.settings = settings()
    found.modes = found.settings.modes if modes else ()
    found.progress = progress
    return found
