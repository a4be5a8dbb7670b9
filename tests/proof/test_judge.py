"""The judge's error rates in small, and broken judges that the rates expose. In full: `python -m proof.judge`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chaos.model.faulting import FaultShape
from chaos.model.flow import WindowKind
from chaos.verdict import Finding
from proof.audit import AFTER, ROWS, Row, Seen
from proof.information import least_seconds
from proof.judge import (
    CELLS,
    DEFAULT,
    HURT_HISTORIES,
    NOISES,
    NOT_HURT_HISTORIES,
    Cell,
    Done,
    at_most,
    page,
    run_cell,
    run_chunk,
)
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


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


QUIET, HARMED = _row("pulse 0.5 s, A/A"), _row("outage of 100% from 3 s on")


@pytest.mark.parametrize(
    ("row", "findings", "bold", "limit"),
    [
        (QUIET, {Finding.NOT_HURT: 3000}, False, "0.10%"),
        (QUIET, {Finding.HURT: 1, Finding.NOT_HURT: 2999}, False, "0.16%"),
        (QUIET, {Finding.HURT: 1, Finding.NOT_HURT: 349}, True, "1.35%"),
        (HARMED, {Finding.HURT: 300}, False, "0.99%"),
        (HARMED, {Finding.HURT: 1, Finding.NOT_HURT: 1}, True, "97.47%"),
    ],
)
def test_a_row_above_its_target_is_bold_and_each_has_its_exact_limit(
    row: Row, findings: dict[Finding, int], bold: bool, limit: str
) -> None:
    done = Done(rows={row.name: Seen(Counter(findings))})
    (line,) = [line for line in page(done).splitlines() if row.name in line]
    assert line.startswith("| **") is bold
    assert f"| {limit} |" in line


def test_a_run_goes_on_from_the_counts_of_an_earlier_one(tmp_path: Path) -> None:
    done, path = Done(), tmp_path / "judge.json"
    for row in (QUIET, AFTER[0], CELLS[0]):
        done.add(row.name, run_chunk(row, number=0))
    done.write(path)
    again = Done.read(path)
    assert page(again) == page(done)
    assert again.chunks == done.chunks


def test_a_row_has_as_many_histories_as_its_claim_takes_to_be_shown() -> None:
    assert [at_most(0, HURT_HISTORIES), at_most(0, NOT_HURT_HISTORIES)] == pytest.approx([0.001, 0.01], rel=0.01)
