"""Readings: what probes make of a history whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from chaos.history.model import SAMPLE, Outcome, Samples
from chaos.model.flow import Flow, Window, WindowKind
from chaos.toolkit import readings
from chaos.verdict import Expectation, FaultEvidence, HistoryView, Thresholds, judge

NANO = 1_000_000_000
A, B, C = (Flow(f"tenant-{name}/client", f"tenant-{name}/server") for name in "abc")


def requests(
    number: int, seconds: float, *, failing: tuple[float, float] = (0, 0), share: float = 1.0, rate: int = 200
) -> Samples:
    """Requests that fall due evenly, answered after 2 ms; within `failing` that share of them times out."""
    due = np.arange(0, seconds, 1 / rate)
    found = np.zeros(len(due), dtype=SAMPLE)
    found["flow"] = number
    found["due"] = found["sent"] = (due * NANO).astype(np.int64)
    found["done"] = found["due"] + 2_000_000 + (np.arange(len(due)) % 7) * 10_000
    bad = (due >= failing[0]) & (due < failing[1]) & (np.arange(len(due)) % 100 < 100 * share)
    found["outcome"][bad] = Outcome.UNKNOWN
    found["done"][bad] += NANO
    return found


def view(*, a: float = 0.0, b: float = 0.0, until: float = 20.0, fault: bool = True) -> HistoryView:
    """A baseline of ten seconds and a fault until the end, in which those shares of the requests of a and b fail."""
    windows = (
        Window(WindowKind.BASELINE, 0, 10 * NANO),
        *([Window(WindowKind.FAULT, 10 * NANO, int(until * NANO))] if fault else []),
    )
    flows = {
        A: requests(0, until, failing=(10, until), share=a),
        B: requests(1, until, failing=(10, until), share=b),
        C: requests(2, until),
    }
    return HistoryView(
        flows, windows, FaultEvidence(effect_seen=True, injected=10 * NANO), int((until + 2) * NANO), since=0
    )


EXPECTED = Expectation({A: 1.0, B: 0.5, C: 0.0})


def test_tenants_that_are_hurt_are_named_and_bystanders_are_not() -> None:
    judgement = judge(view(a=1.0, b=0.5), EXPECTED)
    assert readings.hurt_tenants(judgement, ())["value"] == ["tenant-a", "tenant-b"]
    besides = readings.hurt_tenants(judgement, ["tenant-a"])
    assert (besides["value"], besides["open"], besides["verdict"]) == (["tenant-b"], [], "fail")


def test_nobody_hurt_is_a_pass_only_when_it_is_sure() -> None:
    sure, early = judge(view(a=1.0), EXPECTED), judge(view(a=1.0, until=11.5), EXPECTED)
    assert readings.hurt_tenants(sure, ["tenant-a"])["verdict"] == "pass"
    found = readings.hurt_tenants(early, ["tenant-a"])
    assert (found["value"], found["open"], found["verdict"]) == ([], ["tenant-b", "tenant-c"], "inconclusive")


def test_the_blast_radius_is_the_share_of_flows_with_what_is_open_above_it() -> None:
    sure, early = judge(view(a=1.0, b=0.5), EXPECTED), judge(view(a=1.0, until=11.5), EXPECTED)
    found = readings.blast_radius(sure)
    assert (found["value"], found["low"], found["high"]) == (2 / 3, 2 / 3, 2 / 3)
    found = readings.blast_radius(early)
    assert (found["low"], found["high"]) == (1 / 3, 1.0)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.01), (0.5, 0.4, 0.6), (1.0, 0.95, 1.0)])
def test_the_error_share_of_the_fault_window_has_its_interval(share: float, low: float, high: float) -> None:
    found = readings.error_share(view(a=share), A, True)
    assert low <= found["low"] <= found["value"] <= found["high"] <= high
    assert found["value"] == pytest.approx(share, abs=0.02)


def test_a_tenant_with_errors_of_its_own_is_not_steady() -> None:
    found = readings.unsteady_tenants(view(b=0.5, fault=False), (), Thresholds())
    assert (found["value"], found["open"]) == (["tenant-b"], [])
    assert readings.unsteady_tenants(view(b=0.5, fault=False), ["tenant-b"], Thresholds())["verdict"] == "pass"


def test_the_latency_shift_is_of_the_quantile_that_was_asked_for() -> None:
    judgement = judge(view(a=0.3), EXPECTED)
    flow = next(f for f in judgement.flows if f.flow == A)
    assert {shift.quantile for shift in flow.shifts} == {0.5, 0.9, 0.99}
    found = readings.latency_shift(flow, 0.5)
    assert found["low"] <= found["value"] <= found["high"]
    assert abs(found["value"]) < 0.001
    assert readings.latency_shift(None, 0.5)["value"] is None
