"""`report.md`: the run for a CI summary. GitHub's and GitLab's Markdown both read it."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.history.result import VERDICTS, TrialResult
from chaos.report.claims import ClaimAnswer, answers
from chaos.report.comparison import Cell, compare_modes
from chaos.report.finding import findings, headline, otherwise
from chaos.report.formatting import (
    DASH,
    bystander,
    contradiction_text,
    duration,
    effect_text,
    flows_of,
    measure_line,
    observed_text,
    predicted_text,
    short_flows,
)
from chaos.report.job_table import job_table
from chaos.report.keys_table import keys_table
from chaos.report.records import RunRecord
from chaos.report.restart_table import restart_table
from chaos.report.sharing import Sharing, budget_rule, cpu_statement, emulated
from chaos.report.terminal import tally

_EMOJI = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
MARKS = {verdict: f"{sign} {VERDICTS[verdict]}" for verdict, sign in _EMOJI.items()}


def markdown(run: RunRecord, sharings: Sequence[Sharing | None]) -> str:
    """Return the page. `sharings` are the placements of `run.trials`, in order."""
    cluster, found = run.cluster, findings(run.trials)
    parts = [
        f"# {_cell(headline(run.trials, run.unfinished))}",
        f"**{tally(run.trials, run.unfinished)}** in {duration(run.seconds)}, cluster {_cell(str(cluster['kind']))} "
        f"{_cell(str(cluster['version']))}, {cluster['nodes']} nodes, seed {run.header.get('seed', DASH)}, "
        f"run {_cell(str(run.header['run']))}, started {_cell(str(run.header['started']))}.",
        *_otherwise(run.trials),
        *(["## What was found", "\n".join(f"- {_cell(str(one))}" for one in found)] if found else []),
        *_comparison(run, sharings),
        *_restarts(run.trials),
        *_keys(run.trials),
        *_jobs(run.trials),
        "## Mode by scenario",
        _matrix(run),
        "<details><summary>Every trial</summary>",
        _table(run.trials),
        _measures(run.trials),
        "</details>",
        "<details><summary>The sidecar-or-sharing debate, measured here</summary>",
        _claims(answers(run.trials, sharings)),
        "</details>",
        "## How to read this",
        "\n".join(
            f"- {line}"
            for line in (
                "*Predicted* comes from the sharing model and the live placement, *observed* from the clients. An "
                "effect is the change of the share of requests that failed, or were slow, from baseline to fault, in "
                "percentage points, with its interval. report.html has a glossary.",
                cpu_statement(run, sharings),
                budget_rule(run, sharings),
                emulated(cluster),
            )
            if line
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _matrix(run: RunRecord) -> str:
    if not run.trials:
        return "\n".join(["No trial came to a result: nothing was tested.", *_unfinished(run)])
    lines = ["| mode | " + " | ".join(map(_cell, run.scenarios)) + " |", "|---" * (len(run.scenarios) + 1) + "|"]
    for mode in run.modes:
        cells = [", ".join(_mark(trial) for trial in run.of(mode, scenario)) or DASH for scenario in run.scenarios]
        lines.append(f"| {_cell(mode)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_unfinished(run)])


def _mark(trial: TrialResult) -> str:
    contradiction = contradiction_text(trial, short_flows(flows_of(trial)))
    return MARKS[trial.verdict] + (f" ({_cell(contradiction)})" if contradiction else "")


def _unfinished(run: RunRecord) -> list[str]:
    begun = ["", f"Began and came to no result: {_cell(', '.join(run.unfinished))}."] if run.unfinished else []
    return [*begun, *(f"- {_cell(what)}: {_cell(why)}" for what, why in run.errors.items())]


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
            f"{short.get(beside.flow, beside.flow)}: {beside.most}" if beside else DASH,
            MARKS[trial.verdict],
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _otherwise(trials: Sequence[TrialResult]) -> list[str]:
    """List what to look at first: each trial that contradicts the prediction, or cannot be decided, with its reason."""
    lines = [
        f"- **{_cell(one.trial.name)}** {MARKS[one.trial.verdict]}: "
        + _cell("; ".join(part for part in (one.contradiction, one.reason) if part))
        for one in otherwise(trials)
    ]
    return ["## Look at these first", "\n".join(lines)] if lines else []


def _comparison(run: RunRecord, sharings: Sequence[Sharing | None]) -> list[str]:
    found = compare_modes(run, sharings)
    if not found.columns:
        return []
    headings = ["mode", *(column.heading for column in found.columns)]
    lines = ["| " + " | ".join(map(_cell, headings)) + " |", "|---" * len(headings) + "|"]
    for number, mode in enumerate(found.modes):
        cells = [mode, *(_answer(column.cells[number]) for column in found.columns)]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    text = "\n".join(lines)
    return ["## Which mode?", text]


def _restarts(trials: Sequence[TrialResult]) -> list[str]:
    table = restart_table(trials)
    if not table.lines:
        return []
    lines = ["| what is done | " + " | ".join(map(_cell, table.modes)) + " |", "|---" * (len(table.modes) + 1) + "|"]
    lines += ["| " + " | ".join(map(_cell, (one.change, *one.cells))) + " |" for one in table.lines]
    return ["## What makes an application restart, and what it loses", "\n".join(lines)]


def _keys(trials: Sequence[TrialResult]) -> list[str]:
    found = keys_table(trials)
    if not found:
        return []
    lines = ["| mode | proxy | with the keys in its memory |", "|---|---|---|"]
    lines += ["| " + " | ".join(map(_cell, (one.mode, one.proxy, one.opened))) + " |" for one in found]
    return ["## What the keys of one proxy open", "\n".join(lines)]


def _jobs(trials: Sequence[TrialResult]) -> list[str]:
    table = job_table(trials)
    if not table.lines:
        return []
    lines = ["| what befell the Job | policy | " + " | ".join(map(_cell, table.modes)) + " |"]
    lines.append("|---" * (len(table.modes) + 2) + "|")
    lines += ["| " + " | ".join(map(_cell, (one.trouble, one.policy, *one.cells))) + " |" for one in table.lines]
    return ["## Jobs by policy", "\n".join(lines)]


def _answer(cell: Cell) -> str:
    """Format `1 of 9 pods (1 of 3 tenants)`."""
    beside = "; ".join(part for part in (cell.note, cell.doubt) if part)
    return f"{cell.text} ({beside})" if beside else cell.text


def _measures(trials: Sequence[TrialResult]) -> str:
    lines = []
    for trial in trials:
        told = [measure_line(name, measure) for name, measure in sorted(trial.measures.items())]
        told += [f"target {trial.target or DASH}", f"seed {trial.seed}"]
        lines.append(f"- {_cell(trial.name)}: {_cell('; '.join(told))}")
    return "\n".join(lines) or DASH


def _claims(found: Sequence[ClaimAnswer]) -> str:
    lines = []
    for answer in found:
        if answer.figures:
            lines.append(f"- **{_cell(answer.claim.text)}** {answer.said}.")
            lines += [f"  - {_cell(figure.mode)}: {_cell(figure.text)}" for figure in answer.figures]
    if unmeasured := [answer.claim for answer in found if not answer.figures]:
        lines.append(f"- Not measured in this run: {len(unmeasured)} of {len(found)} claims.")
        lines += [f"  - {_cell(claim.text)} {claim.asks}" for claim in unmeasured]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Escape a text for a cell: names and sentences come from clusters, and must not end a cell or begin a tag."""
    escaped = (
        text.replace(" -> ", " → ").replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
    )
    return " ".join(escaped.replace("`", "\\`").replace("*", "\\*").split())
