"""A server that leaves while it is called: what is predicted of its requests, and how what was seen is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chaos.engine.leaving import Known, LeavingSeen, Loss, predict_loss
from chaos.external.modes import mode_named
from chaos.history.model import NO_POD, SAMPLE, Outcome, Samples
from chaos.model.modes import MODES
from chaos.verdict import Verdict
from chaos.verdict.check import merged

SLOWED = Known(2.0, 3.0)
QUICK = Known(0.0, 3.0)


@pytest.mark.parametrize(
    ("mode", "known", "at_once", "late"),
    [
        ("none", QUICK, Loss.UNSAID, Loss.NONE),
        ("sidecar", SLOWED, Loss.SOME, Loss.SOME),
        ("native-sidecar", SLOWED, Loss.SOME, Loss.NONE),
        ("node", SLOWED, Loss.SOME, Loss.NONE),
        ("ambient-namespace", SLOWED, Loss.SOME, Loss.NONE),
        ("ambient-node", SLOWED, Loss.SOME, Loss.NONE),
        ("ambient-pod", SLOWED, Loss.SOME, Loss.NONE),
    ],
)
def test_a_server_that_waits_loses_nothing_where_its_path_waits_too(
    mode: str, known: Known, at_once: Loss, late: Loss
) -> None:
    assert Known.of(MODES[mode], delay=2.0) == known
    assert predict_loss(MODES[mode], pre_stop=0.0, known=known) is at_once
    assert predict_loss(MODES[mode], pre_stop=4.0, known=known) is late


@pytest.mark.parametrize(
    ("mode", "at_once", "late"),
    [
        ("linkerd", Loss.UNSAID, Loss.NONE),
        ("linkerd-classic", Loss.UNSAID, Loss.UNSAID),  # its proxy goes at once: nobody knows who is quicker
        ("istio-sidecar-classic", Loss.UNSAID, Loss.NONE),  # its proxy drains for longer than anybody needs
        ("istio-ambient", Loss.UNSAID, Loss.NONE),
    ],
)
def test_of_an_installed_mesh_only_what_no_race_decides_is_predicted(mode: str, at_once: Loss, late: Loss) -> None:
    row = mode_named(mode)
    known = Known.of(row, delay=0.0)
    assert predict_loss(row, pre_stop=0.0, known=known) is at_once
    assert predict_loss(row, pre_stop=4.0, known=known) is late


@pytest.mark.parametrize(
    ("drains", "pre_stop", "expected"),
    [
        (0.0, 60.0, Loss.SOME),
        (1.9, 60.0, Loss.SOME),
        (2.5, 60.0, Loss.UNSAID),
        (3.0, 60.0, Loss.NONE),
        (60.0, 1.0, Loss.SOME),  # the server itself is too quick
        (60.0, 3.0, Loss.NONE),
    ],
)
def test_what_ends_first_decides(drains: float, pre_stop: float, expected: Loss) -> None:
    assert predict_loss(replace(MODES["sidecar"], drains=drains), pre_stop=pre_stop, known=SLOWED) is expected


def samples(*rows: tuple[float, Outcome, int]) -> Samples:
    """Rows of (seconds after the beginning, outcome, the number of who answered)."""
    found = np.zeros(len(rows), dtype=SAMPLE)
    for index, (due, outcome, server) in enumerate(rows):
        found[index]["due"], found[index]["outcome"], found[index]["server"] = int(due * 1e9), outcome, server
    return found


def test_what_fell_due_before_the_server_was_told_to_end_does_not_count() -> None:
    rows = samples((0.5, Outcome.FAILED, NO_POD), (0.9, Outcome.OK, 1), (1.5, Outcome.OK, 2))
    assert LeavingSeen.read(rows, since=10**9, until=10**10, server=1) == LeavingSeen(1, 0, 0, None, None)


def test_each_servers_window_ends_by_itself() -> None:
    rows = samples((1.5, Outcome.FAILED, NO_POD), (2.5, Outcome.FAILED, NO_POD), (3.5, Outcome.FAILED, NO_POD))
    assert LeavingSeen.read(rows, since=10**9, until=3 * 10**9, server=1) == LeavingSeen(2, 2, 0, 1.5, None)


def test_lost_requests_and_those_that_reached_the_server_are_counted_with_their_times() -> None:
    rows = samples(
        (1.0, Outcome.OK, 1),
        (1.2, Outcome.UNKNOWN, NO_POD),
        (1.5, Outcome.OK, 1),
        (1.7, Outcome.FAILED, NO_POD),
        (9.0, Outcome.OK, 2),
    )
    assert LeavingSeen.read(rows, since=10**9, until=10**10, server=1) == LeavingSeen(5, 2, 2, 0.7, 0.5)
    assert LeavingSeen.read(rows, since=10**9, until=10**10, server=None) == LeavingSeen(5, 2, 0, 0.7, None)


SOUND = LeavingSeen(800, 0, 90, None, 2.1)
LOSING = LeavingSeen(800, 95, 0, 2.1, None)


@pytest.mark.parametrize(
    ("seen", "predicted", "verdict"),
    [
        (SOUND, Loss.NONE, Verdict.PASS),
        (SOUND, Loss.UNSAID, Verdict.PASS),
        (SOUND, Loss.SOME, Verdict.FAIL),
        (LOSING, Loss.SOME, Verdict.PASS),
        (LOSING, Loss.UNSAID, Verdict.PASS),
        (LOSING, Loss.NONE, Verdict.FAIL),
        (replace(LOSING, last_lost=7.9), Loss.SOME, Verdict.FAIL),  # somebody never knew
        (replace(LOSING, last_lost=7.9), Loss.UNSAID, Verdict.FAIL),
        (replace(SOUND, last_arrived=7.9), Loss.NONE, Verdict.FAIL),
        (LeavingSeen(0, 0, 0, None, None), Loss.NONE, Verdict.INCONCLUSIVE),
    ],
)
def test_what_was_seen_is_held_against_the_prediction(seen: LeavingSeen, predicted: Loss, verdict: Verdict) -> None:
    assert merged(seen.judge(predicted, name="leaves", known=SLOWED)) is verdict
