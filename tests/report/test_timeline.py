"""A history in few enough numbers to draw, and the drawing of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from chaos.history.model import Event, EventKind
from chaos.history.store import History
from chaos.names import SYSTEM_NAMESPACE
from chaos.report.charts import ceiling, chart, ticks
from chaos.report.page import describe_marks
from chaos.report.timeline import Mark, Timeline, bin_width, detect_restart, marks_of, timeline_of
from tests.report.synthetic import BASELINE, FAULT, RECOVERY, make_trial


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History.load(make_trial(tmp_path_factory.mktemp("run"), "node"))


@pytest.fixture(scope="module")
def timeline(history: History) -> Timeline:
    found = timeline_of(history, bins=160)
    assert found is not None
    return found


def test_no_request_is_lost_in_the_bins_and_sentinels_are_left_out(history: History, timeline: Timeline) -> None:
    assert [series.flow for series in timeline.flows] == [f"tenant-{t}/client -> tenant-{t}/server" for t in "abc"]
    for number, flow in enumerate(f for f in history.flows if not f.sentinel):
        counted = (timeline.flows[number].rate * np.diff(timeline.edges)).sum()
        assert round(counted) == int((history.samples["flow"] == history.flows.index(flow)).sum())


def test_time_counts_from_the_fault(timeline: Timeline) -> None:
    assert timeline.faults == [(0.0, FAULT)]
    assert timeline.span[0] == pytest.approx(-BASELINE)
    assert timeline.span[1] == pytest.approx(FAULT + RECOVERY, abs=0.2)


def test_errors_stand_in_the_fault_and_nowhere_else(timeline: Timeline) -> None:
    inside = (timeline.edges[:-1] >= 0) & (timeline.edges[1:] <= FAULT + 1e-9)
    whole, half, none = (sum(series.causes.values(), np.zeros(len(inside))) for series in timeline.flows)
    assert whole[inside] == pytest.approx(1.0)
    assert whole[~inside].max() == 0
    assert 0.3 < half[inside].mean() < 0.7
    assert none.max() == 0


def test_latency_is_that_of_answers_and_unknown_where_none_came(timeline: Timeline) -> None:
    latency = timeline.flows[0].latency
    inside = (timeline.edges[:-1] >= 0) & (timeline.edges[1:] <= FAULT + 1e-9)
    assert np.isnan(latency[:, inside]).all()
    assert (latency[0, ~inside] <= latency[1, ~inside]).all()
    assert latency[0, ~inside].mean() == pytest.approx(2.0, rel=0.1)


def test_the_restart_is_marked_at_its_instant(timeline: Timeline) -> None:
    assert [(mark.kind, mark.at) for mark in timeline.marks] == [("fault", 0.0), ("restart", 0.5), ("fault", 1.0)]


@pytest.mark.parametrize("bins", [160, 50, 16, 2])
def test_there_are_never_more_bins_than_asked_for(history: History, bins: int) -> None:
    found = timeline_of(history, bins=bins)
    assert found is not None
    assert len(found.edges) - 1 <= bins + 1  # a bin may be cut in two by the fault's begin


@pytest.mark.parametrize(
    ("seconds", "bins", "width"), [(12, 160, 0.1), (60, 160, 0.5), (3600, 160, 30.0), (3600, 10, 420.0)]
)
def test_bins_are_as_narrow_as_their_number_allows(seconds: float, bins: int, width: float) -> None:
    assert bin_width(seconds, bins) == pytest.approx(width)


def test_a_history_without_requests_has_no_timeline(tmp_path: Path) -> None:
    directory = make_trial(tmp_path, "node")
    (directory / "samples.arrows").unlink()
    assert timeline_of(History.load(directory), bins=160) is None


def test_what_is_drawn_lies_within_the_chart(timeline: Timeline) -> None:
    for series in timeline.flows:
        svg = str(chart(timeline, series, name="x"))
        for path in re.findall(r' d="([^"]*)"', svg):
            for command, *numbers in re.findall(r"([MLHV])(-?[\d.]+)(?: (-?[\d.]+))?", path):
                x, y = {"H": (numbers[0], "0"), "V": ("0", numbers[0])}.get(command, (numbers[0], numbers[1] or "0"))
                assert 0 <= float(x) <= 360
                assert 0 <= float(y) <= 216


def test_the_areas_of_a_chart_are_as_large_as_their_counts(timeline: Timeline) -> None:
    def area(name: str) -> float:
        found = re.search(rf'class="{name}" d="([^"]*)"', svg)
        total = 0.0
        for part in (found.group(1) if found else "").split("Z")[:-1]:
            points, x, y = [], 0.0, 0.0
            for command, first, second in re.findall(r"([MHV])(-?\d+)(?: (-?\d+))?", part):
                x, y = {"M": (float(first), float(second or 0)), "H": (float(first), y), "V": (x, float(first))}[
                    command
                ]
                points.append((x, y))
            total += (
                abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, [*points[1:], points[0]], strict=True))) / 2
            )
        return total

    svg = str(chart(timeline, timeline.flows[0], name="x"))
    failed = sum(area(f"cause cause-{cause}") for cause in ("refused", "timeout"))
    assert failed / (failed + area("answered")) == pytest.approx(FAULT / (BASELINE + FAULT + RECOVERY), rel=0.1)


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (201, 250), (180, 200), (0.3, 0.5), (1001, 2000)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert ceiling(value) == pytest.approx(top)


def test_ticks_are_round_and_within() -> None:
    assert ticks(-6, 6) == [-5.0, -2.5, 0.0, 2.5, 5.0]


def test_a_container_that_starts_is_no_restart_and_one_that_comes_back_or_ends_is() -> None:
    running = {"state": "running", "restarts": 0, "ready": False}
    assert detect_restart(None, running) == ""
    assert detect_restart({"state": "waiting", "restarts": 0}, running) == ""
    assert detect_restart(running, {**running, "ready": True}) == ""
    again = {**running, "restarts": 1, "last_reason": "OOMKilled"}
    assert detect_restart(running, again) == "restarted (1 time, after OOMKilled)"
    assert (
        detect_restart(running, {"state": "terminated", "reason": "Error", "exit_code": 137})
        == "ended (Error, exit code 137)"
    )
    assert detect_restart(running, {"state": "gone"}) == "gone"


def test_what_happens_again_is_counted_in_one_line() -> None:
    marks = [
        Mark(0.0, "fault", "pause injected"),
        Mark(1.2, "restart", "Unhealthy Pod/x"),
        Mark(2.0, "restart", "Killing Pod/y"),
        Mark(3.4, "restart", "Unhealthy Pod/x"),
    ]
    assert describe_marks(marks) == (
        "+0.00 s: pause injected",
        "+1.20 s: Unhealthy Pod/x (2 times, until +3.40 s)",
        "+2.00 s: Killing Pod/y",
    )


def test_the_tools_own_helper_pods_are_no_part_of_the_story() -> None:
    def ended(namespace: str, pod: str) -> Event:
        data = {"namespace": namespace, "pod": pod, "uid": pod, "container": "main", "state": "gone"}
        return Event(1, EventKind.CONTAINER, data)

    told_of = {"namespace": SYSTEM_NAMESPACE, "object": "Pod/helper-kill-1", "reason": "Killing", "message": "x"}
    events = [
        ended(SYSTEM_NAMESPACE, "helper-kill-1a2b"),
        Event(2, EventKind.KUBERNETES, told_of),
        ended(SYSTEM_NAMESPACE, "node-proxy-x"),
        ended("shop", "helper-desk"),  # somebody's application
    ]
    assert [mark.text for mark in marks_of(events, 0)] == [
        f"{SYSTEM_NAMESPACE}/node-proxy-x[main] gone",
        "shop/helper-desk[main] gone",
    ]
