"""Judges saved runs again: the same history gives the same answer, years later and with no cluster.

A trial whose files are not as they were sealed, or that cannot be read, is *inconclusive*, with what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from chaos.documents import read_json
from chaos.engine.outcome import checks_of, combined
from chaos.engine.outside import FROM_OUTSIDE
from chaos.engine.settings import RUN_FILE
from chaos.errors import Misuse
from chaos.history.result import RESULT_FILE, TrialResult
from chaos.history.seal import detect_touched
from chaos.history.store import HEADER_FILE, History
from chaos.verdict import Expectation, Verdict, judge, merge, thresholds_from, view_from

REPORT_FILE: Final = "report.json"
UNREPORTED: Final = (
    "it is missing or cannot be read: the run was cut off, or whether trials are gone cannot be told; "
    "`sharedfate report` writes it from those that are there"
)


def check_run(run: Path) -> Iterator[tuple[str, str, str]]:
    """Judge a saved run again: for each trial its name, the reported verdict, and today's with its sentence.

    Inconclusive is a trial that is not the one of its place, or that the run's report does not name or names otherwise,
    one that it names and that is not there, and the run as a whole without a report. Raises Misuse when empty.
    """
    trials = sorted(path for path in (run / "trials").glob("*/*") if path.is_dir())
    if not trials:
        raise Misuse(f"{run}: no trial there (trials/MODE/SCENARIO)")
    runs, reported = _runs(run), _reported(run)
    for trial in trials:
        name = f"{trial.name}[{trial.parent.name}]"
        try:
            before, verdict, reason = _check(trial, runs, reported)
        except Exception as error:  # whatever was done to the files: what cannot be read is not known
            before, verdict = "unreadable", Verdict.INCONCLUSIVE
            reason = f"cannot be judged again: {error if isinstance(error, Misuse) else type(error).__name__}"
        yield name, before, f"{verdict}: {reason}"
    if reported is None:
        yield REPORT_FILE, "written at the end of a run", f"{Verdict.INCONCLUSIVE}: {UNREPORTED}"
    there = {(trial.parent.name, trial.name) for trial in trials}
    for mode, scenario in reported or ():
        if (mode, scenario) not in there:
            yield f"{scenario}[{mode}]", "reported", f"{Verdict.INCONCLUSIVE}: the report names it, and it is not there"


_Reported = Mapping[tuple[str, str], str]  # (mode, scenario) -> verdict


def _reported(run: Path) -> _Reported | None:
    """Return what the run's report says of its trials; None without one that can be read."""
    try:
        report = read_json(run / REPORT_FILE)
        return {(str(trial["mode"]), str(trial["scenario"])): str(trial["verdict"]) for trial in report["trials"]}
    except (Misuse, KeyError, TypeError):
        return None


def _runs(run: Path) -> frozenset[str]:
    """Return the runs whose trials may lie there: of workers, several; empty when that is not known."""
    try:
        header = read_json(run / RUN_FILE)
        return frozenset(map(str, header.get("runs") or [header["run"]]))
    except (Misuse, KeyError, TypeError, AttributeError):
        return frozenset()


def detect_misplaced(trial: Path, result: TrialResult, *, runs: frozenset[str]) -> list[str]:
    """Detect what tells that a trial is another one than its place says: of another mode, scenario or run."""
    stated: list[tuple[str, str, str | None]] = [(result.mode, result.scenario, None)]
    if (trial / HEADER_FILE).exists():
        header = read_json(trial / HEADER_FILE)
        stated.append((str(header.get("mode")), str(header.get("scenario")), header.get("run")))
    found = [
        f"it is {scenario}[{mode}]"
        for mode, scenario, _ in stated
        if (mode, scenario) != (trial.parent.name, trial.name)
    ]
    found += [f"it is of the run {of}" for _, _, of in stated if of is not None and of not in runs]
    return list(dict.fromkeys(found))


def _contradicted(trial: Path, result: TrialResult, reported: _Reported | None) -> list[str]:
    """Return what the run's report says otherwise of a trial."""
    if reported is None:
        return []
    said = reported.get((trial.parent.name, trial.name))
    if said is None:
        return ["the report does not name it"]
    return [f"the report says {said}, its result {result.verdict}"] if said != result.verdict else []


def _check(trial: Path, runs: frozenset[str], reported: _Reported | None) -> tuple[str, Verdict, str]:
    """Return (reported verdict and reason, today's verdict, its reason)."""
    touched = detect_touched(trial)
    if not (trial / RESULT_FILE).exists():
        return "no result", Verdict.INCONCLUSIVE, f"{RESULT_FILE} is missing: the trial came to no result"
    result = TrialResult.read(trial / RESULT_FILE)
    before = f"{result.verdict}: {result.reason}"
    if touched:
        return before, Verdict.INCONCLUSIVE, f"not as it was sealed: {'; '.join(touched)}"
    if strange := detect_misplaced(trial, result, runs=runs) + _contradicted(trial, result, reported):
        return before, Verdict.INCONCLUSIVE, f"not the trial of its place: {'; '.join(strange)}"
    if result.reason.startswith(FROM_OUTSIDE):  # what the cluster said then is not in the samples
        return before, Verdict(result.verdict), result.reason
    claims = checks_of(result.judgement)
    flows = not claims or result.judgement.get("judged") is not None  # whether anything was expected of flows
    history = _whole_history(trial) if flows or (trial / HEADER_FILE).exists() else None
    closing = history.events[-1].data if history is not None else {}
    for name, said in (("verdict", result.verdict), ("reason", result.reason)):
        if closing.get(name, said) != said:
            return before, Verdict.INCONCLUSIVE, f"its history was closed with another {name} than its result has"
    again = judged_again(history) if flows and history is not None else None
    verdict, reason = combined(again, claims)
    # Restarts, and whatever else the trial found, are not in the samples: the sealed result holds them.
    whole = merge([verdict, Verdict(result.verdict)])
    return before, whole, reason if whole is verdict else result.reason


def _whole_history(trial: Path) -> History:
    """Load a trial's history; raises Misuse when anything of it is missing, or not as it was when it was closed."""
    history = History.load(trial)
    if incomplete := history.detect_incomplete():
        raise Misuse(f"its history is not whole: {'; '.join(incomplete)}")
    return history


def judged_again(history: History) -> dict[str, Any]:
    """Return the judge's answer to a saved history, with the thresholds that it was judged with."""
    header = history.header
    expectation = Expectation.from_dict(header["expectation"], history.flows)
    thresholds = thresholds_from(header.get("thresholds", {}))
    view = view_from(history.samples, history.events, flows=history.flows, since=header.get("since"))
    return judge(view, expectation, thresholds).as_dict()
