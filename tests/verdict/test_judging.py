"""The judge against histories whose truth is known, and broken histories that it must not call green."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from chaos.errors import Misuse
from chaos.history.model import NO_POD, SAMPLE, Cause, Event, EventKind, Flag, Outcome
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import (
    Expectation,
    FaultEvidence,
    Finding,
    Harm,
    HistoryView,
    Judgement,
    Thresholds,
    Verdict,
    judge,
    merge,
    view_from,
)
from chaos.verdict import judging as rules
from proof.synthetic import EPOCH, NANO, HarmDone, Noise, Plan, flows, switchback, view

A, B, C = flows(3)
NONE, DEAD, HALF = HarmDone(), HarmDone(error_share=1.0), HarmDone(error_share=0.5)
FAST = Thresholds(bootstrap=0)
PULSE = Plan(windows=((WindowKind.BASELINE, 0.0, 6.0), (WindowKind.FAULT, 6.0, 6.5), (WindowKind.RECOVERY, 6.5, 40.0)))
KILLED = Expectation({A: 1.0, B: 0.5, C: 0.0}, harm=Harm.ERRORS, fault_shape=FaultShape.PULSE)
HELD = Expectation({A: 1.0, B: 0.5, C: 0.0})


def history(harms: dict[Flow, HarmDone], *, plan: Plan | None = None, noise: Noise | None = None) -> HistoryView:
    return view(np.random.default_rng(1), plan or Plan(), noise or Noise(), harms)


def findings(judgement: Judgement) -> dict[Flow, Finding]:
    return {flow.flow: flow.finding for flow in judgement.flows}


def change(seen: HistoryView, flow: Flow, **columns: object) -> HistoryView:
    samples = seen.flows[flow].copy()
    for name, value in columns.items():
        samples[name] = value
    return replace(seen, flows={**seen.flows, flow: samples})


def without(seen: HistoryView, flow: Flow) -> HistoryView:
    return replace(seen, flows={key: value for key, value in seen.flows.items() if key != flow})


# What must be green, and how fast


def test_a_held_fault_that_hurts_its_fate_group_alone_passes_once_it_was_watched_to_its_end() -> None:
    judgement = judge(history({A: DEAD, B: HALF, C: NONE}), HELD, FAST)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert findings(judgement) == {A: Finding.HURT, B: Finding.HURT, C: Finding.NOT_HURT}
    assert (judgement.look, judgement.seconds, judgement.done) == (7, 30.0, True)
    assert judgement.flows[0].decided_after == 0.25
    assert judgement.observed(Finding.HURT) == [str(A), str(B)]


def test_a_pulse_of_half_a_second_passes_and_its_losses_are_counted() -> None:
    judgement = judge(history({A: DEAD, B: HALF, C: NONE}, plan=PULSE), KILLED, FAST)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    lost = judgement.flows[0].requests_lost
    assert lost is not None
    assert lost.low <= 100 <= lost.high + 1e-9
    assert judgement.measures["time to detect"].value <= 0.5
    assert judgement.measures["time to recover"].value < 0.1
    assert judgement.measures["outage"].value == pytest.approx(0.5, abs=0.02)


def test_nobody_hurt_and_nobody_expected_passes() -> None:
    judgement = judge(history({A: NONE, B: NONE}), Expectation.nobody([A, B]), FAST)
    assert judgement.verdict is Verdict.PASS
    assert "not hurt" in judgement.reason


def test_switchback_sees_a_slowdown_through_a_drift_that_is_larger() -> None:
    expected = Expectation({A: 1.0, B: 0.0}, harm=Harm.SLOW, fault_shape=FaultShape.GRADUAL)
    harms = {A: HarmDone(slow_factor=2.5), B: NONE}
    judgement = judge(history(harms, plan=switchback(), noise=Noise(drift=1.6)), expected, FAST)
    assert judgement.verdict is Verdict.PASS, judgement.reason


# What must be red


def test_a_bystander_that_is_hurt_fails() -> None:
    judgement = judge(history({A: DEAD, B: HALF, C: HarmDone(error_share=0.2)}), HELD, FAST)
    assert judgement.verdict is Verdict.FAIL
    assert str(C) in judgement.reason
    assert "none of its pairs" in judgement.reason


def test_a_bystander_of_a_pulse_that_shares_its_fate_fails() -> None:
    judgement = judge(history({A: DEAD, B: HALF, C: HALF}, plan=PULSE), KILLED, FAST)
    assert judgement.verdict is Verdict.FAIL
    assert str(C) in judgement.reason


def test_a_shared_proxy_whose_death_hurts_nobody_fails_too() -> None:
    judgement = judge(history({A: DEAD, B: NONE, C: NONE}), HELD, FAST)
    assert judgement.verdict is Verdict.FAIL
    assert f"{B} was not hurt" in judgement.reason


def test_a_flow_that_is_hurt_far_more_than_its_share_fails() -> None:
    judgement = judge(history({A: DEAD}), Expectation({A: 0.25}), FAST)
    assert judgement.verdict is Verdict.FAIL
    assert "25 % of its pairs" in judgement.reason


def test_a_flow_that_is_hurt_far_less_than_its_share_fails() -> None:
    judgement = judge(history({A: HarmDone(error_share=0.1), C: NONE}), Expectation({A: 1.0, C: 0.0}), FAST)
    assert judgement.verdict is Verdict.FAIL
    assert "100 % of its pairs" in judgement.reason


def test_harm_of_another_kind_than_expected_fails() -> None:
    expected = Expectation({A: 1.0}, harm=Harm.ERRORS)
    judgement = judge(history({A: HarmDone(slow_factor=5.0)}), expected, FAST)
    assert judgement.verdict is Verdict.FAIL
    assert "not as expected" in judgement.reason


def test_a_fault_that_is_never_undone_fails() -> None:
    seen = history({A: DEAD, B: HALF, C: NONE})
    seen = replace(seen, evidence=replace(seen.evidence, recovered=False))
    assert judge(seen, HELD, FAST).verdict is Verdict.FAIL


def test_requests_that_hang_are_harm_before_they_time_out() -> None:
    seen = history({A: NONE, C: NONE})
    samples = seen.flows[A]
    hangs = (samples["due"] >= seen.windows[1].begin) & (samples["due"] < seen.windows[1].end)
    done = np.where(hangs, samples["due"] + 10 * NANO, samples["done"])
    seen = change(seen, A, done=done, outcome=np.where(hangs, Outcome.UNKNOWN, Outcome.OK))
    first = judge(seen, Expectation({A: 1.0, C: 0.0}), FAST, look=0)
    assert findings(first)[A] is Finding.HURT
    assert first.flows[0].errors.finding is not Finding.NOT_HURT


def test_a_few_hanging_requests_are_not_hidden_by_looking_early() -> None:
    seen = history({A: NONE})
    samples = seen.flows[A]
    hangs = (samples["due"] >= seen.windows[1].begin) & (np.arange(len(samples)) % 25 == 0)
    done = np.where(hangs, samples["due"] + 60 * NANO, samples["done"])
    judgement = judge(change(seen, A, done=done), Expectation.nobody([A]), FAST)
    assert judgement.flows[0].errors.finding is not Finding.NOT_HURT
    assert judgement.verdict is not Verdict.PASS


# What must be inconclusive, never green


def _no_requests(seen: HistoryView) -> HistoryView:
    return replace(seen, flows={**seen.flows, C: np.empty(0, SAMPLE)})


def _no_evidence(seen: HistoryView) -> HistoryView:
    return replace(seen, evidence=FaultEvidence(effect_seen=False, recovered=True))


def _no_baseline(seen: HistoryView) -> HistoryView:
    return replace(seen, windows=tuple(w for w in seen.windows if w.kind is not WindowKind.BASELINE))


def _no_fault(seen: HistoryView) -> HistoryView:
    return replace(seen, windows=tuple(w for w in seen.windows if w.kind is not WindowKind.FAULT))


def _short_baseline(seen: HistoryView) -> HistoryView:
    first = seen.windows[0]
    return replace(seen, windows=(replace(first, begin=first.end - 4 * NANO), *seen.windows[1:]))


def _silent_in_the_fault(seen: HistoryView) -> HistoryView:
    samples = seen.flows[C]
    return replace(seen, flows={**seen.flows, C: samples[samples["due"] < seen.windows[1].begin]})


def _stopped_before_the_first_look(seen: HistoryView) -> HistoryView:
    return replace(seen, until=seen.windows[1].begin + NANO // 5)


def _late_loader(seen: HistoryView) -> HistoryView:
    flags = np.where(np.arange(len(seen.flows[C])) % 5 == 0, Flag.LATE, 0)
    return change(seen, C, flags=flags)


def _stamped_as_answered(seen: HistoryView) -> HistoryView:
    """A loader's own word for what nobody answered: its failures are *ok*, and name no server."""
    samples = seen.flows[A].copy()
    failed = samples["outcome"] != Outcome.OK
    samples["outcome"][failed], samples["cause"][failed], samples["server"][failed] = Outcome.OK, Cause.NONE, NO_POD
    samples["done"][failed] = samples["due"][failed] + 2_000_000
    return replace(seen, flows={**seen.flows, A: samples})


