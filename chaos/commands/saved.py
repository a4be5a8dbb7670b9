"""`sharedfate check`, `report` and `compare`: saved runs, judged, reported and compared again."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
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


@click.command()
@click.argument("run_directory", type=click.Path(path_type=Path))
def report(run_directory: Path) -> None:
    """Write the reports of a saved run again: report.html, report.md, report.json."""
    from chaos.report import recorded_seconds, write_reports

    reports = write_reports(run_directory, seconds=recorded_seconds(run_directory))
    click.echo(f"{reports.html}\n{reports.markdown}\n{reports.json}")


@click.command()
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
