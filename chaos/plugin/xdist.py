"""The suite under pytest-xdist: each worker is a run of its own, with a cluster of its own; the session merges
them.

Trials of one mode stay on one worker, for they share a deployment. Workers on one machine disturb each other: the judge
then says *inconclusive* more often, so `-n` pays on machines with more cores than two clusters use, or with a cluster
each.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chaos.names import DEFAULT_NAME

if TYPE_CHECKING:
    from chaos.engine.settings import Settings

_BEGAN: pytest.StashKey[float] = pytest.StashKey()
_ID: pytest.StashKey[str] = pytest.StashKey()
_WORKERS = "workers"  # directory, in the session's, with a run directory for each worker
_SEED, _SESSION = "chaos_seed", "chaos_session"  # what a worker is told


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this process hands the tests out to workers."""
    return not is_worker(config) and not config.option.collectonly and getattr(config.option, "dist", "no") != "no"


def directory(config: pytest.Config, out: str) -> str:
    """Return this process's run directory."""
    return f"{out}/{_WORKERS}/{config.workerinput['workerid']}" if is_worker(config) else out  # type: ignore[attr-defined]


def cluster(config: pytest.Config, option: str) -> str:
    """The cluster of this process: workers that make one by name make one each.

    Raises UsageError for a cluster that already exists, which workers would have to share.
    """
    kind, _, name = option.partition(":")
    if kind in ("kind", "k3d") and is_worker(config):
        return f"{kind}:{name or DEFAULT_NAME}-{config.workerinput['workerid']}"  # type: ignore[attr-defined]
    if kind in ("context", "in-cluster") and (is_controller(config) or is_worker(config)):
        raise pytest.UsageError(
            f"{option}: workers would share it, and be refused by each other's namespaces: leave -n out"
        )
    return option


def seed(config: pytest.Config, given: int | None) -> int | None:
    """Return this process's seed: workers use the one that the controller drew."""
    return config.workerinput.get(_SEED, given) if is_worker(config) else given  # type: ignore[attr-defined]


def prepare(config: pytest.Config, settings: Settings | None) -> None:
    """The leader tells its workers what all must have the same of; where the suite is asked for, modes are handed out
    instead of tests. On disk it makes nothing: most sessions hold no trial.

    Args:
        settings: the suite's; None where nobody asked for it, and a test may still begin a run.
    """
    if not is_controller(config):
        return
    config.stash[_BEGAN] = time.monotonic()
    config.stash[_ID] = uuid.uuid4().hex
    told: dict[str, object] = {_SESSION: config.stash[_ID]}
    if settings is not None:
        told[_SEED] = settings.seed
    config.pluginmanager.register(Handout(told, by_mode=settings is not None))


def claim(config: pytest.Config, settings: Settings) -> None:
    """Before a worker's run: the first of them makes the session's directory, in place of an earlier session's."""
    if not is_worker(config):
        return
    from chaos.engine.run import set_aside
    from chaos.engine.settings import RUN_FILE

    ours = config.workerinput[_SESSION]  # type: ignore[attr-defined]
    session = settings.out.parent.parent
    session.parent.mkdir(parents=True, exist_ok=True)
    parent = os.open(session.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)
        if _session_of(session) != ours:
            set_aside(session)
            (session / _WORKERS).mkdir(parents=True)
            (session / RUN_FILE).write_text(json.dumps({"session": ours}) + "\n")  # known as a run's, whatever happens
    finally:
        os.close(parent)


def _session_of(out: Path) -> str | None:
    """The session under way that a directory is of."""
    from chaos.engine.settings import RUN_FILE
    from chaos.errors import Misuse
    from chaos.history.result import read_object

    file = out / RUN_FILE
    try:
        return read_object(file).get("session") if file.is_file() else None
    except Misuse:  # an earlier run's, cut off as it was written
        return None


def group_of(nodeid: str) -> str:
    """Return the group of tests that go to one worker together: those of one mode, `proxy-killed[node]`; any other goes
    alone.
    """
    name, bracket, rest = nodeid.rpartition("[")
    mode = rest.removesuffix("]")
    from chaos.external.modes import known_modes

    return mode if bracket and name and mode in known_modes() else nodeid


class Handout:
    """Tells each worker what all must have the same of, and gives it whole modes."""

    def __init__(self, told: dict[str, object], *, by_mode: bool) -> None:
        self._told, self._by_mode = told, by_mode

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput.update(self._told)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        if not self._by_mode or config.option.dist != "load":
            return None  # as the user wishes
        from xdist.scheduler import LoadScopeScheduling

        class ByMode(LoadScopeScheduling):  # type: ignore[misc]
            def _split_scope(self, nodeid: str) -> str:
                return group_of(nodeid)

        return ByMode(config, log)


def merge_worker_runs(config: pytest.Config, out: Path) -> float | None:
    """Move the workers' trials into the session's directory.

    The header is one worker's: what matters of it, the cluster's kind, the budget and the seed, is the same for all. It
    names the runs of all, whose trials these are.

    Returns:
        the seconds that the session took; None where no worker began a run, and the directory is not the session's.
    """
    from chaos.engine.settings import RUN_FILE
    from chaos.history.result import read_object
    from chaos.history.spans import merge_traces

    if _session_of(out) != config.stash[_ID]:
        return None
    runs: list[str] = []
    workers = sorted((out / _WORKERS).iterdir())
    merge_traces(workers, out)
    for worker in workers:
        if not (worker / RUN_FILE).is_file():
            continue  # it was given no trial
        header = read_object(worker / RUN_FILE)
        runs.append(str(header["run"]))
        (out / RUN_FILE).write_text(json.dumps({**header, "runs": runs}, indent=1) + "\n")
        for trial in sorted(worker.glob("trials/*/*")):
            there = out / trial.relative_to(worker)
            there.parent.mkdir(parents=True, exist_ok=True)
            trial.rename(there)
    shutil.rmtree(out / _WORKERS)
    return time.monotonic() - config.stash[_BEGAN]
