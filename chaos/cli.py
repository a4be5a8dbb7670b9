"""The `sharedfate` command. Each sub-command imports only what it needs; a refused input is one line and exit code
4.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import click
import urllib3

from chaos import interrupts
from chaos.commands.clean import clean
from chaos.commands.cluster import cluster
from chaos.commands.doctor import doctor
from chaos.commands.experiment import experiment
from chaos.commands.faults import faults, inject, stop
from chaos.commands.image import image
from chaos.commands.job import fetch, job
from chaos.commands.status import status
from chaos.commands.target import target
from chaos.commands.which import cluster_option, known_modes, known_scenarios, offer
from chaos.documents import shown, understood
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
        except BrokenPipeError:  # whoever read the output has enough of it: click ends in silence, with 1
            raise
        except (urllib3.exceptions.HTTPError, ConnectionError) as error:
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


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(REFUSED) from error


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


for command in (doctor, clean, cluster, image, status, target, experiment, inject, stop, faults, job, fetch):
    main.add_command(command)


@main.command(
    context_settings={"ignore_unknown_options": True},
    epilog="""After --, any of pytest's options, and the plugin's own: -k EXPRESSION, -x (stop at the first failure),
--lf (what failed last), -n N (modes in parallel), -v; --chaos-seed N, --chaos-keep, --chaos-inconclusive WHAT,
--chaos-baseline REPORT, --chaos-nodes N, --chaos-budget MILLICORES.""",
)
@click.option(
    "--modes",
    default="default",
    show_default=True,
    help="proxy modes, comma separated, all, or default",
    shell_complete=offer(known_modes),
)
@click.option(
    "--scenarios",
    default="default",
    show_default=True,
    help="scenarios, comma separated, all, or default",
    shell_complete=offer(known_scenarios),
)
@cluster_option()
@click.option(
    "--target", default="", metavar="FILE", help="target file: run on the mesh that it describes, instead of on modes"
)
@click.option("--out", default="sharedfate-out", show_default=True, help="run directory")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def run(modes: str, scenarios: str, spec: str, target: str, out: str, pytest_arguments: tuple[str, ...]) -> None:
    """Run the shipped suite; what follows `--` goes to pytest. Exit codes are pytest's."""
    suite = str(Path(__file__).resolve().parent / "suite")
    # In pytest's own process: it must import our modules before anybody else does, to rewrite their assertions.
    where = [f"--chaos-target={target}"] if target else []
    if not target or modes != "default":
        where.append(f"--chaos-modes={modes}")
    interrupts.block()
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-P",  # a package `chaos` of the working directory is not ours
            "-m",
            "pytest",
            suite,
            *where,
            f"--chaos-scenarios={scenarios}",
            f"--chaos-cluster={spec}",
            f"--chaos-out={out}",
            f"--junitxml={out}/junit.xml",
            "-q",
            *pytest_arguments,
        ],
    )


@main.command()
@click.option("--mode", "mode", required=True, help="proxy mode", shell_complete=offer(known_modes))
@click.option(
    "--file",
    "-f",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="manifests of your applications: a file, a folder with all that is below it, or - for standard input",
)
@click.option("--run", "run_name", default="rendered", show_default=True, help="value of the run's label")
@click.option("--budget", default=1200, show_default=True, help="CPU of all proxies together, in millicores")
@click.option("--memory", default=1152, show_default=True, help="memory of all proxies together, in MiB")
def render(mode: str, files: tuple[Path, ...], run_name: str, budget: int, memory: int) -> None:
    """Print what a mode applies, as YAML for kubectl: the mesh's parts, and your manifests patched for it."""
    from chaos.mesh import manifests
    from chaos.mesh.budget import Budget
    from chaos.mesh.render import render_mode

    objects = [obj for file in files for obj in manifests.read_all(file)]
    with understood(", ".join(map(shown, files))) if files else nullcontext():
        text = render_mode(mode, objects, run=run_name, budget=Budget(budget, memory))
    click.echo(text, nl=False)


@main.command()
@click.argument("run_directory", type=click.Path(path_type=Path))
def check(run_directory: Path) -> None:
    """Judge a saved run again from its histories; exit code 1 when a verdict is not what was reported."""
    from chaos.engine.check import check_run

    differences = 0
    for name, before, now in check_run(run_directory):
        same = before == now
        differences += not same
        click.echo(f"{name}: {now}" + ("" if same else f" (reported: {before})"))
    sys.exit(1 if differences else 0)


@main.command()
@click.argument("run_directory", type=click.Path(path_type=Path))
def report(run_directory: Path) -> None:
    """Write the reports of a saved run again: report.html, report.md, report.json."""
    from chaos.report import recorded_seconds, write_reports

    reports = write_reports(run_directory, seconds=recorded_seconds(run_directory))
    click.echo(f"{reports.html}\n{reports.markdown}\n{reports.json}")


@main.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--policy", type=click.Path(path_type=Path), help="YAML: what may be inconclusive or missing, and tolerances"
)
def compare(base: Path, new: Path, policy: Path | None) -> None:
    """What got worse between two report.json (or run directories). Exit code 0: nothing; 1: something; 4: refused."""
    from chaos.report.compare import comparability, exit_code, load_policy, load_report
    from chaos.report.compare import compare as regressions_of

    before, after = load_report(base), load_report(new)
    found = regressions_of(before, after, load_policy(policy) if policy else None)
    for warning in comparability(before, after):
        click.echo(f"sharedfate: {warning}", err=True)
    click.echo("\n".join(map(str, found)) if found else "nothing got worse")
    sys.exit(exit_code(found))


if __name__ == "__main__":
    main()
