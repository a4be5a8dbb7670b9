"""`report.html`: one file that needs nothing else, neither network nor script. The template is `page.html.j2`.

This module prepares what the template shows; the template escapes everything but the charts, which escape themselves.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from chaos.errors import Misuse
from chaos.history.result import VERDICTS, TrialResult
from chaos.history.store import HEADER_FILE, History
from chaos.report.charts import chart
from chaos.report.claims import answers
from chaos.report.comparison import compare_modes
from chaos.report.course import WIDTH, course_of
from chaos.report.finding import findings, headline, milliseconds, otherwise
from chaos.report.formatting import (
    DASH,
    SIGNS,
    contradiction_text,
    duration,
    effect_text,
    flows_of,
    measure_name,
    measure_text,
    observed_text,
    predicted_text,
    resolution,
    short_flows,
    spell,
)
from chaos.report.glossary import GLOSSARY
from chaos.report.job_table import job_table
from chaos.report.keys_table import keys_table
from chaos.report.picture import cell_picture
from chaos.report.records import RunRecord
from chaos.report.restart_table import restart_table
from chaos.report.sharing import Sharing, budget_rule, cpu_statement, emulated
from chaos.report.sharing_diagram import NodeBox, NodeLine, fold, plan_diagram
from chaos.report.terminal import tally
from chaos.report.timeline import Mark, timeline_of

LIMIT: Final = 2_000_000  # bytes of the page
BINS: Final = (160, 110, 75, 50, 30, 16, 10, 0)  # of a timeline; the first that fits is taken. 0: no timelines
_STRESS: Final = re.compile(r"\*([^*\n]+)\*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One flow: predicted beside observed."""

    name: str
    title: str
    share: str
    predicted: str
    observed: str
    contradiction: bool
    errors: str
    slow: str
    lost: str
    outage: str
    recovered: str
    p50: str
    p99: str
    why: str


@dataclass(frozen=True, slots=True)
class FlowChart:
    """One flow's chart, and the same in words."""

    name: str
    svg: Markup
    said: str


@dataclass(frozen=True, slots=True)
class TrialView:
    """What the page shows of a trial."""

    record: TrialResult
    effect: str
    predicted: str
    observed: str
    contradiction: str  # who was hurt, or not, against the prediction
    nodes: tuple[NodeBox, ...]
    folded: tuple[NodeLine, ...]  # nodes beyond those that are drawn
    flows: tuple[FlowRow, ...]
    measures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    figures: tuple[FlowChart, ...]
    marks: tuple[str, ...]  # what happened on the timeline
    causes: tuple[str, ...]
    unread: str  # why there is no timeline
    seconds: str


def page(run: RunRecord, sharings: Sequence[Sharing | None], *, limit: int = LIMIT) -> str:
    """Return the page, with timelines as fine as the size limit allows."""
    text = ""
    first = next((number for number, bins in enumerate(BINS) if bins * len(run.trials) <= 160 * 60), len(BINS) - 1)
    for bins in BINS[first:]:
        text = _render(run, sharings, bins)
        if len(text.encode()) <= limit:
            break
    return text


def _render(run: RunRecord, sharings: Sequence[Sharing | None], bins: int) -> str:
    environment = page_environment()
    views = [_view(trial, sharing, bins) for trial, sharing in zip(run.trials, sharings, strict=True)]
    cells = {
        (mode, scenario): [view for view in views if (view.record.mode, view.record.scenario) == (mode, scenario)]
        for mode in run.modes
        for scenario in run.scenarios
    }
    return environment.get_template("page.html.j2").render(
        run=run,
        headline=headline(run.trials, run.unfinished),
        findings=findings(run.trials),
        otherwise=otherwise(run.trials),
        comparison=compare_modes(run, sharings),
        cell_picture=cell_picture,
        glossary=GLOSSARY,
        tally=tally(run.trials, run.unfinished),
        took=duration(run.seconds),
        views=views,
        cells=cells,
        words=VERDICTS,
        signs=SIGNS,
        answers=answers(run.trials, sharings),
        jobs=job_table(run.trials),
        keys=keys_table(run.trials),
        restarts=restart_table(run.trials),
        cpu=cpu_statement(run, sharings),
        budget_rule=budget_rule(run, sharings),
        emulated=emulated(run.cluster),
        used_causes={cause for view in views for cause in view.causes},
        environment=_environment(run),
        dash=DASH,
        course=course_of(run.spans, wall=run.seconds) if bins else None,
        course_width=WIDTH,
        observation=duration(sum(trial.seconds for trial in run.trials)),
    )


