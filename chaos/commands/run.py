"""`sharedfate run`: pytest with the shipped suite."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from chaos import interrupts
from chaos.commands.which import cluster_option, known_modes, known_scenarios, offer


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="""After --, any of pytest's options, and the plugin's own: -k EXPRESSION, -x (stop at the first failure),
--lf (what failed last), -n N (modes in parallel), -v; --chaos-seed N, --chaos-keep, --chaos-inconclusive WHAT,
--chaos-baseline REPORT, --chaos-trace, --chaos-nodes N, --chaos-budget MILLICORES.""",
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
    package = Path(__file__).resolve().parents[1]
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
            str(package / "plugin" / "suite_run.py"),
            str(package / "suite"),
            *where,
            f"--chaos-scenarios={scenarios}",
            f"--chaos-cluster={spec}",
            f"--chaos-out={out}",
            f"--junitxml={out}/junit.xml",
            "-q",
            *("-p", "no:hypothesispytest"),  # which would be imported whole, to say that it has nothing to say
            *pytest_arguments,
        ],
    )
