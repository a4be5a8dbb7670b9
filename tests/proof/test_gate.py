"""The gate's error rates are counted on pairs of runs whose truth is known."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from proof.gate import PLANTED, alarms, by_run, real_alarms


def killed(mode: str, outages: list[float], rate: float) -> dict[str, Any]:
    """A recorded trial of kills whose outages lasted so long."""

    def repeated(values: list[float], unit: str, each: str) -> dict[str, Any]:
        middle = sum(values) / len(values)
        return {"value": middle, "low": middle, "high": middle, "unit": unit, "values": values, "each": each}

    return {
        "mode": mode,
        "scenario": "proxy-killed",
        "verdict": "pass",
        "observed": {"hurt": ["a -> a"], "unhurt": [], "inconclusive": []},
        "measures": {
            "outage": repeated(outages, "s", "kill"),
            "requests lost": repeated([rate * one for one in outages], "requests", "kill"),
            "the rate at which the path gives out": repeated([900.0, 1000.0, 950.0], "requests/s", "ramp"),
            "retries of the Job": {"value": 0, "low": None, "high": None, "unit": "pods"},
            "worst bystander errors": {"value": 0.0, "low": -0.02, "high": 0.003, "unit": "share"},
        },
    }


POOLS = {
    ("sidecar", "proxy-killed"): [killed("sidecar", [0.49, 0.68, 0.84, 0.94, 1.09, 0.31, 0.7], 200.0)],
    ("node", "proxy-killed"): [killed("node", [0.5, 0.6, 0.9, 1.1, 0.4, 0.8], 300.0)],
}


@pytest.mark.parametrize("repeats", [1, 3])
def test_identical_runs_alarm_in_at_most_one_pair_of_thirty(repeats: int) -> None:
    wrong, by = alarms(POOLS, pairs=300, repeats=repeats, plant=None, seed=1)
    assert wrong <= 10, by


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.name)
def test_a_planted_regression_is_found_over_three_kills(plant: Any) -> None:
    found, _ = alarms(POOLS, pairs=200, repeats=3, plant=plant, seed=2)
    assert found >= 180


def test_real_runs_are_paired_both_ways_and_a_lost_verdict_alarms() -> None:
    runs = [
        {**killed("sidecar", [0.5, 0.6, 0.7], 120.0), "run": name, "planted": "", "verdict": verdict}
        for name, verdict in (("1", "pass"), ("2", "pass"), ("3", "inconclusive"))
    ]
    both = permutations(by_run(runs), 2)
    assert real_alarms(both) == (6, 2, 0, {"proxy-killed[sidecar] verdict": 2})
