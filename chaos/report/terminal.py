"""The table at the end of a run in the terminal: one line a trial, plain text, whatever the width."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.history.result import VERDICTS, TrialResult
from chaos.report.finding import headline, otherwise
from chaos.report.formatting import effect_text, flows_of, observed_text, predicted_text, short_flows
from chaos.report.records import mode_rank

HEADINGS = ("trial", "verdict", "predicted hurt", "observed hurt", "effect")


def terminal_table(results: Sequence[TrialResult], unfinished: Sequence[str] = ()) -> str:
    """Return the finding in a sentence, then the trials that contradict the prediction with their reasons, then all
    trials, mode by mode, and a last line with the totals.

    Args:
        unfinished: names of the trials that began and came to no result.
    """
    if not results:
        return "no trial came to a result"
    ordered = sorted(results, key=lambda trial: (trial.scenario, mode_rank(trial.mode)))
    rows = [HEADINGS, *(_row(trial) for trial in ordered)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]).rstrip() for row in rows]
    return "\n".join(
        [headline(ordered, unfinished), *unpredicted_lines(results), "", *lines, tally(results, unfinished)]
    )


def unpredicted_lines(results: Sequence[TrialResult]) -> list[str]:
    """Return a line for each trial that contradicts the prediction, or cannot be decided."""
    return [
        f"{VERDICTS[one.trial.verdict].upper()}: {one.trial.name}: "
        + "; ".join(part for part in (one.contradiction, one.reason) if part)
        for one in otherwise(results)
    ]


def tally(results: Sequence[TrialResult], unfinished: Sequence[str] = ()) -> str:
    """Return `12 trials: 9 as predicted, 1 not as predicted, 1 cannot tell, 1 without a result`."""
    verdicts = [trial.verdict for trial in results]
    parts = [f"{verdicts.count(verdict)} {word}" for verdict, word in VERDICTS.items() if verdict in verdicts]
    if unfinished:
        parts.append(f"{len(unfinished)} without a result")
    total = len(results) + len(unfinished)
    return f"{total} trial{'s' if total != 1 else ''}: {', '.join(parts) or 'nothing was tested'}"


def _row(trial: TrialResult) -> tuple[str, ...]:
    short = short_flows(flows_of(trial))
    return (
        f"{trial.scenario}[{trial.mode}]",
        VERDICTS[trial.verdict] if trial.verdict == "pass" else VERDICTS[trial.verdict].upper(),
        predicted_text(trial, short),
        observed_text(trial, short),
        effect_text(trial),
    )
