"""Judges saved runs again: the same history gives the same answer, years later and with no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.engine.outcome import checks_of, combined
from chaos.engine.outside import FROM_OUTSIDE
from chaos.errors import Misuse
from chaos.history.result import results_of
from chaos.history.store import History
from chaos.verdict import Expectation, judge, thresholds_from, view_from


def check_run(run: Path) -> Iterator[tuple[str, str, str]]:
    """Of each trial: its name, the verdict that was reported, and today's with its sentence. Raises Misuse when
    empty.
    """
    results = results_of(run)
    if not results:
        raise Misuse(f"{run}: no trial with a result there (trials/MODE/SCENARIO/result.json)")
    for result in results:
        before = f"{result.judgement['verdict']}: {result.judgement['reason']}"
        if result.reason.startswith(FROM_OUTSIDE):  # what the cluster said then is not in the samples
            yield f"{result.scenario}[{result.mode}]", before, before
            continue
        claims = checks_of(result.judgement)
        flows = not claims or result.judgement.get("judged") is not None  # whether anything was expected of flows
        again = judged_again(run / "trials" / result.mode / result.scenario) if flows else None
        verdict, reason = combined(again, claims)
        yield f"{result.scenario}[{result.mode}]", before, f"{verdict}: {reason}"


def judged_again(trial: Path) -> dict[str, Any]:
    """The judge's answer to a saved history, with the thresholds that it was judged with."""
    history = History.load(trial)
    header = history.header
    expectation = Expectation.from_dict(header["expectation"], history.flows)
    thresholds = thresholds_from(header.get("thresholds", {}))
    view = view_from(history.samples, history.events, flows=history.flows, since=header.get("since"))
    return judge(view, expectation, thresholds).as_dict()
