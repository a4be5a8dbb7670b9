"""Recovery is judged from the flows: who is not back after the undo, or is hurt by it, fails the trial."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chaos.history.model import Outcome
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import Expectation, FaultEvidence, HistoryView, Thresholds, Verdict, judge
from proof.synthetic import NANO, HarmDone, Noise, Plan, flows, view

A, B = flows(2)
FAST = Thresholds(bootstrap=0)
UNDONE, END = 16.0, 30.0  # s
PLAN = Plan(
    windows=((WindowKind.BASELINE, 0.0, 6.0), (WindowKind.FAULT, 6.0, UNDONE), (WindowKind.RECOVERY, UNDONE, END))
)
EXPECTED = Expectation({A: 1.0, B: 0.0}, fault_shape=FaultShape.HELD, recovery=True)


def seen(*lost: tuple[Flow, float, float, float]) -> HistoryView:
    """A sound trial, with more lost: (flow, from, until: seconds after the undo, share)."""
    found = view(np.random.default_rng(3), PLAN, Noise(), {A: HarmDone(error_share=1.0), B: HarmDone()})
    undone = found.windows_of(WindowKind.RECOVERY)[0].begin
    rows = dict(found.flows)
    for flow, begin, end, share in lost:
        samples = rows[flow].copy()
        after = (samples["due"] - undone) / NANO
        event = (after >= begin) & (after < end) & (np.random.default_rng(4).random(len(samples)) < share)
        samples["outcome"][event] = Outcome.UNKNOWN
        rows[flow] = samples
    evidence = FaultEvidence(effect_seen=True, recovered=True, injected=found.windows[1].begin, restored=undone)
    return replace(found, flows=rows, evidence=evidence)


@pytest.mark.parametrize(
    ("lost", "verdict", "sentence"),
    [
        ([], Verdict.PASS, "as expected"),
        ([(A, 0.0, 2.0, 1.0)], Verdict.PASS, "as expected"),  # back after two seconds
        ([(A, 0.0, 9.0, 0.5)], Verdict.PASS, "as expected"),  # and in time
        ([(A, 0.0, 99.0, 0.82)], Verdict.FAIL, f"{A} did not recover"),
        ([(A, 0.0, 99.0, 0.1)], Verdict.FAIL, f"{A} did not recover"),
        ([(A, 4.0, 99.0, 1.0)], Verdict.FAIL, f"{A} did not recover"),  # came back, and did not stay
        ([(A, 0.0, 12.5, 1.0)], Verdict.FAIL, f"{A} did not recover"),  # too late
        ([(A, 11.5, 13.5, 1.0)], Verdict.INCONCLUSIVE, f"{A} was not seen back"),  # a burst of its own, as it may be
        ([(B, 0.0, 99.0, 0.3)], Verdict.FAIL, f"{B} was hurt by the undo"),
        ([(B, 0.0, 99.0, 0.07)], Verdict.FAIL, f"{B} was hurt by the undo"),
        ([(B, 11.5, 14.0, 1.0)], Verdict.INCONCLUSIVE, f"{B} was not seen back"),
        ([(B, 0.0, 1.5, 1.0)], Verdict.FAIL, f"{B} was hurt by the undo"),  # although it is back
        ([(B, 2.0, 8.0, 1.0)], Verdict.FAIL, f"{B} was hurt by the undo"),
        ([(B, 5.0, 8.0, 1.0)], Verdict.INCONCLUSIVE, f"{B} was not seen back"),  # a burst of its own may last so long
        ([(B, 3.0, 3.6, 1.0)], Verdict.INCONCLUSIVE, f"{B} was not seen back"),
        ([(A, 0.0, 99.0, 0.02)], Verdict.INCONCLUSIVE, f"{A} was not seen back"),
    ],
)
def test_every_flow_must_be_seen_back_after_the_undo(
    lost: list[tuple[Flow, float, float, float]], verdict: Verdict, sentence: str
) -> None:
    judgement = judge(seen(*lost), EXPECTED, FAST)
    assert (judgement.verdict, sentence in judgement.reason) == (verdict, True), judgement.reason
    assert judgement.recovered is (verdict is Verdict.PASS)


def test_what_a_spared_flow_lost_in_the_hold_makes_the_claim_against_the_undo_harder() -> None:
    after = (B, 0.0, 99.0, 0.05)
    assert f"{B} was hurt by the undo" in judge(seen(after), EXPECTED, FAST).reason
    before = judge(seen((B, -10.0, 0.0, 0.03), after), EXPECTED, FAST)
    assert f"{B} was not seen back" in before.reason, before.reason


def test_a_return_that_was_not_watched_is_not_known() -> None:
    whole = seen()
    undone = whole.windows_of(WindowKind.RECOVERY)[0].begin
    until = undone + 1 * NANO
    rows = {flow: samples[samples["due"] < until] for flow, samples in whole.flows.items()}
    judgement = judge(replace(whole, flows=rows, until=until), EXPECTED, FAST)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not seen back" in judgement.reason


@pytest.mark.parametrize(
    ("watched", "verdict"),
    [
        (None, Verdict.INCONCLUSIVE),  # the whole history is the watch
        ((0.0, 11.5), Verdict.PASS),  # seen back by a look: the moments in which the trial ends are asked nothing
        ((0.0, 13.0), Verdict.INCONCLUSIVE),
        ((0.0, 2.0), Verdict.INCONCLUSIVE),  # too short to have seen anybody stay
        ((-12.0, 11.5), Verdict.INCONCLUSIVE),  # after an earlier fault: says nothing of this one
    ],
)
def test_what_comes_after_the_watch_does_not_unsay_what_it_saw(
    watched: tuple[float, float] | None, verdict: Verdict
) -> None:
    found = seen((A, 11.5, 13.5, 1.0))
    undone = found.windows_of(WindowKind.RECOVERY)[0].begin
    if watched is not None:
        begin, end = (undone + round(seconds * NANO) for seconds in watched)
        found = replace(found, windows=(*found.windows, Window(WindowKind.WATCH, begin, end)))
    assert judge(found, EXPECTED, FAST).verdict is verdict


def test_the_time_to_recover_comes_from_the_flows() -> None:
    judgement = judge(seen((A, 0.0, 2.0, 1.0)), EXPECTED, FAST)
    assert judgement.measures["time to recover"].value == pytest.approx(2.0, abs=0.05)


def test_harm_that_comes_late_in_a_held_fault_is_seen_whatever_was_claimed_before() -> None:
    found = seen((B, -5.0, 0.0, 1.0))  # sound for the first five of ten seconds
    judgement = judge(found, EXPECTED, FAST)
    assert judgement.verdict is Verdict.FAIL
    assert f"{B} was hurt" in judgement.reason


def test_a_fault_that_its_second_witness_did_not_see_is_inconclusive() -> None:
    found = seen()
    judgement = judge(
        replace(found, evidence=replace(found.evidence, doubt="the container runs on as the same")), EXPECTED, FAST
    )
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not seen to act: the container runs on as the same" in judgement.reason
