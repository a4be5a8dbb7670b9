"""The table at the end of a run in the terminal: one line a trial, plain text, whatever the width."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.history.result import TrialResult
from chaos.report.records import mode_rank
from chaos.report.words import effect_text, flows_of, observed_text, predicted_text, short_flows

_MARKS = {"pass": "pass", "fail": "FAIL", "inconclusive": "??  "}
HEADINGS = ("trial", "verdict", "predicted hurt", "observed hurt", "effect")


def terminal_table(results: Sequence[TrialResult]) -> str:
    """The trials, mode by mode; for each that did not pass its sentence below; last line the sum."""
    if not results:
        return "no trial came to a result"
    ordered = sorted(results, key=lambda trial: (trial.scenario, mode_rank(trial.mode)))
    rows = [HEADINGS, *(_row(trial) for trial in ordered)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]).rstrip() for row in rows]
    for trial in ordered:
        if trial.verdict != "pass":
            lines.append(f"{trial.scenario}[{trial.mode}]: {trial.reason}")
    return "\n".join([*lines, tally(results)])


def tally(results: Sequence[TrialResult], unfinished: Sequence[str] = ()) -> str:
    """`12 trials: 9 pass, 1 fail, 1 inconclusive, 1 without a result`."""
    verdicts = [trial.verdict for trial in results]
    parts = [
        f"{verdicts.count(verdict)} {verdict}" for verdict in ("pass", "fail", "inconclusive") if verdict in verdicts
    ]
    if unfinished:
        parts.append(f"{len(unfinished)} without a result")
    total = len(results) + len(unfinished)
    return f"{total} trial{'s' if total != 1 else ''}: {', '.join(parts) or 'nothing was tested'}"


def _row(trial: TrialResult) -> tuple[str, ...]:
    short = short_flows(flows_of(trial))
    return (
        f"{trial.scenario}[{trial.mode}]",
        _MARKS[trial.verdict],
        predicted_text(trial, short),
        observed_text(trial, short),
        effect_text(trial),
    )
