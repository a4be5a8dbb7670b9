"""Reports of a run: `report.json`, `report.md`, `report.html`, the comparison of modes as a picture, and the terminal's
table.

Called by the pytest plugin when a session ends, and by `sharedfate report` on a saved run directory. Reads what the
engine and the history left there; no cluster is needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.documents import read_json, shown, understood
from chaos.errors import Misuse
from chaos.history.files import write_whole
from chaos.report.comparison import compare_modes
from chaos.report.document import check, document
from chaos.report.finding import headline
from chaos.report.markdown import markdown
from chaos.report.page import page
from chaos.report.picture import Picture, plan_picture, png, svg
from chaos.report.records import RunRecord, read_run
from chaos.report.records import unfinished_of as unfinished_of
from chaos.report.sharing import Sharing, budget_rule, cpu_statement, read_sharing
from chaos.report.terminal import terminal_table as terminal_table


@dataclass(frozen=True, slots=True)
class Reports:
    """The files written."""

    json: Path
    markdown: Path
    html: Path
    svg: Path
    png: Path


def write_reports(run_dir: Path, *, seconds: float) -> Reports:
    """Write the reports of a run directory beside its `run.json`, replacing older ones.

    Args:
        run_dir: holds `run.json` and `trials/<mode>/<scenario>/result.json`, with the histories where they were kept.
        seconds: wall time of the run.

    Raises Misuse when the directory is not a run's, or a result is not as the contract says.
    """
    run = read_run(run_dir, seconds=seconds)
    names = ("report.json", "report.md", "report.html", "comparison.svg", "comparison.png")
    reports = Reports(*(run_dir / name for name in names))
    with understood(f"{shown(run_dir)}: what is kept of its trials"):
        report = document(run)
        check(report)
        sharings = [read_sharing(trial.directory) for trial in run.trials]
        picture = comparison_picture(run, sharings)
        contents: dict[Path, str | bytes] = {
            reports.json: json.dumps(report, indent=1, allow_nan=False) + "\n",
            reports.markdown: markdown(run, sharings),
            reports.html: page(run, sharings),
            reports.svg: svg(picture),
            reports.png: png(picture),
        }
    for path, content in contents.items():
        write_whole(path, content)
    return reports


def comparison_picture(run: RunRecord, sharings: Sequence[Sharing | None]) -> Picture:
    """Return the comparison of modes, with the finding above it and the source of the figures below."""
    cluster = run.cluster
    source = (
        f"sharedfate run {run.header['run']}, {str(run.header['started'])[:10]}, cluster {cluster['kind']} "
        f"{cluster['version']}, {cluster['nodes']} nodes."
    )
    return plan_picture(
        compare_modes(run, sharings),
        title=headline(run.trials, run.unfinished),
        footer=" ".join(part for part in (source, cpu_statement(run, sharings), budget_rule(run, sharings)) if part),
    )


def recorded_seconds(run_dir: Path) -> float:
    """Return a saved run's wall time: from its `report.json`, else the sum of its trials."""
    try:
        return float(read_json(run_dir / "report.json")["seconds"])
    except (Misuse, ValueError, KeyError, TypeError):
        return sum(trial.seconds for trial in read_run(run_dir, seconds=0.0).trials)
