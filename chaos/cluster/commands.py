"""The one interface through which other programs are run (kind, docker, podman, buildah): a small protocol and its real
implementation.

Tests put a recorded exchange in its place and check the exact argument lists, their order, and what is undone on
failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chaos.errors import EnvironmentUnfit


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a command."""

    code: int
    stdout: str = ""
    stderr: str = ""


class Runner(Protocol):
    """Runs commands; never through a shell."""

    def which(self, program: str) -> str | None:
        """The program's path; None when it is not installed."""
        ...

    def run(self, arguments: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None) -> Done:
        """Run to the end, at most `seconds` long; a program that overruns is ended, and that raises
        EnvironmentUnfit.
        """
        ...


class Shell:
    """The machine's own programs."""

    def which(self, program: str) -> str | None:
        return shutil.which(program)

    def run(self, arguments: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None) -> Done:
        try:
            done = subprocess.run(
                list(arguments),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )
        except FileNotFoundError as error:
            raise EnvironmentUnfit(f"{arguments[0]} is not installed, or not on PATH") from error
        except subprocess.TimeoutExpired as error:
            raise EnvironmentUnfit(f"{' '.join(arguments)}: not done after {seconds:g} s, ended") from error
        return Done(done.returncode, done.stdout, done.stderr)


def check_output(
    runner: Runner, *arguments: str, seconds: float = 60.0, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return its output; raises EnvironmentUnfit with the command and its last output when it
    fails.
    """
    done = runner.run(arguments, seconds=seconds, environment=environment)
    if done.code != 0:
        words = " | ".join([line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()][-4:])
        raise EnvironmentUnfit(f"{' '.join(arguments)}: exit code {done.code}: {words or 'it said nothing'}")
    return done.stdout