def _one_stamped_sentinel(seen: HistoryView) -> HistoryView:
    sentinel = Flow(A.client, A.server, sentinel=True)
    return change(seen, sentinel, server=np.where(np.arange(len(seen.flows[sentinel])) == 3, NO_POD, 0))


def _no_such_flow(seen: HistoryView) -> HistoryView:
    return without(seen, C)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_requests, "no request"),
        (_no_evidence, "no evidence"),
        (_no_baseline, "no baseline"),
        (_no_fault, "no fault window"),
        (_short_baseline, "baseline lasted 4.0 s"),
        (_silent_in_the_fault, "0 requests in the fault window"),
        (_stopped_before_the_first_look, "no look yet"),
        (_late_loader, "loader itself was late"),
        (_stamped_as_answered, "name no server that gave them"),
        (_one_stamped_sentinel, "1 of"),
        (_no_such_flow, "no request"),
    ],
)
def test_a_history_that_cannot_be_judged_is_inconclusive_and_says_why(spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    good = history({A: DEAD, B: HALF, C: NONE})
    assert judge(good, HELD, FAST).verdict is Verdict.PASS
    judgement = judge(spoil(good), HELD, FAST)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert says in judgement.reason


def test_applications_that_never_say_who_answered_are_judged_all_the_same() -> None:
    good = history({A: DEAD, B: HALF, C: NONE})
    unnamed = {flow: change(good, flow, server=NO_POD).flows[flow] for flow in good.flows}
    assert judge(replace(good, flows=unnamed), HELD, FAST).verdict is Verdict.PASS


def test_an_expectation_of_nothing_is_inconclusive() -> None:
    assert judge(history({A: NONE}), Expectation({}), FAST).verdict is Verdict.INCONCLUSIVE
    only_exempt = Expectation({A: 0.0}, exempt=frozenset({A}))
    assert judge(history({A: NONE}), only_exempt, FAST).verdict is Verdict.INCONCLUSIVE


def test_a_judge_that_crashes_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> list[object]:
        raise ZeroDivisionError("a broken judge")

    monkeypatch.setattr(rules, "plan_looks", broken)
    judgement = judge(history({A: NONE}), Expectation.nobody([A]), FAST)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "a broken judge" in judgement.reason


def test_a_machine_that_stalls_for_everybody_is_not_a_proxys_harm() -> None:
    seen = history({A: NONE, C: NONE}, noise=Noise(step=5))
    judgement = judge(seen, Expectation.nobody([A, C]), FAST)
    assert judgement.verdict is Verdict.INCONCLUSIVE, judgement.reason
    assert "machine trouble" in judgement.reason
    alone = replace(
        seen, flows={flow: rows for flow, rows in seen.flows.items() if not flow.sentinel}, until=seen.windows[1].end
    )
    blind = judge(alone, Expectation.nobody([A, C]), FAST)
    assert blind.verdict is Verdict.FAIL, "without the sentinel the same history must look like harm"
    assert blind.notes


def test_plain_refusals_are_hurt_even_while_the_sentinel_is_slow() -> None:
    judgement = judge(history({A: DEAD}, noise=Noise(step=1.7)), Expectation({A: 1.0}), FAST)
    assert findings(judgement)[A] is Finding.HURT


def timing_out(seen: HistoryView, flow: Flow) -> HistoryView:
    """What failed in a flow did so by running out of time."""
    samples = seen.flows[flow]
    failed = samples["outcome"] != Outcome.OK
    return change(
        seen,
        flow,
        cause=np.where(failed, Cause.TIMEOUT, Cause.NONE),
        done=np.where(failed, samples["due"] + NANO, samples["done"]),
    )


def stalled(seen: HistoryView, flow: Flow, *, seconds: float) -> HistoryView:
    """The flow's client was slow from the fault's begin on, for so long."""
    sentinel = replace(flow, sentinel=True)
    samples, begin = seen.flows[sentinel], seen.windows_of(WindowKind.FAULT)[0].begin
    during = (samples["due"] >= begin) & (samples["due"] < begin + seconds * NANO)
    return change(seen, sentinel, done=np.where(during, samples["due"] + NANO // 5, samples["done"]))


def test_time_outs_are_harm_while_the_machine_is_well() -> None:
    judgement = judge(timing_out(history({A: DEAD}), A), Expectation({A: 1.0}), FAST)
    assert findings(judgement)[A] is Finding.HURT


def test_time_outs_that_began_with_a_stall_of_the_machine_are_not_a_proxys_harm_even_when_it_is_over() -> None:
    """Recorded so: all proxies of three tenants went on timing out for seconds after the machine had stood still for
    one.
    """
    seen = stalled(timing_out(history({A: DEAD}), A), A, seconds=0.5)
    judgement = judge(seen, Expectation.nobody([A]), FAST)
    assert findings(judgement)[A] is Finding.INCONCLUSIVE
    assert "without requests that ran out of time" in judgement.flows[0].errors.why
    assert judgement.seconds == FAST.looks[-1]
    blind = judge(without(seen, replace(A, sentinel=True)), Expectation.nobody([A]), FAST)
    assert findings(blind)[A] is Finding.HURT, "without the sentinel the same history must look like harm"


def test_resets_are_hurt_even_when_they_began_with_a_stall_of_the_machine() -> None:
    judgement = judge(stalled(history({A: DEAD}), A, seconds=0.5), Expectation({A: 1.0}), FAST)
    assert judgement.flows[0].errors.finding is Finding.HURT


def test_time_outs_are_no_harm_where_the_loader_itself_was_late() -> None:
    seen = timing_out(history({A: DEAD}, noise=Noise(late_share=0.2)), A)
    judgement = judge(seen, Expectation.nobody([A]), FAST)
    assert findings(judgement)[A] is Finding.INCONCLUSIVE
    assert "the loader itself was late" in judgement.flows[0].errors.why
    quiet = judge(seen, Expectation.nobody([A]), replace(FAST, late_share=0.9))
    assert findings(quiet)[A] is Finding.HURT


def killed_for(seconds: float) -> Plan:
    return Plan(
        windows=(
            (WindowKind.BASELINE, 0.0, 6.0),
            (WindowKind.FAULT, 6.0, 6.0 + seconds),
            (WindowKind.RECOVERY, 6.0 + seconds, 40.0),
        )
    )


def test_a_fault_that_is_too_short_to_judge_a_bystander_is_inconclusive() -> None:
    judgement = judge(history({A: DEAD, B: HALF, C: NONE}, plan=killed_for(0.08)), KILLED, FAST)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "in the fault window, 20 are needed" in judgement.reason


def test_half_a_second_clears_a_bystander_of_a_pulse_and_a_tenth_does_not() -> None:
    for seconds, finding in ((0.12, Finding.INCONCLUSIVE), (0.6, Finding.NOT_HURT)):
        seen = history({A: DEAD, B: HALF, C: NONE}, plan=killed_for(seconds))
        assert findings(judge(seen, KILLED, FAST))[C] is finding


def killed_again(share: float, *, pulses: int, length: float = 0.5) -> HistoryView:
    """Pulses 8 s apart, in which C loses that share."""
    windows = [(WindowKind.BASELINE, 0.0, 6.0)]
    for begin in (6.0 + 8.0 * number for number in range(pulses)):
        windows += [(WindowKind.FAULT, begin, begin + length), (WindowKind.RECOVERY, begin + length, begin + 8.0)]
    return history({A: DEAD, C: HarmDone(error_share=share)}, plan=Plan(windows=tuple(windows)))


@pytest.mark.parametrize(
    ("share", "pulses", "finding"),
    [
        (0.0, 1, Finding.NOT_HURT),
        (0.0, 3, Finding.NOT_HURT),
        (0.05, 1, Finding.INCONCLUSIVE),
        (0.05, 3, Finding.INCONCLUSIVE),
        (0.3, 3, Finding.HURT),
        (1.0, 1, Finding.HURT),
    ],
)
def test_no_bystander_is_cleared_while_the_pulses_show_a_rise(share: float, pulses: int, finding: Finding) -> None:
    expected = Expectation({A: 1.0, C: 0.0}, harm=Harm.ERRORS, fault_shape=FaultShape.PULSE)
    judgement = judge(killed_again(share, pulses=pulses), expected, FAST)
    assert findings(judgement)[C] is finding, judgement.reason
    assert any("repeat it" in note for note in judgement.notes) is (pulses < 3)


def test_the_price_of_a_pulse_is_told_over_its_repeats() -> None:
    """Pulses of 0.5, 0.7 and 0.9 s, and between two of them a fresh pod came, whose coming is of neither."""
    windows, sound = [(WindowKind.BASELINE, 0.0, 6.0)], [(0.0, 6.0)]
    for begin, length in ((6.0, 0.5), (16.0, 0.7), (26.0, 0.9)):
        windows += [(WindowKind.FAULT, begin, begin + length), (WindowKind.RECOVERY, begin + length, begin + 5)]
        windows += [(WindowKind.BASELINE, begin + 8, begin + 10)] if begin < 26 else []
        sound += [(begin + length, begin + 5), (begin + 8, begin + 10)]
    seen = history({A: NONE, C: NONE}, plan=Plan(windows=tuple(windows)))
    due = (seen.flows[A]["due"] - EPOCH) / NANO
    well = np.any([(due >= begin) & (due < end) for begin, end in sound], axis=0) | (due > 31)
    seen = change(seen, A, outcome=np.where(well, Outcome.OK, Outcome.FAILED))
    due = (seen.flows[C]["due"] - EPOCH) / NANO  # the fresh pods' coming costs the bystander as well
    coming = ((due >= 11) & (due < 14)) | ((due >= 21) & (due < 24))
    seen = change(seen, C, outcome=np.where(coming, Outcome.FAILED, Outcome.OK))
    seen = replace(seen, evidence=replace(seen.evidence, fault="kill"))
    expected = Expectation({A: 1.0, C: 0.0}, harm=Harm.ERRORS, fault_shape=FaultShape.PULSE)
    judgement = judge(seen, expected, FAST)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    lost, outage = judgement.measures["requests lost"], judgement.measures["outage"]
    assert lost.values == pytest.approx((100, 140, 180), abs=2)
    assert outage.values == pytest.approx((0.5, 0.7, 0.9), abs=0.02)
    assert lost.value == pytest.approx(140, abs=2)
    assert lost.each == "kill"
    assert [lost.low, lost.high] == pytest.approx([41, 239], abs=5)  # 4.30 * 40 / sqrt(3)
    assert judgement.measures["time to detect"].value < 1


def test_of_one_kill_the_limits_are_its_own() -> None:
    judgement = judge(history({A: DEAD, B: HALF, C: NONE}, plan=PULSE), KILLED, FAST)
    lost = judgement.measures["requests lost"]
    assert len(lost.values) == 1
    assert lost.high - lost.low < 20


def test_harm_in_one_of_three_pulses_is_not_told_from_a_burst_of_the_flows_own() -> None:
    seen = killed_again(0.0, pulses=3)
    samples, first = seen.flows[C], seen.windows_of(WindowKind.FAULT)[0]
    inside = (samples["due"] >= first.begin) & (samples["due"] < first.end)
    seen = change(seen, C, outcome=np.where(inside, Outcome.FAILED, Outcome.OK))
    expected = Expectation({A: 1.0, C: 0.0}, harm=Harm.ERRORS, fault_shape=FaultShape.PULSE)
    assert findings(judge(seen, expected, FAST))[C] is Finding.INCONCLUSIVE


@pytest.mark.parametrize("from_second", [3.0, 4.5, 9.0, 15.0])
def test_an_outage_that_begins_late_is_hurt_with_three_flows_too(from_second: float) -> None:
    seen = history({A: DEAD, B: NONE, C: NONE})
    samples = seen.flows[C]
    since = (samples["due"] - seen.windows[1].begin) / NANO
    seen = change(seen, C, outcome=np.where((since >= from_second) & (since < 30), Outcome.FAILED, Outcome.OK))
    assert findings(judge(seen, Expectation({A: 1.0, B: 0.0, C: 0.0}), FAST))[C] is Finding.HURT


@pytest.mark.parametrize(
    ("since", "until", "finding"),
    [
        (0.0, 30.0, Finding.HURT),
        (-3.0, 30.0, Finding.INCONCLUSIVE),  # began before the fault
        (4.0, 30.0, Finding.INCONCLUSIVE),  # began well after it
        (0.0, 32.0, Finding.INCONCLUSIVE),  # outlived it
    ],
)
def test_slowness_is_the_faults_when_it_comes_and_goes_with_it(since: float, until: float, finding: Finding) -> None:
    seen = history({A: NONE})
    samples = seen.flows[A]
    after = (samples["due"] - seen.windows[1].begin) / NANO
    slow = (after >= since) & (after < until)
    seen = change(seen, A, done=samples["done"] + np.where(slow, NANO // 100, 0))
    judgement = judge(seen, Expectation.nobody([A]), FAST)
    assert findings(judgement)[A] is finding
    said = [note for note in judgement.notes if "a change of its own speed that begins and ends with a fault" in note]
    assert len(said) == (finding is Finding.HURT)
    predicted = judge(seen, Expectation({A: 1.0}), FAST)
    assert not any("a change of its own speed that begins" in note for note in predicted.notes)


def test_a_gradual_fault_needs_three_pairs() -> None:
    expected = Expectation.nobody([A], fault_shape=FaultShape.GRADUAL)
    assert judge(history({A: NONE}, plan=switchback(pairs=2)), expected, FAST).verdict is Verdict.INCONCLUSIVE
    assert judge(history({A: NONE}, plan=switchback(pairs=3)), expected, FAST).verdict is Verdict.PASS


# Order of looks, purity


def test_looking_live_and_judging_the_saved_history_give_the_same_answer() -> None:
    whole = history({A: DEAD, B: HarmDone(error_share=0.05), C: HarmDone(slow_factor=1.15)}, noise=Noise(memory=0.1))
    saved = judge(whole, HELD, FAST)
    begin = whole.windows[1].begin
    for look, seconds in enumerate(FAST.looks):
        now = begin + round(seconds * NANO)
        flows_now = {flow: rows[rows["done"] <= now] for flow, rows in whole.flows.items()}
        pending = {flow: rows["due"][(rows["due"] <= now) & (rows["done"] > now)] for flow, rows in whole.flows.items()}
        windows = (whole.windows[0], Window(WindowKind.FAULT, begin, now))
        seen_now = replace(whole, flows=flows_now, pending=pending, windows=windows, until=now)
        live = judge(seen_now, HELD, FAST, look=look)
    assert (live.verdict, live.reason, live.look) == (saved.verdict, saved.reason, saved.look)
    for seen, again in zip(live.flows, saved.flows, strict=True):
        assert (seen.errors, seen.slow, seen.affected) == (again.errors, again.slow, again.affected)


def test_the_same_history_gives_the_same_text_to_the_last_digit() -> None:
    seen = history({A: DEAD, B: HALF, C: NONE}, plan=PULSE)
    texts = {json.dumps(judge(seen, KILLED, Thresholds(bootstrap=20)).as_dict(), sort_keys=True) for _ in range(2)}
    assert len(texts) == 1


def test_harm_that_heals_while_the_fault_is_held_counts_for_the_flows_that_were_predicted_hurt_alone() -> None:
    seen = history({A: NONE, C: NONE})
    samples = seen.flows[A]
    since = samples["due"] - seen.windows[1].begin
    seen = change(seen, A, outcome=np.where((since >= 0) & (since < NANO), Outcome.FAILED, Outcome.OK))
    assert findings(judge(seen, Expectation({A: 1.0, C: 0.0}), FAST))[A] is Finding.HURT
    assert findings(judge(seen, Expectation.nobody([A, C]), FAST))[A] is Finding.INCONCLUSIVE


def test_exempt_flows_are_reported_and_not_judged() -> None:
    expected = Expectation({A: 0.0, C: 0.0}, exempt=frozenset({A}))
    judgement = judge(history({A: DEAD, C: NONE}), expected, FAST)
    assert judgement.verdict is Verdict.PASS
    assert findings(judgement)[A] is Finding.HURT
    assert judgement.observed(Finding.HURT) == []


def test_recovery_is_timed_from_the_end_of_the_fault() -> None:
    seen = history({A: DEAD, B: HALF, C: NONE}, plan=PULSE)
    samples = seen.flows[A]
    since = (samples["due"] - seen.windows[1].begin) / NANO
    seen = change(seen, A, outcome=np.where((since >= 0) & (since < 1.7), Outcome.FAILED, Outcome.OK))
    verdict = judge(seen, KILLED, FAST).flows[0]
    assert verdict.recovered_after is not None
    assert verdict.recovered_after.value == pytest.approx(1.2, abs=0.02)
    assert dict(verdict.recovery)[0.5] == 1.0
    assert dict(verdict.recovery)[4.0] < 0.05
    assert verdict.requests_lost is not None
    assert verdict.requests_lost.value == pytest.approx(340, abs=2)
    assert verdict.outage is not None
    assert verdict.outage.low <= 1.7 <= verdict.outage.high


def test_verdicts_merge_to_the_worst_and_nothing_is_not_green() -> None:
    assert merge([Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]) is Verdict.FAIL
    assert merge([Verdict.PASS, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert merge([Verdict.PASS]) is Verdict.PASS
    assert merge([]) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("share", "low", "high", "belied"),
    [
        (0.5, 0.3, 0.4, False),
        (0.5, 0.0, 0.12, True),
        (0.5, 0.88, 1.0, True),
        (1.0, 0.7, 1.0, False),
        (1.0, 0.5, 0.79, True),
        (0.25, 0.8, 0.9, True),
    ],
)
def test_a_share_is_belied_from_both_sides(share: float, low: float, high: float, belied: bool) -> None:
    assert rules.contradicts(share, low, high, FAST.share_slack) is belied


@pytest.mark.parametrize("carried", [0.2, 0.4, 0.67])
@pytest.mark.parametrize("plan", [PULSE, None], ids=["pulse", "held"])
def test_a_sidecar_that_carries_a_part_of_its_traffic_fails_with_the_tolerance(
    carried: float, plan: Plan | None
) -> None:
    shape = FaultShape.PULSE if plan else FaultShape.HELD
    expected = Expectation({A: 1.0}, harm=Harm.ERRORS, fault_shape=shape)
    judgement = judge(history({A: HarmDone(error_share=carried)}, plan=plan), expected, FAST)
    # A short pulse holds few requests: two thirds of them are not always told from four fifths.
    least = {Verdict.FAIL, Verdict.INCONCLUSIVE} if plan and carried > 0.5 else {Verdict.FAIL}
    assert judgement.verdict in least, judgement.reason
    assert "80.0 to 100.0 % would be as expected" in judgement.reason


def test_wrong_thresholds_are_all_named_at_once() -> None:
    with pytest.raises(Misuse, match=r"errors_margin.*spending"):
        Thresholds(errors_margin=2.0, looks=(1.0, 2.0))
    with pytest.raises(Misuse, match=r"share 1\.5"):
        Expectation({A: 1.5})


# The view


def test_view_from_cuts_windows_and_evidence_from_the_events() -> None:
    seen = history({A: DEAD, C: NONE})
    table = list(seen.flows)
    rows = []
    for index, flow in enumerate(table):
        part = seen.flows[flow].copy()
        part["flow"] = index
        rows.append(part)
    samples = np.concatenate(rows)
    np.random.default_rng(1).shuffle(samples)
    fault = seen.windows[1]
    events = [
        Event(EPOCH, EventKind.TRIAL, {"flows": [dataclasses.asdict(flow) for flow in table]}),
        Event(fault.begin, EventKind.WINDOW, {"kind": "fault", "begin": fault.begin, "end": None}),
        *[Event(w.end, EventKind.WINDOW, {"kind": w.kind.value, "begin": w.begin, "end": w.end}) for w in seen.windows],
        Event(fault.begin, EventKind.FAULT, {"phase": "injected"}),
        Event(fault.begin + 5, EventKind.FAULT, {"phase": "evidence"}),
        Event(fault.end, EventKind.FAULT, {"phase": "restored"}),
    ]
    cut = view_from(samples, events, until=seen.until)
    assert cut.windows == seen.windows
    assert cut.evidence == seen.evidence
    expected = Expectation({A: 1.0, C: 0.0})
    assert judge(cut, expected, FAST).as_dict() == judge(seen, expected, FAST).as_dict()


def test_evidence_that_denies_itself_is_no_evidence() -> None:
    events = [
        Event(1, EventKind.TRIAL, {"flows": []}),
        Event(2, EventKind.FAULT, {"phase": "evidence", "seen": False}),
        Event(3, EventKind.FAULT, {"phase": "restored", "seen": False}),
    ]
    cut = view_from(np.empty(0, SAMPLE), events)
    assert (cut.evidence.effect_seen, cut.evidence.recovered) == (False, False)


def test_a_history_without_a_flow_table_is_refused() -> None:
    with pytest.raises(Misuse, match="flow table"):
        view_from(np.empty(0, SAMPLE), [])
