"""The pytest plugin: options, markers, parametrisation, fixtures and report hooks.

Thin on purpose: the engine is imported only when a chaos option is given or a chaos fixture is asked for.
"""

from __future__ import annotations

import atexit
import dataclasses
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos import interrupts
from chaos.errors import Misuse
from chaos.plugin import xdist
from chaos.plugin.fixtures import RUN
from chaos.plugin.fixtures import chaos_cluster as chaos_cluster
from chaos.plugin.fixtures import chaos_faults as chaos_faults
from chaos.plugin.fixtures import chaos_load as chaos_load
from chaos.plugin.fixtures import chaos_mesh as chaos_mesh
from chaos.plugin.fixtures import chaos_new_trial as chaos_new_trial
from chaos.plugin.fixtures import chaos_run as chaos_run
from chaos.plugin.fixtures import chaos_tenants as chaos_tenants
from chaos.plugin.fixtures import chaos_trial as chaos_trial
from chaos.plugin.fixtures import chaos_verdict as chaos_verdict
from chaos.plugin.options import add_options, is_asked_for, known_scenarios, progress_of, settings_of

if TYPE_CHECKING:
    from chaos.engine.eta import EtaEstimator
    from chaos.report import Reports

_REPORTS: pytest.StashKey[Reports] = pytest.StashKey()
_WORSE: pytest.StashKey[list[str]] = pytest.StashKey()
_PACE: pytest.StashKey[EtaEstimator] = pytest.StashKey()
_UNWRITTEN: pytest.StashKey[str] = pytest.StashKey()
_SIGNALS: pytest.StashKey[dict[int, object]] = pytest.StashKey()
_UNFIT = "chaos_unfit"  # attribute of a report: it failed because the cluster cannot do it


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything is collected. Where one is given, JUnit's file goes to the run directory unless
    it was sent elsewhere: pytest's own plugin, which is configured after this one, writes it.
    """
    if folders := config.option.chaos_extensions:
        from chaos.resources import extend

        extend(folders)
    config.addinivalue_line("markers", "chaos_modes(*names): run this test in these proxy modes only")
    option = config.option
    if is_asked_for(config) and not option.collectonly and not xdist.is_worker(config):
        option.xmlpath = getattr(option, "xmlpath", None) or f"{option.chaos_out}/junit.xml"
        config.pluginmanager.register(_OneLine())
    named = not (option.chaos_modes is None and option.chaos_scenarios is None and option.chaos_target is None)
    # Settings refuse bad options before anything is collected.
    xdist.prepare(config, settings_of(config) if named else None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Listen to signals from here on: earlier, pytest cannot end a session in order."""
    if is_asked_for(session.config) and not xdist.is_worker(session.config):
        session.config.stash[_SIGNALS] = interrupts.start()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> Generator[None, object, object]:
    """Stop listening. What a signal cut off may have left a socket, a file or a process open: a warning of that, which
    a project may have made an error, is neither a trace nor another exit code.
    """
    if interrupts.interrupted():
        warnings.simplefilter("ignore", ResourceWarning)
        atexit.register(warnings.simplefilter, "ignore", ResourceWarning)  # whatever a thread has put back since
        warnings.simplefilter("ignore", pytest.PytestUnraisableExceptionWarning)
    try:
        return (yield)
    finally:
        if (before := config.stash.get(_SIGNALS, None)) is not None:
            interrupts.stop(before)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Chaos Toolkit experiment files, each an item (`chaos.toolkit.items`): those that are named on the command line,
    and, where one of our options was given, those below its arguments."""
    if file_path.suffix not in (".yaml", ".yml", ".json"):
        return None
    if not parent.session.isinitpath(file_path) and not (is_asked_for(parent.config) and _mentions_us(file_path)):
        return None
    from chaos.toolkit.items import collect

    config = parent.config
    return collect(
        file_path,
        parent,
        settings=lambda: settings_of(config),
        modes=config.option.chaos_modes is not None,
        progress=progress_of(config),
    )


def _mentions_us(file: Path) -> bool:
    from chaos.documents import read_bytes
    from chaos.errors import Misuse

    try:
        return b"chaos.toolkit" in read_bytes(file)
    except Misuse:  # a pipe, a directory of that name: no experiment
        return False


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """A scenario of the module is an item for each mode, under its own name."""
    del name
    if "chaos.engine.scenario" not in sys.modules:
        return None
    from chaos.engine.scenario import Scenario
    from chaos.plugin.scenarios import items_of

    if not isinstance(obj, Scenario) or obj.run.__module__ != collector.obj.__name__:
        return None
    return items_of(obj, collector, settings_of(collector.config).modes)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chaos_mode" in metafunc.fixturenames:
        modes: tuple[str, ...] = settings_of(metafunc.config).modes
        if marker := metafunc.definition.get_closest_marker("chaos_modes"):
            modes = tuple(mode for mode in marker.args if metafunc.config.option.chaos_modes is None or mode in modes)
        metafunc.parametrize("chaos_mode", modes, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "chaos.toolkit.items" in sys.modules:
        from chaos.toolkit.items import grouped

        grouped(items)
    if config.option.chaos_scenarios is not None:
        _refuse_unknown_scenarios(config)
    if not any(_needs_run(item) for item in items):
        return
    from chaos.engine.settings import chosen as is_chosen
    from chaos.external.modes import mode_named

    settings = settings_of(config)
    chosen: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        found = getattr(getattr(item, "obj", None), "scenario", None)
        if found is None:
            chosen.append(item)
            continue
        mode = item.obj.mode  # type: ignore[attr-defined]
        (chosen if is_chosen(settings, mode, found.name, shipped=found.shipped) else left).append(item)
        item.user_properties += [("mode", mode), ("scenario", found.name)]
        why = found.why_not_on_a_target if settings.target is not None else found.why_not_in(mode_named(mode))
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
    if left:
        config.hook.pytest_deselected(items=left)
    items[:] = sorted(chosen, key=lambda item: _rank(item, settings.modes, settings.scenarios))


def _rank(item: pytest.Item, modes: Sequence[str], scenarios: Sequence[str]) -> tuple[int, int]:
    """Where an item stands: what is no trial first. The trials of one mode share its deployment, and each change of
    mode costs one; within a mode they come in the order in which scenarios were named.
    """
    made = getattr(item, "obj", None)
    scenario = getattr(getattr(made, "scenario", None), "name", "")
    mode = getattr(made, "mode", "")
    return (modes.index(mode) if mode in modes else -1, scenarios.index(scenario) if scenario in scenarios else -1)


def _refuse_unknown_scenarios(config: pytest.Config) -> None:
    """Raises UsageError: now that every file is collected, it is known which scenarios there are."""
    from chaos.engine.settings import refuse_unknown

    try:
        refuse_unknown(settings_of(config), known_scenarios())
    except Misuse as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Where the suite is, for whoever gave a chaos option and has no test that takes it."""
    option, suite = config.option, Path(__file__).parents[1] / "suite"
    if (option.chaos_modes, option.chaos_scenarios) == (None, None) or any(_is_chaos(item) for item in items):
        return []
    if any(Path(str(argument).partition("::")[0]).is_relative_to(suite) for argument in config.args):
        return []  # it was taken, and nothing of it is left
    return ["sharedfate: no chaos test here; its own suite: sharedfate run, or pytest --pyargs chaos.suite"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is left after every selection is what the run will take."""
    if trials := [trial for item in session.items if (trial := _trial_of(item)) is not None]:
        from chaos.engine.eta import EtaEstimator

        session.config.stash[_PACE] = EtaEstimator(trials)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a trial: how far the run is, and about how long it will take yet."""
    pace = item.config.stash.get(_PACE, None)
    if pace is not None and _trial_of(item) is not None and not xdist.is_worker(item.config):
        progress_of(item.config).step(pace.next())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skips, with its reason, what does not apply to a target's mesh, and (`--chaos-inconclusive=skip`) what has no
    clear answer.
    """
    if not _needs_run(item):
        return (yield)
    from chaos.engine.scenario import NotApplicable
    from chaos.engine.settings import Inconclusive
    from chaos.engine.trial import TrialInconclusive

    try:
        return (yield)
    except TrialInconclusive as error:
        if settings_of(item.config).inconclusive is Inconclusive.SKIP:
            pytest.skip(str(error))
        raise
    except NotApplicable as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed trial says its sentence, its numbers and the path of its history, and no trace.

    A cluster that cannot do it is an error, not a failure of what is tried there: as if a fixture had raised.
    """
    if call.excinfo is None or not _needs_run(item):
        return (yield)
    from chaos.engine.run import unfit_for_trial
    from chaos.engine.trial import TrialFailed, TrialInconclusive

    error = call.excinfo.value
    why = unfit_for_trial(error)
    if isinstance(error, (TrialFailed, TrialInconclusive)):
        item.repr_failure = lambda excinfo, style=None: str(excinfo.value)  # type: ignore[method-assign,assignment,unused-ignore]
    report = yield
    if why is not None:
        report.longrepr = why
        setattr(report, _UNFIT, True)  # a worker's report keeps it on its way to the leader
        if call.when == "call":
            report.when = "setup"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Write the reports, then let everything be taken down.

    The exit code is 4 when nothing failed but the cluster, and 128 more than the signal's number after a signal.
    """
    interrupts.finish()
    _report(session)
    try:
        return (yield)
    finally:
        if number := interrupts.interrupted():
            session.exitstatus = 128 + number


class _OneLine:
    """Says what pytest's own plugins cannot write into a run directory, which they would show as their own error."""

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        try:
            return (yield)
        except OSError as error:  # a full disk, say: junit.xml
            where = f"{error.filename}: " if error.filename else "the run's files: "
            print(f"sharedfate: {where}{error.strerror or error}", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return None


def _report(session: pytest.Session) -> None:
    """Write the reports, and hold them against those of `--chaos-baseline`: what got worse fails the session."""
    config = session.config
    if _only_unfit(config):
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    run = config.stash.get(RUN, None)
    if xdist.is_worker(config) or (run is None and not xdist.is_controller(config)):
        return
    from chaos.errors import SharedfateError
    from chaos.history.result import has_errors
    from chaos.history.spans import SpanKind
    from chaos.report import write_reports

    settings = settings_of(config)
    seconds = run.seconds if run is not None else xdist.merge_worker_runs(config, settings.out)
    if seconds is None:
        return  # no test of the session was a trial
    try:
        if not any((settings.out / "trials").glob("*/*")) and not has_errors(settings.out):
            return
        if run is not None:
            run.write_trace()  # the page shows what there is of it
        with run.spans.span("report", SpanKind.WORK) if run is not None else nullcontext():
            reports = config.stash[_REPORTS] = write_reports(settings.out, seconds=seconds)
        if run is not None:
            run.write_trace()
    except (OSError, SharedfateError) as error:
        what = f"{type(error).__name__}: {error.strerror}" if isinstance(error, OSError) else str(error)
        config.stash[_UNWRITTEN] = f"no reports could be written to {settings.out}: {what}"
        session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR
        return
    if (baseline := settings.baseline) is not None:
        from chaos.report.compare import compare, load_report

        found = config.stash[_WORSE] = [str(one) for one in compare(load_report(baseline), load_report(reports.json))]
        if found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table mode x scenario, a sentence for each trial, and where the reports are."""
    if why := config.stash.get(_UNWRITTEN, ""):
        terminalreporter.write_line(f"sharedfate: {why}")
    reports = config.stash.get(_REPORTS, None)
    if reports is None:
        return
    settings = settings_of(config)
    from chaos.history.result import results_of
    from chaos.report import terminal_table, unfinished_of

    terminalreporter.section("who was hurt")
    terminalreporter.write_line(terminal_table(results_of(settings.out), unfinished_of(settings.out)))
    if (worse := config.stash.get(_WORSE, None)) is not None:
        terminalreporter.section(f"beside {settings.baseline}")
        terminalreporter.write_line("\n".join(worse) or "nothing got worse")
    for path in dataclasses.astuple(reports):
        terminalreporter.write_line(str(path))
    if xml := getattr(config.option, "xmlpath", None):
        terminalreporter.write_line(str(xml))


def _only_unfit(config: pytest.Config) -> bool:
    """Whether all that failed did so because the cluster, or the machine, cannot do it."""
    stats = getattr(config.pluginmanager.get_plugin("terminalreporter"), "stats", {})
    failed = [*stats.get("failed", ()), *stats.get("error", ())]
    return bool(failed) and all(getattr(one, _UNFIT, False) for one in failed)


def _needs_run(item: pytest.Item) -> bool:
    """Whether an item is tried in the run's cluster."""
    return bool({"chaos_mode", "chaos_run"} & set(getattr(item, "fixturenames", ())))


def _is_chaos(item: pytest.Item) -> bool:
    """Whether an item is a chaos test, or an experiment file."""
    if "chaos.toolkit.items" not in sys.modules:
        return _needs_run(item)
    from chaos.toolkit.items import ExperimentItem

    return isinstance(item, ExperimentItem) or _needs_run(item)


def _trial_of(item: pytest.Item) -> tuple[str, str] | None:
    """Mode and scenario that an item runs; None for another test, and for one that will be skipped."""
    made = getattr(item, "obj", None)
    found = getattr(made, "scenario", None)
    if found is None or item.get_closest_marker("skip") is not None:
        return None
    return str(made.mode), str(found.name)  # type: ignore[union-attr]
