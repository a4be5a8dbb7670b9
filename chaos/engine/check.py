"""Judges saved runs again: the same history gives the same answer, years later and with no cluster.

A trial whose files are not as they were sealed, or that cannot be read, is *inconclusive*, with what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.documents import read_json
from chaos.engine.outcome import checks_of, combined
from chaos.engine.outside import FROM_OUTSIDE
from chaos.errors import Misuse
from chaos.history.result import RESULT_FILE, TrialResult
from chaos.history.seal import detect_touched
from chaos.history.store import History
from chaos.verdict import Expectation, Verdict, judge, merge, thresholds_from, view_from


def check_run(run: Path) -> Iterator[tuple[str, str, str]]:
    """Judge a saved run again: for each trial its name, the reported verdict, and today's with its sentence.  A trial
    that the report names and that is missing is inconclusive. Raises Misuse for an empty run.
    """
    trials = sorted(path for path in (run / "trials").glob("*/*") if path.is_dir())
    if not trials:
        raise Misuse(f"{run}: no trial there (trials/MODE/SCENARIO)")
    for trial in trials:
        name = f"{trial.name}[{trial.parent.name}]"
        try:
            before, verdict, reason = _check(trial)
        except Exception as error:  # whatever was done to the files: what cannot be read is not known
            before, verdict = "unreadable", Verdict.INCONCLUSIVE
            reason = f"cannot be judged again: {error if isinstance(error, Misuse) else type(error).__name__}"
        yield name, before, f"{verdict}: {reason}"
    there = {(trial.parent.name, trial.name) for trial in trials}
    for mode, scenario in _reported(run):
        if (mode, scenario) not in there:
            yield f"{scenario}[{mode}]", "reported", f"{Verdict.INCONCLUSIVE}: the report names it, and it is not there"


def _reported(run: Path) -> list[tuple[str, str]]:
    try:
        report = read_json(run / "report.json")
        return [(str(trial["mode"]), str(trial["scenario"])) for trial in report["trials"]]
    except (Misuse, KeyError, TypeError):
        return []  # written at the end of a run alone; it can be made again from the trials


def _check(trial: Path) -> tuple[str, Verdict, str]:
    """Return (reported verdict, reported reason, today's verdict, its reason)."""
    touched = detect_touched(trial)
    if not (trial / RESULT_FILE).exists():
        return "no result", Verdict.INCONCLUSIVE, f"{RESULT_FILE} is missing: the trial came to no result"
    result = TrialResult.read(trial / RESULT_FILE)
    before = f"{result.verdict}: {result.reason}"
    if touched:
        return before, Verdict.INCONCLUSIVE, f"not as it was sealed: {'; '.join(touched)}"
    if result.reason.startswith(FROM_OUTSIDE):  # what the cluster said then is not in the samples
        return before, Verdict(result.verdict), result.reason
    claims = checks_of(result.judgement)
    flows = not claims or result.judgement.get("judged") is not None  # whether anything was expected of flows
    again = judged_again(trial) if flows else None
    verdict, reason = combined(again, claims)
    # Restarts, and whatever else the trial found, are not in the samples: the sealed result holds them.
    whole = merge([verdict, Verdict(result.verdict)])
    return before, whole, reason if whole is verdict else result.reason


def judged_again(trial: Path) -> dict[str, Any]:
    """Judge a saved history again, with the thresholds of its trial."""
    history = History.load(trial)
    if incomplete := history.detect_incomplete():
        raise Misuse(f"its history is not whole: {'; '.join(incomplete)}")
    header = history.header
    expectation = Expectation.from_dict(header["expectation"], history.flows)
    thresholds = thresholds_from(header.get("thresholds", {}))
    view = view_from(history.samples, history.events, flows=history.flows, since=header.get("since"))
    return judge(view, expectation, thresholds).as_dict()
