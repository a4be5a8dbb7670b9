"""What a client left of its last calls is read, and said in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from chaos.engine.closing import AfterKill, ClosingSeen, judge_after_kill, parse_report, predict_after_kill
from chaos.errors import ExperimentFailure
from chaos.kube.objects import ContainerSeen
from chaos.model.modes import MODES
from chaos.verdict import Verdict
from chaos.verdict.check import merged

BEFORE: Final[dict[str, Any]] = {"ok": 10, "failed": 0, "first_failed": None, "last_ok": 1.0, "errors": {}}
REFUSED: Final = {"ConnectionRefusedError": 39}
AFTER: Final[dict[str, Any]] = {"ok": 1, "failed": 39, "first_failed": 0.12, "last_ok": 0.05, "errors": REFUSED}


def test_a_report_is_read() -> None:
    seen = parse_report(json.dumps({"before": BEFORE, "after": AFTER}))
    assert seen == ClosingSeen(10, 0, 1, 39, 0.12, REFUSED, 0.05)
    assert seen.last_calls() == (
        "1 of 40 calls after SIGTERM were answered; the first was lost 0.1 s after it (39 ConnectionRefusedError)"
    )


@pytest.mark.parametrize("left", ["", "Traceback", "[]", "{}", '{"before": 1}', '{"before": {}, "after": {}}'])
def test_a_client_that_left_no_report_is_no_result(left: str) -> None:
    with pytest.raises(ExperimentFailure, match="before it could tell"):
        parse_report(left)


@pytest.mark.parametrize(
    ("mode", "predicted"),
    [
        ("none", AfterKill.ANSWERED),
        ("native-sidecar", AfterKill.LOST),
        ("node", AfterKill.BACK),
        ("ambient-namespace", AfterKill.BACK),
        ("ambient-node", AfterKill.BACK),
        ("ambient-pod", AfterKill.BACK),
    ],
)
def test_a_proxy_that_is_killed_while_its_client_ends_comes_back_where_it_is_not_of_its_pod(
    mode: str, predicted: AfterKill
) -> None:
    assert predict_after_kill(MODES[mode]) is predicted


def proxy_at_the_end(state: str, restarts: int) -> ContainerSeen:
    return ContainerSeen("t", "p", "u", "n", "proxy", True, state, "", 137, None, restarts, "id", False, "", None)


DOWN = {"proxy": proxy_at_the_end("terminated", 0)}
UP = {"proxy": proxy_at_the_end("running", 1)}
LOST_TO_THE_END = ClosingSeen(10, 0, 20, 60, 1.5, REFUSED, last_ok=1.4, containers=DOWN)
OUT_AND_BACK = ClosingSeen(10, 0, 70, 10, 1.5, REFUSED, last_ok=8.9, containers=UP)
UNTOUCHED = ClosingSeen(10, 0, 80, 0, None, {}, last_ok=8.9)


@pytest.mark.parametrize(
    ("seen", "predicted", "killed", "container", "verdict"),
    [
        (LOST_TO_THE_END, AfterKill.LOST, True, "proxy", Verdict.PASS),
        (OUT_AND_BACK, AfterKill.LOST, True, "proxy", Verdict.FAIL),  # it was restarted
        (replace(LOST_TO_THE_END, containers=UP), AfterKill.LOST, True, "proxy", Verdict.FAIL),
        (replace(LOST_TO_THE_END, containers={}), AfterKill.LOST, True, "proxy", Verdict.FAIL),  # nobody saw it
        (LOST_TO_THE_END, AfterKill.LOST, False, "proxy", Verdict.FAIL),  # it ended with its client
        (replace(LOST_TO_THE_END, after_ok=0, last_ok=None), AfterKill.LOST, True, "proxy", Verdict.FAIL),
        (UNTOUCHED, AfterKill.LOST, True, "proxy", Verdict.FAIL),
        (OUT_AND_BACK, AfterKill.BACK, True, "", Verdict.PASS),
        (LOST_TO_THE_END, AfterKill.BACK, True, "", Verdict.FAIL),
        (UNTOUCHED, AfterKill.BACK, True, "", Verdict.FAIL),
        (UNTOUCHED, AfterKill.ANSWERED, True, "", Verdict.PASS),
        (OUT_AND_BACK, AfterKill.ANSWERED, True, "", Verdict.FAIL),
    ],
)
def test_last_calls_are_held_against_what_was_predicted(
    seen: ClosingSeen, predicted: AfterKill, killed: bool, container: str, verdict: Verdict
) -> None:
    assert merged(judge_after_kill(seen, predicted, killed=killed, container=container)) is verdict
