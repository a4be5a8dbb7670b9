"""`report.md`: the run for a CI summary. GitHub's and GitLab's Markdown both read it."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.history.result import TrialResult
from chaos.report.claims import Answer, answers
from chaos.report.records import RunRecord
from chaos.report.sharing import Sharing, cpu_statement, emulated
from chaos.report.terminal import tally
from chaos.report.words import (
    DASH,
    bystander,
    duration,
    effect_text,
    flows_of,
    measure_text,
    observed_text,
    predicted_text,
    short_flows,
)

MARKS = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "❔ inconclusive"}


def markdown(run: RunRecord, sharings: Sequence[Sharing | None]) -> str:
    """The page. `sharings` are the placements of `run.trials`, in order."""
    cluster = run.cluster
    parts = [
        "# sharedfate: who is hurt when a shared proxy dies or drowns",
        f"**{tally(run.trials, run.unfinished)}** in {duration(run.seconds)}, cluster {_cell(str(cluster['kind']))} "
        f"{_cell(str(cluster['version']))}, {cluster['nodes']} nodes, seed {run.header.get('seed', DASH)}, "
        f"run {_cell(str(run.header['run']))}, started {_cell(str(run.header['started']))}.",
        "## Mode by scenario",
        _matrix(run),
        "## Predicted and observed",
        _table(run.trials),
        "## In a sentence each",
        _sentences(run.trials),
        "## The sidecar-or-sharing debate, measured here",
        _claims(answers(run.trials, sharings)),
        "## How to read this",
        "- " + cpu_statement(run, sharings),
        "- " + emulated(cluster),
        "- *Predicted* comes from the sharing model and the live placement, *observed* from the clients. An effect is "
        "the change "
        "of the share of requests that failed, or were slow, from baseline to fault, in percentage points, with its "
        "interval.",
    ]
    return "\n\n".join(parts) + "\n"


def _matrix(run: RunRecord) -> str:
    if not run.trials:
        return "\n".join(["No trial came to a result: nothing was tested.", *_unfinished(run)])
    lines = ["| mode | " + " | ".join(map(_cell, run.scenarios)) + " |", "|---" * (len(run.scenarios) + 1) + "|"]
    for mode in run.modes:
        cells = [
            ", ".join(MARKS[trial.verdict] for trial in run.of(mode, scenario)) or DASH for scenario in run.scenarios
        ]
        lines.append(f"| {_cell(mode)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_unfinished(run)])


def _unfinished(run: RunRecord) -> list[str]:
    return ["", f"Began and came to no result: {_cell(', '.join(run.unfinished))}."] if run.unfinished else []


def _table(trials: Sequence[TrialResult]) -> str:
    lines = [
        "| mode | scenario | predicted hurt | observed hurt | effect | worst bystander | verdict |",
        "|---" * 7 + "|",
    ]
    for trial in trials:
        short = short_flows(flows_of(trial))
        beside = bystander(trial)
        cells = [
            trial.mode,
            trial.scenario,
            predicted_text(trial, short),
            observed_text(trial, short),
            effect_text(trial),
            f"{short.get(beside.flow, beside.flow)}: {beside.kind} at most {beside.high:+.1f} points"
            if beside
            else DASH,
            MARKS[trial.verdict],
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _sentences(trials: Sequence[TrialResult]) -> str:
    lines = []
    for trial in trials:
        lines.append(f"- **{_cell(trial.name)}** {MARKS[trial.verdict]}: {_cell(trial.reason)}")
        if trial.measures:
            measures = "; ".join(f"{name} {measure_text(measure)}" for name, measure in sorted(trial.measures.items()))
            lines.append(f"  - {_cell(measures)} (target {_cell(trial.target or DASH)}, seed {trial.seed})")
    return "\n".join(lines) or DASH


def _claims(found: Sequence[Answer]) -> str:
    lines = []
    for answer in found:
        if answer.figures:
            lines.append(f"- **{_cell(answer.claim.text)}** {answer.said}.")
            lines += [f"  - {_cell(figure.mode)}: {_cell(figure.text)}" for figure in answer.figures]
    if unmeasured := [answer.claim for answer in found if not answer.figures]:
        lines.append(
            f"- Not measured in this run: {len(unmeasured)} of {len(found)} claims (scenarios "
            f"{', '.join(claim.scenario for claim in unmeasured)})."
        )
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Names and sentences come from clusters: nothing in them may end a cell or begin a tag."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.replace("`", "\\`").replace("*", "\\*").split())
