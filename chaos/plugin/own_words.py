"""pytest as `sharedfate run` shows it: a refusal is one line of our own, and nothing lingers once all is said.

Loaded by its path (`suite_run`), before anything of ours has its name: pytest rewrites the assertions of what it
imports itself.
"""

from __future__ import annotations

import difflib
import gc
import re
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

_ITS_OWN: Final = (  # of pytest's, those that are of use to a run
    *(
        "-k",
        "-m",
        "-n",
        "-q",
        "-s",
        "-v",
        "-x",
        "--co",
        "--collect-only",
        "--durations",
        "--exitfirst",
        "--failed-first",
    ),
    *("--ff", "--last-failed", "--lf", "--maxfail", "--reruns", "--rootdir", "--stepwise", "--sw", "--tb", "--verbose"),
)
_OF_RUN: Final = ("--modes", "--scenarios", "--cluster", "--target", "--out", "--help")
_UNKNOWN: Final = re.compile(r"unrecognized arguments: (?P<rest>.*)")
_VALUE: Final = re.compile(r"argument (?P<option>\S+): invalid (?P<kind>\w+) value: (?P<value>.*)")
_MISSING: Final = re.compile(r"argument (?P<option>\S+): expected (?:one|at least one) argument")
_CHOICE: Final = re.compile(r"argument (?P<option>\S+): invalid choice: (?P<value>.*?) \(choose from (?P<known>.*)\)")
_KINDS: Final = {"int": "a whole number", "float": "a number", "parse_numprocesses": "a number of processes, or auto"}


def in_own_words(said: str, *, known: Iterable[str]) -> str:
    """Return one line for what pytest refused, with the nearest of the known options. Pure."""
    line = " ".join(said.split("\n  inifile:")[0].split())
    if found := _UNKNOWN.search(line):
        options = [one.partition("=")[0] for one in found["rest"].split() if one.startswith("-")]
        wrong = options[0] if options else found["rest"]
        near = difflib.get_close_matches(wrong, [*known], 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"no such option: {wrong}: {hint}`sharedfate run --help` lists them"
    if found := _VALUE.search(line):
        option, kind = found["option"].partition("/")[0], _KINDS.get(found["kind"], "another")
        return f"{option} is {found['value']}, and should be {kind}"
    if found := _MISSING.search(line):
        return f"{found['option'].rpartition('/')[2]} wants a value"
    if found := _CHOICE.search(line):
        return f"{found['option'].rpartition('/')[2]} is {found['value']}: known are {found['known']}"
    return re.sub(r"^usage: .*? error: ", "", line)


class OwnWords:
    """Says what pytest would show with its usage, or as its own error."""

    def __init__(self) -> None:
        self._known = [*_OF_RUN, *_ITS_OWN]

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_parse(self) -> Generator[None, Any, Any]:
        try:
            return (yield)
        except pytest.UsageError as error:
            raise SystemExit(self._refuse(error)) from None

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        try:
            _refuse_early(config)
            _make(Path(config.option.chaos_out))
        except pytest.UsageError as error:
            raise SystemExit(self._refuse(error)) from None
        try:
            code = yield
        except pytest.UsageError as error:
            return self._refuse(error)
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            print("sharedfate: nothing was selected: what follows -- left no trial of those modes", file=sys.stderr)
        return code

    def _refuse(self, error: pytest.UsageError) -> int:
        from chaos.plugin.options import option_names

        known = [*self._known, *option_names()]
        for said in error.args:
            print(f"sharedfate: {in_own_words(str(said), known=known)}", file=sys.stderr)
        return int(pytest.ExitCode.USAGE_ERROR)


def _refuse_early(config: pytest.Config) -> None:
    """Raises UsageError for what would otherwise be found after every file was collected."""
    if config.option.help or config.option.version:
        return
    paths = [Path(str(argument).partition("::")[0]) for argument in config.args]
    if not config.option.pyargs and (missing := [str(path) for path in paths if not path.exists()]):
        raise pytest.UsageError(f"no such file: {', '.join(missing)}")
    if len(paths) > 1:
        return  # a file of somebody's own may have scenarios of its own
    from chaos.engine.settings import refuse_unknown
    from chaos.errors import Misuse
    from chaos.plugin.options import known_scenarios, settings_of

    try:
        refuse_unknown(settings_of(config), known_scenarios())
    except Misuse as error:
        raise pytest.UsageError(str(error)) from error


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(f"{out}: the run directory cannot be made: {error.strerror or error}") from error


class Ending:
    """How the process ends: at once before the session, in order from then on, and without a last look around."""

    def __init__(self, block: Callable[[], None]) -> None:
        self._block = block  # holds signals back until the session listens

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None, None, None]:
        self._block()  # also in workers that are begun here: who began the session ends them
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        excinfo.traceback = excinfo.traceback[-1:]  # the source of all of it would be read, to show none

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> Generator[None, None, None]:
        gc.freeze()  # what is there goes with the process: pytest and Python would collect it, for seconds when busy
        return (yield)
