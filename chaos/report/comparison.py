"""The comparison for choosing a mode: a row for each mode, a column for each question, from the trials of one
run.

Pure. A question that no mode of the run was asked has no column. `chaos.report.picture` draws it, for the page and for
a design document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from chaos.history.result import VERDICTS, TrialResult
from chaos.report.finding import baseline_latency, milliseconds, quantile_shift
from chaos.report.formatting import measure_text
from chaos.report.records import RunRecord
from chaos.report.sharing import Sharing, target_of

MISSING: Final = "not tried"


@dataclass(frozen=True, slots=True)
class Cell:
    """An answer. `figure` is what its bar shows, in the column's own unit; `dots` are (those meant, all)."""

    text: str
    note: str = ""
    figure: float | None = None
    dots: tuple[int, int] | None = None
    doubt: str = ""  # `cannot tell` or `not as predicted`: of the trial that it is from
    anchor: str = ""
    share: float | None = None  # of the column's largest figure


@dataclass(frozen=True, slots=True)
class Column:
    """A question, and how to read its figures."""

    heading: str
    cells: tuple[Cell, ...]  # one for each mode


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table. `untried`: the questions that no trial of this run answers, with the scenario that would."""

    modes: tuple[str, ...]
    columns: tuple[Column, ...]
    untried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModeTrials:
    """The trials of one mode, with their placements."""

    mode: str
    trials: Mapping[str, TrialResult]  # by scenario
    sharings: Mapping[str, Sharing]

    def of(self, scenario: str) -> TrialResult | None:
        return self.trials.get(scenario)


CellOf = Callable[[ModeTrials], Cell | None]


def compare_modes(run: RunRecord, sharings: Sequence[Sharing | None]) -> Comparison:
    """Return the table of a run. `sharings` are the placements of `run.trials`, in order."""
    rows = [_trials_of(run, sharings, mode) for mode in run.modes]
    columns, untried = [], []
    for heading, scenario, answer in QUESTIONS:
        cells = [answer(row) for row in rows]
        if any(cell is not None for cell in cells):
            columns.append(Column(heading, _scaled([cell or Cell(MISSING) for cell in cells])))
        else:
            untried.append(f"{heading} ({scenario})")
    return Comparison(tuple(run.modes), tuple(columns), tuple(untried))


def _trials_of(run: RunRecord, sharings: Sequence[Sharing | None], mode: str) -> ModeTrials:
    mine = [(trial, sharing) for trial, sharing in zip(run.trials, sharings, strict=True) if trial.mode == mode]
    return ModeTrials(
        mode,
        {trial.scenario: trial for trial, _ in mine},
        {trial.scenario: sharing for trial, sharing in mine if sharing is not None},
    )


def _scaled(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    most = max((cell.figure for cell in cells if cell.figure is not None), default=0.0)
    return tuple(
        cell if cell.figure is None else replace(cell, share=cell.figure / most if most > 0 else 0.0) for cell in cells
    )


def _cell(trial: TrialResult, text: str, **facts: Any) -> Cell:
    doubt = "" if trial.verdict == "pass" else VERDICTS[trial.verdict]
    return Cell(text, doubt=doubt, anchor=trial.anchor, **facts)


def _taken_down(row: ModeTrials) -> Cell | None:
    """Count pods and tenants behind the proxy that was killed."""
    trial, sharing = row.of("proxy-killed"), row.sharings.get("proxy-killed")
    if trial is None or sharing is None:
        return None
    target = target_of(sharing, trial.target)
    pods = [pod for pod in sharing.pods if target is not None and target.serves(pod)]
    tenants = {pod.namespace for pod in sharing.pods}
    hurt = len({pod.namespace for pod in pods})
    return _cell(
        trial,
        f"{len(pods)} of {len(sharing.pods)} pods",
        note=f"{hurt} of {len(tenants)} tenants",
        dots=(len(pods), len(sharing.pods)),
    )


def _measured(scenario: str, name: str, *, none: str = "none") -> CellOf:
    """Return a measure of the judge; `none` where nobody was hurt, and so nothing was measured."""

    def answer(row: ModeTrials) -> Cell | None:
        trial = row.of(scenario)
        if trial is None:
            return None
        measure = trial.measures.get(name)
        if measure is None or measure["value"] is None:
            return _cell(trial, none if not trial.observed["hurt"] else "–", figure=0.0)
        text, _, limits = measure_text(measure).partition(" (")
        return _cell(
            trial,
            text,
            note=limits.replace(")", "," if not limits.endswith(")") else ""),
            figure=float(measure["value"]),
        )

    return answer


def _neighbour(row: ModeTrials) -> Cell | None:
    """Return the latency of the worst-off neighbour while one tenant overloads its path."""
    trial = row.of("noisy-neighbour")
    if trial is None:
        return None
    shifts = [
        shift
        for flow in trial.judgement.get("flows", ())
        if flow.get("expected_share") is not None and (shift := quantile_shift(flow, 0.99)) is not None
    ]
    if not shifts:
        return _cell(trial, "–")
    before, during = max(shifts, key=lambda shift: shift[1] - shift[0])
    hurt = len(trial.observed["hurt"])
    note = f"{hurt} neighbour{'s' if hurt != 1 else ''} hurt"
    return _cell(trial, f"{milliseconds(before)} → {milliseconds(during)}", note=note, figure=during)


def _latency(row: ModeTrials) -> Cell | None:
    found = baseline_latency(list(row.trials.values()))
    if found is None:
        return None
    p50, p99 = found
    return Cell(f"p50 {milliseconds(p50)}", note=f"p99 {milliseconds(p99)}", figure=p99)


def _cpu_rule(row: ModeTrials) -> Cell | None:
    """Return what the rule of equal CPU leaves for each proxy."""
    sharing = next(iter(row.sharings.values()), None)
    if sharing is None:
        return None
    proxies = [proxy for proxy in sharing.proxies if proxy.layers]
    if not proxies:
        return Cell("no proxy", figure=0.0)
    limits = sorted({proxy.cpu_millicores for proxy in proxies})
    size = f"{limits[0]}m" if limits[0] == limits[-1] else f"{limits[0]} to {limits[-1]}m"
    return Cell(f"{size} each", note=f"{len(proxies)} proxies", figure=float(limits[-1]))


def _footprint(row: ModeTrials) -> Cell | None:
    trial = row.of("footprint")
    if trial is None:
        return None
    memory = trial.measures.get("memory of proxies per pod")
    cpu = trial.measures.get("CPU of proxies per 1,000 requests")
    if memory is None or cpu is None:
        return _cell(trial, "–")
    text = f"{measure_text(memory)} a pod"
    return _cell(trial, text, note=f"{measure_text(cpu)} per 1,000 requests", figure=float(memory["value"]))


def _upgrade(row: ModeTrials) -> Cell | None:
    trial = row.of("proxy-upgraded")
    if trial is None:
        return None
    restarts = next((m for m in trial.measures.values() if str(m["unit"]) == "containers"), None)
    lost = sum(float(m["value"] or 0) for name, m in trial.measures.items() if name.startswith("requests lost by"))
    cut = sum(float(m["value"] or 0) for name, m in trial.measures.items() if name.startswith("long streams cut"))
    count = int(restarts["value"]) if restarts else 0
    text = f"{count} application{'s' if count != 1 else ''} restarted"
    return _cell(trial, text, note=f"{lost:.0f} requests lost, {cut:.0f} streams cut", figure=float(count))


def _identities(row: ModeTrials) -> Cell | None:
    trial = row.of("identities-exposed")
    if trial is None:
        return None
    held = [float(m["value"]) for m in trial.measures.values() if str(m["unit"]).startswith("identities")]
    if not held:
        return _cell(trial, "–")
    most = int(max(held))
    opened = [float(m["value"]) for m in trial.measures.values() if str(m["unit"]).startswith("servers")]
    note = f"which open {max(opened):.0f} tenants' servers" if opened else ""
    return _cell(trial, f"{most} identit{'ies' if most != 1 else 'y'}", note=note, figure=float(most))


def _job(row: ModeTrials) -> Cell | None:
    trial = row.of("job-completes")
    if trial is None:
        return None
    names = {str(check["name"]): check["verdict"] for check in trial.judgement.get("checks", ())}
    if "the Job never ends" in names:
        return _cell(trial, "hangs" if names["the Job never ends"] == "pass" else "ends")
    if "the Job completes" in names:
        return _cell(trial, "ends" if names["the Job completes"] == "pass" else "hangs")
    return _cell(trial, "–")


QUESTIONS: Final[tuple[tuple[str, str, CellOf], ...]] = (
    ("one proxy's death takes down", "proxy-killed", _taken_down),
    ("outage of those", "proxy-killed", _measured("proxy-killed", "outage")),
    ("requests lost", "proxy-killed", _measured("proxy-killed", "requests lost")),
    ("neighbour's p99 beside a noisy tenant", "noisy-neighbour", _neighbour),
    ("latency of a call", "any", _latency),
    ("CPU of a proxy, by the rule of equal CPU", "any", _cpu_rule),
    ("memory and CPU of proxies", "footprint", _footprint),
    ("an upgrade of the proxies", "proxy-upgraded", _upgrade),
    ("identities that one proxy exposes", "identities-exposed", _identities),
    ("a Job", "job-completes", _job),
)
