"""The `sharedfate` command. Each sub-command imports only what it needs; a refused input is one line and exit code
4.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from chaos.commands.clean import clean
from chaos.commands.cluster import cluster
from chaos.commands.doctor import doctor
from chaos.commands.experiment import experiment
from chaos.commands.faults import faults, inject, stop
from chaos.commands.image import image
from chaos.commands.job import fetch, job
from chaos.commands.predict import predict
from chaos.commands.render import render
from chaos.commands.run import run
from chaos.commands.saved import check, compare, report
from chaos.commands.status import status
from chaos.commands.target import target
from chaos.errors import REFUSED, ApiError, EnvironmentUnfit, Misuse, NotReady, SharedfateError
from chaos.interrupts import Interrupted
from chaos.resources import extend
from chaos.version import __version__

# What says nothing of a mesh: 1 is left to verdicts, and to faults that did not do what they should.
_UNFIT: Final = (Misuse, EnvironmentUnfit, ApiError, NotReady)


EXIT_CODES: Final = """Exit codes: 0 done, all as predicted, nothing got worse; 1 a verdict: something was not as
predicted, got worse, or a fault did not do what it should; 4 refused: wrong options or files, or this machine or
cluster cannot do it; 130, 143 or 129 ended by
SIGINT, SIGTERM or SIGHUP; of `run` also pytest's own: 5 nothing was selected."""


class _Commands(click.Group):
    """Turns our own errors into a line each and an exit code; a wrong option is refused as everything else is."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _refusing():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _refusing():
                return super().invoke(ctx)
        except Interrupted as error:
            ctx.exit(error.exit_code)  # its line was said when the signal came
        except SharedfateError as error:
            click.echo(f"sharedfate: {error}", err=True)
            ctx.exit(REFUSED if isinstance(error, _UNFIT) else 1)
        except _of_connections() as error:
            click.echo(f"sharedfate: the connection to the cluster: {' '.join(str(error).split())}", err=True)
            ctx.exit(REFUSED)
        except OSError as error:  # a full or read-only disk
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"sharedfate: {where}{error.strerror or error}", err=True)
            ctx.exit(REFUSED)
        except ExceptionGroup as group:
            if group.split(SharedfateError)[1] is not None:
                raise  # one of them is nobody's on purpose: its trace is needed
            click.echo("\n  ".join([f"sharedfate: {group.message}", *map(str, _each(group))]), err=True)
            ctx.exit(REFUSED if group.split(_UNFIT)[1] is None else 1)


def _of_connections() -> tuple[type[Exception], ...]:
    """Return the errors of a connection: of urllib3 only once it is loaded, which takes longer than all commands."""
    urllib3 = sys.modules.get("urllib3")
    return (ConnectionError,) if urllib3 is None else (ConnectionError, urllib3.exceptions.HTTPError)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()  # the command alone: what there is
        else:
            click.echo(_in_one_line(error), err=True)
        raise click.exceptions.Exit(REFUSED) from error


def _in_one_line(error: click.UsageError) -> str:
    """Return what was wrong, and where what would be right is listed."""
    message = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "sharedfate"
    return f"{command}: {message[:1].lower()}{message[1:]}: `{command} --help` says more"


def _each(group: BaseExceptionGroup) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__)
@click.option(
    "--extensions",
    multiple=True,
    metavar="DIR",
    help="a folder of your own modes/, meshes/, faults/ and experiments/; also in SHAREDFATE_EXTENSIONS",
)
def main(extensions: tuple[str, ...]) -> None:
    """Who is hurt when a shared service-mesh proxy dies or drowns."""
    if extensions:
        extend(extensions)


for command in (
    run, render, check, report, compare, doctor, clean, cluster, image, status, target, predict, experiment,
    inject, stop, faults, job, fetch,
):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
