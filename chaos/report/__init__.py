"""Reports of a run: `report.json`, `report.md`, `report.html`, and the terminal's table.

Called by the pytest plugin when a session ends, and by `sharedfate report` on a saved run directory. Reads what the
engine and the history left there; no cluster is needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from chaos.history.files import write_whole
from chaos.report.document import check, document
from chaos.report.markdown import markdown
from chaos.report.page import page
from chaos.report.records import read_run
from chaos.report.sharing import read_sharing
from chaos.report.terminal import terminal_table as terminal_table


@dataclass(frozen=True, slots=True)
class Reports:
    """The files that were written."""

    json: Path
    markdown: Path
    html: Path


def write_reports(run_dir: Path, *, seconds: float) -> Reports:
    """Write the reports of a run directory beside its `run.json`, replacing older ones.

    Args:
        run_dir: holds `run.json` and `trials/<mode>/<scenario>/result.json`, with the histories where they were kept.
        seconds: wall time of the run.

    Raises Misuse when the directory is not a run's, or a result is not as the contract says.
    """
    run = read_run(run_dir, seconds=seconds)
    report = document(run)
    check(report)
    sharings = [read_sharing(trial.directory) for trial in run.trials]
    reports = Reports(run_dir / "report.json", run_dir / "report.md", run_dir / "report.html")
    write_whole(reports.json, json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_whole(reports.markdown, markdown(run, sharings))
    write_whole(reports.html, page(run, sharings))
    return reports


def recorded_seconds(run_dir: Path) -> float:
    """Wall time of a saved run: as its `report.json` says, else the sum of its trials."""
    try:
        return float(json.loads((run_dir / "report.json").read_text())["seconds"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return sum(trial.seconds for trial in read_run(run_dir, seconds=0.0).trials)
