"""The time left comes from what this run's own deployments and trials took; before there are any, from the usual."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

import pytest

from chaos.engine.eta import EtaEstimator

DEMO = [(mode, scenario) for mode in ("none", "sidecar", "node") for scenario in ("noisy-neighbour", "proxy-killed")]
# When each trial began, and when the run ended: recorded of `make demo`.
STEADY = [
    [0.0, 39.5, 56.2, 100.5, 119.4, 156.4, 181.2],
    [0.0, 39.1, 56.0, 99.6, 119.1, 155.5, 179.2],
    [0.0, 37.2, 53.8, 95.9, 114.0, 149.4, 169.9],
]
BUSY = [0.0, 38.0, 45.5, 242.8, 340.4, 477.4, 567.0]  # others took the machine from the third trial on


def said(trials: Sequence[tuple[str, str]], begins: Sequence[float]) -> list[float]:
    """Seconds left, as they are said when each trial begins."""
    now = iter(begins)
    pace = EtaEstimator(trials, clock=lambda: next(now))
    lines = [pace.next() for _ in begins]
    found = [re.fullmatch(r"trial \d+ of \d+, about (\d+) (s|min) left", line) for line in lines]
    return [float(one[1]) * (60 if one[2] == "min" else 1) for one in found if one is not None]


def errors(recorded: Sequence[float]) -> list[float]:
    """How far what was said lies from what it took, as a share."""
    *begins, end = recorded
    return [abs(told - (end - at)) / (end - at) for told, at in zip(said(DEMO, begins), begins, strict=True)]


@pytest.mark.parametrize("recorded", STEADY)
def test_on_a_machine_that_keeps_its_pace_the_time_left_is_right_within_a_fifth(recorded: Sequence[float]) -> None:
    assert max(errors(recorded)) < 0.2  # minutes are rounded, too
    assert statistics.median(errors(recorded)) < 0.12


def test_a_machine_that_others_take_is_followed_as_it_slows() -> None:
    """What comes cannot be foreseen; what was is believed: half wrong at first, a third in the end."""
    found = errors(BUSY)
    assert max(found) < 0.85
    assert max(found[-2:]) < 0.35


def test_before_the_first_trial_the_usual_times_with_the_deployments_are_all_there_is() -> None:
    # 4 s of cluster, two deployments of 9 s, 17 s and 30 s of trials, 5 s for the end
    assert said([("none", "proxy-killed"), ("node", "noisy-neighbour")], [0.0]) == [74.0]


def test_trials_of_one_mode_share_a_deployment() -> None:
    assert said([("node", "proxy-killed"), ("node", "noisy-neighbour")], [0.0]) == [65.0]


def test_a_trial_that_was_taken_again_counts_with_all_it_took() -> None:
    once = said([("node", "noisy-neighbour")] * 3, [0.0, 43.0])
    twice = said([("node", "noisy-neighbour")] * 3, [0.0, 86.0])
    assert once == [120.0, 65.0]
    assert twice == [120.0, 120.0]


def test_a_scenario_that_this_run_has_not_taken_comes_at_the_pace_of_those_that_it_has() -> None:
    slow = said([("node", "noisy-neighbour"), ("node", "features")], [0.0, 129.0])
    usual = said([("node", "noisy-neighbour"), ("node", "features")], [0.0, 43.0])
    assert slow[1] > 2 * usual[1]
