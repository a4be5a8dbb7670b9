"""The judge's error rates in small, and broken judges that the rates expose. In full: `python -m proof.judge`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from chaos.model.faulting import FaultShape
from chaos.model.flow import WindowKind
from chaos.verdict import Finding
from proof.information import least_seconds
from proof.judge import DEFAULT, NOISES, Cell, run_cell
from proof.synthetic import NANO, HarmDone, Noise, Plan, flows, true_rise, view

CLUSTERS = NOISES["memory 0.5 s, 1 % failures"]


@pytest.mark.parametrize("kind", list(FaultShape))
@pytest.mark.parametrize("noise", ["quiet", "memory 0.5 s, 1 % failures", "stalls of one flow, 1 in 2 s"])
def test_nothing_done_is_never_hurt(kind: FaultShape, noise: str) -> None:
    found = run_cell(Cell(noise, NOISES[noise], HarmDone(), kind), trials=10, seed=1).findings
    assert found[Finding.HURT] == 0
    assert noise != "quiet" or found[Finding.NOT_HURT] == 40


def test_a_judge_that_takes_requests_for_independent_is_caught() -> None:
    broken, harm = replace(DEFAULT, design_effect=1.0, scales=(1e-6,)), HarmDone(error_share=0.035, memory=0.5)
    missed = {
        name: run_cell(Cell(name, CLUSTERS, harm, thresholds=thresholds), trials=25, seed=2).findings[Finding.NOT_HURT]
        for name, thresholds in (("whole", DEFAULT), ("broken", broken))
    }
    assert missed["whole"] == 0
    assert missed["broken"] >= 3


def test_a_judge_without_a_sentinel_is_caught_on_a_slow_machine() -> None:
    broken, noise = replace(DEFAULT, sentinel_factor=0.0), Noise(passing=5)
    wrong = {
        name: run_cell(Cell(name, noise, HarmDone(), thresholds=thresholds), trials=10, seed=3).findings[Finding.HURT]
        for name, thresholds in (("whole", DEFAULT), ("broken", broken))
    }
    assert wrong["whole"] == 0
    assert wrong["broken"] >= 5


def test_a_judge_with_a_loose_margin_is_caught_missing_harm() -> None:
    broken = replace(DEFAULT, errors_margin=0.2)
    harm = HarmDone(error_share=0.05)
    assert run_cell(Cell("whole", Noise(), harm), trials=10, seed=4).findings[Finding.NOT_HURT] == 0
    assert run_cell(Cell("broken", Noise(), harm, thresholds=broken), trials=10, seed=4).findings[Finding.NOT_HURT] > 30


@pytest.mark.parametrize("harm", [HarmDone(error_share=0.1), HarmDone(slow_factor=6.0)])
def test_clear_harm_is_seen_and_soon(harm: HarmDone) -> None:
    found = run_cell(Cell("harm", Noise(), harm, plan=Plan(rate=200.0)), trials=5, seed=5)
    assert found.findings[Finding.HURT] == 20
    assert np.mean(found.seconds) <= 3


@pytest.mark.parametrize("harm", [HarmDone(error_share=0.025), HarmDone(slow_factor=1.6)])
def test_harm_just_above_a_margin_is_never_called_none(harm: HarmDone) -> None:
    found = run_cell(Cell("harm", Noise(memory=0.05, error_share=0.005), harm), trials=15, seed=6)
    assert found.truths["above", Finding.NOT_HURT] == 0


def test_synthetic_latency_and_errors_are_what_true_rise_says() -> None:
    noise, harm, (flow,) = Noise(error_share=0.01, drift=1.2), HarmDone(0.1, 1.5), flows(1)
    plan = Plan(baseline=50, fault=200, rate=400)
    seen = view(np.random.default_rng(7), plan, noise, {flow: harm}, sentinels=False)
    bare = view(np.random.default_rng(8), plan, noise, {flow: HarmDone()}, sentinels=False)
    rows = [v.flows[flow][v.flows[flow]["due"] >= v.windows_of(WindowKind.FAULT)[0].begin] for v in (seen, bare)]
    rows = [r[r["due"] < seen.windows[1].end] for r in rows]
    errors = [float(np.mean(r["outcome"] != 0)) for r in rows]
    slow = [float(np.mean((r["done"] - r["due"]) / NANO > 0.0035)) for r in rows]
    expected = true_rise(harm, noise, plan, 0.0035)
    assert (errors[0] - errors[1], slow[0] - slow[1]) == pytest.approx(expected, abs=0.01)


def test_no_test_could_be_as_quick_as_the_information_allows() -> None:
    assert least_seconds(0.0, 0.02, 0.001, 200.0) == pytest.approx(1.7, abs=0.05)
    assert math.isnan(least_seconds(0.02, 0.02, 0.001, 200.0))
    found = run_cell(Cell("quiet", Noise(), HarmDone()), trials=3, seed=10)
    assert np.mean(found.seconds) > least_seconds(0.0, 0.02, 0.001, 200.0)