def page_environment(package: str = "chaos.report") -> jinja2.Environment:
    """Return the environment of a page: the package's templates, and beside them this page's style."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(name, "") for name in dict.fromkeys((package, "chaos.report"))]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["stressed"] = stressed
    return environment


def _environment(run: RunRecord) -> list[tuple[str, str]]:
    facts = [
        ("run", run.header["run"]),
        ("started", run.header["started"]),
        ("wall time", duration(run.seconds)),
        ("cluster", run.cluster["kind"]),
        ("Kubernetes", run.cluster["version"]),
        ("nodes", run.cluster["nodes"]),
        ("seed", run.header.get("seed", DASH)),
        ("CPU of all proxies", f"{run.header.get('budget_millicores', DASH)} millicores"),
    ]
    more = run.header.get("environment")
    return [(name, str(value)) for name, value in [*facts, *(more.items() if isinstance(more, Mapping) else ())]]


def _view(trial: TrialResult, sharing: Sharing | None, bins: int) -> TrialView:
    short = short_flows(flows_of(trial))
    figures, marks, causes, unread = _figures(trial, short, bins)
    nodes, folded = fold(plan_diagram(sharing, trial) if sharing else ())
    return TrialView(
        record=trial,
        effect=effect_text(trial),
        predicted=predicted_text(trial, short),
        observed=observed_text(trial, short),
        contradiction=contradiction_text(trial, short),
        nodes=nodes,
        folded=folded,
        flows=tuple(_row(flow, short) for flow in _judged(trial)),
        measures=tuple((measure_name(name), measure_text(measure)) for name, measure in sorted(trial.measures.items())),
        notes=tuple(str(note) for note in trial.judgement.get("notes", ())),
        figures=figures,
        marks=marks,
        causes=causes,
        unread=unread,
        seconds=duration(trial.seconds),
    )


def _judged(trial: TrialResult) -> list[Mapping[str, Any]]:
    return [flow for flow in trial.judgement.get("flows", ()) if isinstance(flow, Mapping)]


def _figures(
    trial: TrialResult, short: Mapping[str, str], bins: int
) -> tuple[tuple[FlowChart, ...], tuple[str, ...], tuple[str, ...], str]:
    if not bins:
        return (), (), (), "This run has too many trials for timelines within the page's size."
    if not (trial.directory / HEADER_FILE).exists():
        return (), (), (), "The history of this trial was not kept."
    try:
        timeline = timeline_of(History.load(trial.directory), bins=bins)
    except Misuse as error:
        _log.warning("no timeline of %s: %s", trial.name, error)
        return (), (), (), f"The history of this trial cannot be read: {error}"
    if timeline is None:
        return (), (), (), "The history of this trial holds no request."
    names = {**short_flows(series.flow for series in timeline.flows), **short}
    figures = tuple(
        FlowChart(names[series.flow], chart(timeline, series, name=names[series.flow]), series.said)
        for series in sorted(timeline.flows, key=lambda series: (series.flow.endswith("]"), series.flow))
    )
    causes = tuple(dict.fromkeys(cause for series in timeline.flows for cause in series.causes))
    return figures, describe_marks(timeline.marks), causes, ""


def describe_marks(marks: Iterable[Mark]) -> tuple[str, ...]:
    """Return a line for each event, with its time; repeats are counted in the line of the first."""
    times: dict[str, list[float]] = {}
    for mark in marks:
        times.setdefault(mark.text, []).append(mark.at)
    return tuple(
        f"{at[0]:+.2f} s: {text}" + (f" ({len(at)} times, until {at[-1]:+.2f} s)" if len(at) > 1 else "")
        for text, at in times.items()
    )


def stressed(text: str) -> Markup:
    """Return the text, escaped, with what stands between `*` emphasised: as Markdown reads it."""
    return Markup(_STRESS.sub(r"<em>\1</em>", str(escape(text))))


def _row(flow: Mapping[str, Any], short: Mapping[str, str]) -> FlowRow:
    name, share, finding = str(flow["flow"]), flow.get("expected_share"), str(flow.get("finding", DASH))
    predicted = "nothing" if share is None else "hurt" if share > 0 else "not hurt"
    if share is None and finding != "hurt":  # what was not asked is not answered: no doubt is left by it
        finding = "not judged"
    shifts = {shift["quantile"]: shift for shift in flow.get("shifts") or ()}
    recovered, lost, out = flow.get("recovered_after"), flow.get("requests_lost"), flow.get("outage")
    return FlowRow(
        name=short.get(name, name),
        title=name,
        share=DASH if share is None else f"{100 * share:.0f} %",
        predicted=predicted,
        observed=finding,
        contradiction={finding, predicted} == {"hurt", "not hurt"},
        errors=_effect(flow.get("errors")),
        slow=_effect(flow.get("slow")),
        lost=measure_text(lost) if lost else DASH,
        outage=measure_text(out) if out else DASH,
        recovered=measure_text(recovered) if recovered else DASH,
        p50=_shift(shifts, 0.5),
        p99=_shift(shifts, 0.99),
        why="" if finding == "not judged" else str(flow.get("why") or ""),
    )


def _effect(effect: Mapping[str, Any] | None) -> str:
    if not effect or any(effect.get(key) is None for key in ("change", "low", "high")):
        return DASH
    values = [100 * effect[key] for key in ("change", "low", "high")]
    if values[1] <= -100 and values[2] >= 100:  # nothing is known
        return DASH
    step = resolution(values[1], values[2], least=0.1, most=1.0)
    change, low, high = (spell(value, step, sign=True) for value in values)
    return f"{change} ({low} to {high})"


def _shift(shifts: Mapping[float, Mapping[str, Any]], quantile: float) -> str:
    shift = next((found for known, found in shifts.items() if abs(known - quantile) < 1e-6), None)
    if shift is None or shift.get("baseline") is None or shift.get("fault") is None:
        return DASH
    return f"{milliseconds(shift['baseline'])} → {milliseconds(shift['fault'])}"
