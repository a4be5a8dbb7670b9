"""Bars of trials: where the time of a run went."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.history.spans import Span, SpanKind, write_trace
from chaos.report import write_reports
from chaos.report.course import WIDTH, course_of
from tests.report.synthetic import make_run

SECOND = 1_000_000_000


def span(name: str, kind: SpanKind, begin: float, end: float, **facts: str) -> Span:
    return Span(name, kind, int(begin * SECOND), int(end * SECOND), 1, facts)


COURSE = [
    span("cluster", SpanKind.WAIT, 0, 2),
    span("trial", SpanKind.WORK, 2, 22, mode="node", scenario="proxy-killed"),
    span("deploy", SpanKind.WAIT, 2, 5),
    span("baseline", SpanKind.OBSERVATION, 5, 13),
    span("inject kill", SpanKind.FAULT, 13, 14),
    span("looks", SpanKind.OBSERVATION, 14, 20),
    span("judge", SpanKind.WORK, 20, 22),
    span("trial", SpanKind.WORK, 22, 32, mode="none", scenario="proxy-killed"),
    span("baseline", SpanKind.OBSERVATION, 24, 30),
    span("take down", SpanKind.WAIT, 32, 35),
    span("within", SpanKind.WAIT, 33, 34),
    span("take down", SpanKind.WAIT, 36, 37),
]


def test_a_bar_is_cut_by_what_its_time_was_spent_on_and_all_are_of_one_scale() -> None:
    course = course_of(COURSE, wall=40.0)
    assert course is not None
    first, second = course.bars
    assert [(part.name, part.left, part.width) for part in first.parts] == [
        ("deploy", 0, 150),
        ("baseline", 150, 400),
        ("inject kill", 550, 50),
        ("looks", 600, 300),
        ("judge", 900, 100),
    ]
    assert [(part.name, part.left, part.width) for part in second.parts] == [
        ("between steps", 0, 100),
        ("baseline", 100, 300),
        ("between steps", 400, 100),
    ]
    assert sum(part.width for part in second.parts) == WIDTH / 2
    assert second.said == ("proxy-killed[none], 10.0 s: between steps 2.0 s, baseline 6.0 s, between steps 2.0 s")


def test_the_sums_are_those_of_the_trials_and_what_lies_between_them_is_told_once() -> None:
    course = course_of(COURSE, wall=40.0)
    assert course is not None
    assert dict(course.totals) == {"observation": 20.0, "fault": 1.0, "wait": 3.0, "work": 6.0}
    assert course.outside == (("cluster", 2.0), ("take down", 4.0))
    assert course.ratio == 2.0


def test_trials_that_ran_beside_each_other_keep_their_own_spans() -> None:
    other = [Span(one.name, one.kind, one.begin + 1, one.end + 1, 2, one.facts) for one in COURSE]
    course = course_of([*COURSE, *other], wall=40.0)
    assert course is not None
    assert dict(course.totals)[SpanKind.OBSERVATION] == 40.0


@pytest.mark.parametrize("spans", [[], COURSE[:1]])
def test_a_run_without_a_traced_trial_has_no_course(spans: list[Span]) -> None:
    assert course_of(spans, wall=1.0) is None


def test_the_page_draws_a_bar_for_each_trial_of_a_traced_run_and_nothing_for_another(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node", "none"))
    assert "course" not in re.sub(
        r"<style>.*</style>", "", write_reports(tmp_path, seconds=40).html.read_text(), flags=re.S
    )
    write_trace(tmp_path, COURSE, run="cafe")
    text = write_reports(tmp_path, seconds=40).html.read_text()
    section = text[
        text.index('<section aria-labelledby="course">') : text.index('<section aria-labelledby="environment">')
    ]
    assert section.count("<rect ") == 8
    assert section.count('role="img" aria-label="proxy-killed[') == 2
    assert "The run took 2.00 times as long as was observed." in section
    assert "Between trials: cluster 2.0 s, take down 4.0 s." in section
