"""The harness that measures the judge on live histories, itself held against histories whose truth is known. The real
thing is slow.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from chaos.history.model import Event, EventKind, Outcome
from chaos.history.store import History
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow
from chaos.verdict import Expectation, Finding, judge
from proof.live.cut import DEFAULT, NANO, group_of, judge_quiet
from proof.live.harm import FAR, Given, Harmed, Way, judge_harm
from proof.live.machine import Machine, occupied, plan_loops
from proof.live.overlay import harmed, judge_overlaid
from proof.live.page import truth_of, write
from proof.live.run import Part, make
from proof.synthetic import EPOCH, HarmDone, Noise, Plan, view

TENANTS = [Flow(f"tenant-{name}/client", f"tenant-{name}/server") for name in "abc"]
SECOND = [replace(flow, label="1") for flow in TENANTS]


def recorded(
    seconds: float,
    *,
    noise: Noise | None = None,
    flows: list[Flow] | None = None,
    seed: int = 1,
    events: tuple[Event, ...] = (),
) -> History:
    """A recording of so many seconds in which nothing was done."""
    chosen = TENANTS if flows is None else flows
    made = view(
        np.random.default_rng(seed),
        Plan(baseline=seconds, fault=1.0, after=0.0),
        noise or Noise(),
        dict.fromkeys(chosen, HarmDone()),
    )
    table = list(made.flows)
    parts = []
    for number, flow in enumerate(table):
        part = made.flows[flow].copy()
        part["flow"] = number
        parts.append(part)
    header = {"begin": EPOCH, "end": EPOCH + round(seconds * NANO)}
    return History(Path("nowhere"), header, tuple(table), (), np.concatenate(parts), events)


@pytest.mark.parametrize("kind", list(FaultShape))
def test_windows_of_one_group_and_kind_share_no_request(kind: FaultShape) -> None:
    said = list(judge_quiet(recorded(100.0, flows=TENANTS + SECOND), kinds=[kind]))
    assert Counter(one.finding for one in said) == {Finding.NOT_HURT: len(said)}
    for group in (0, 1):
        mine = [one for one in said if one.flow == (TENANTS, SECOND)[group][0]]
        assert len(mine) >= 3
        lasts = 42.0 if kind is FaultShape.GRADUAL else 0.0  # its used seconds are those with the fault alone
        for before, after in pairwise(mine):
            assert after.begin - 5.3 >= before.begin + max(before.seconds, lasts / 2) + 1.0
        assert {group_of(one.flow) for one in mine} == {group}


def test_a_judge_without_its_guards_is_caught_by_quiet_recordings() -> None:
    stalls = recorded(200.0, noise=Noise(own_bursts=0.5), seed=2)
    broken = replace(DEFAULT, design_effect=1.0, scales=(1e-6,), slow_margin=0.02)
    assert not any(one.finding is Finding.HURT for one in judge_quiet(stalls))
    assert any(one.finding is Finding.HURT for one in judge_quiet(stalls, thresholds=broken))


def test_a_window_that_the_recording_cuts_short_is_counted_once_it_could_be_decided() -> None:
    assert not list(judge_quiet(recorded(9.0), kinds=[FaultShape.HELD]))
    assert [one.finding for one in judge_quiet(recorded(9.5), kinds=[FaultShape.HELD])] == [Finding.NOT_HURT] * 3


def test_harm_that_a_round_did_is_found_and_its_truth_is_what_was_set() -> None:
    begin, fault, end = EPOCH, EPOCH + round(5.3 * NANO), EPOCH + round(13.3 * NANO)
    harms = Given(Way.ERRORS, 0.10), Given(Way.SLOWED, 0.05), Given(Way.SLOWED, 0.5)
    given = {flow.client: harm for flow, harm in zip(TENANTS, harms, strict=True)}
    note = Event(
        end,
        EventKind.NOTE,
        {
            "round": 0,
            "begin": begin,
            "fault": fault,
            "end": end,
            "harms": {client: {"way": str(harm.way), "size": harm.size} for client, harm in given.items()},
        },
    )
    quiet = recorded(14.0, events=(note,))
    rng = np.random.default_rng(3)
    parts = []
    for number, flow in enumerate(quiet.flows):
        rows = quiet.samples[quiet.samples["flow"] == number]
        parts.append(rows if flow.sentinel else harmed(rows, given[flow.client], begin=fault, rng=rng))
    found = {one.said.flow: one for one in judge_harm(replace(quiet, samples=np.concatenate(parts)))}
    assert [found[flow].said.finding for flow in TENANTS] == [Finding.HURT, Finding.NOT_HURT, Finding.HURT]
    assert truth_of(given[TENANTS[0].client], [found[TENANTS[0]]]).rise == 0.10
    slowed = truth_of(given[TENANTS[2].client], [found[TENANTS[2]]])
    assert 0.45 < slowed.rise <= 0.5
    assert slowed.side(0.15) == "above"


def test_the_truth_of_a_factor_is_measured_and_claims_no_side_when_it_is_near() -> None:
    said = next(iter(judge_quiet(recorded(12.0), kinds=[FaultShape.HELD])))
    harm = Given(Way.LATENCY, 1.4)
    cases = [Harmed(harm, said, n=1000, slow=slow, base=0.05) for slow in (100, 200, 300, 250)]
    assert truth_of(harm, cases[:1]).side(0.15) == "at the margin"
    assert truth_of(harm, cases).side(0.15) == "at the margin"
    assert truth_of(harm, cases).side(0.40) == "below"
    assert truth_of(harm, cases).side(0.01) == "above"


def test_harm_is_laid_over_the_fault_window_alone() -> None:
    rows = recorded(10.0).samples
    rows = rows[np.argsort(rows["due"])]
    middle = EPOCH + 5 * NANO
    failed = harmed(rows, Given(Way.ERRORS, 0.2), begin=middle, rng=np.random.default_rng(4))
    assert not (failed["outcome"][failed["due"] < middle] != Outcome.OK).any()
    assert np.mean(failed["outcome"][failed["due"] >= middle] != Outcome.OK) == pytest.approx(0.2, abs=0.03)
    slower = harmed(rows, Given(Way.SLOWED, 0.2), begin=middle, rng=np.random.default_rng(4))
    assert set(np.unique(slower["done"] - rows["done"])) == {0, round(FAR * 1e6)}


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        (Given(Way.ERRORS, 0.10), Finding.HURT),
        (Given(Way.SLOWED, 0.5), Finding.HURT),
        (Given(Way.SLOWED, 0.0), Finding.NOT_HURT),
    ],
)
def test_laid_over_harm_is_found_above_the_margins_and_not_below(harm: Given, finding: Finding) -> None:
    assert {one.finding for one in judge_overlaid(recorded(40.0), harm, seed=5)} == {finding}


def test_a_noisy_machine_has_many_loops_that_burst_together_and_an_idle_one_none() -> None:
    assert plan_loops(Machine.IDLE, 2) == []
    assert [loop.off for loop in plan_loops(Machine.BUSY, 2)] == [0.0]
    full, noisy = (plan_loops(machine, 2) for machine in (Machine.FULL, Machine.NOISY))
    assert sum(loop.off == 0 for loop in full) == sum(loop.off == 0 for loop in noisy) == 2
    assert len({loop.seed for loop in full if loop.off}) == 4
    assert [len(noisy) - 2, len({loop.seed for loop in noisy if loop.off})] == [12, 1]


def test_loops_end_by_themselves_and_when_the_state_is_left() -> None:
    begin = time.monotonic()
    with occupied(Machine.BUSY, seconds=60):
        pass
    assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_a_short_recording_of_the_live_system_is_judged_and_written_down(tmp_path: Path) -> None:
    make([Part("aa", Machine.IDLE, "node", 30.0), Part("harm", Machine.IDLE, "none", 20.0)], tmp_path, scale=1.0)
    write(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    rows = (tmp_path / "page.csv").read_text().splitlines()
    assert "| `node`, idle |" in text
    assert "errors | " in text
    assert sum(row.startswith("aa,") for row in rows) >= 12
    assert sum(row.startswith("harm,") for row in rows) >= 3


def test_an_outage_before_steady_load_is_no_noise_of_the_machine() -> None:
    flow = TENANTS[0]
    seen = view(np.random.default_rng(6), Plan(baseline=20.0, fault=10.0), Noise(), {flow: HarmDone()})
    rows = seen.flows[flow].copy()
    rows["outcome"][(rows["due"] >= EPOCH + 2 * NANO) & (rows["due"] < EPOCH + 3 * NANO)] = Outcome.UNKNOWN
    baseline, *rest = seen.windows
    later = (replace(baseline, begin=EPOCH + 10 * NANO), *rest)
    after = replace(seen, flows={**seen.flows, flow: rows}, windows=later)
    grades = {
        name: judge(replace(after, since=since), Expectation.nobody([flow]), DEFAULT).flows[0].errors.design_effect
        for name, since in (("all load", EPOCH), ("steady load", EPOCH + 4 * NANO))
    }
    assert grades["all load"] > 20
    assert grades["steady load"] == DEFAULT.design_effect
