"""Since when the load is steady, and what of it is a baseline."""

from __future__ import annotations

import numpy as np
import pytest

from chaos.engine.steady import SteadyLoad, steady_since

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("failed", "steady"),
    [
        ([], 10.0),
        ([9.0, 9.9], 10.0),  # before anything was quiet
        ([10.0, 10.4, 10.6, 11.0], 11.0),  # what was broken before, until clients have found their way
        ([10.2, 11.0, 13.0], 10.2),  # what fails after half a second without a failure is the load's own
        ([12.0], 10.0),
    ],
)
def test_the_load_is_steady_once_what_an_earlier_trial_broke_fails_no_more(failed: list[float], steady: float) -> None:
    due = (np.array(failed) * SECOND).astype(np.int64)
    assert steady_since(due, 10 * SECOND) == int(steady * SECOND)


@pytest.mark.parametrize(
    ("failed", "begin"),
    [
        ([], 12.0),  # all load since the disturbance at 12 s
        ([13.0], 15.0),  # one failed since, but not in the last 5 s before flows were seen to be healthy, at 20 s
        ([13.0, 17.0], 20.0),
        ([5.0], 12.0),  # before the disturbance: no matter
        ([21.0], 12.0),  # after: a flow's own
    ],
)
def test_a_baseline_is_all_load_since_it_was_last_disturbed(failed: list[float], begin: float) -> None:
    load = SteadyLoad(begun=2 * SECOND, disturbed=12 * SECOND, healthy=20 * SECOND)
    assert load.measure(np.array([int(one * SECOND) for one in failed], np.int64), seconds=5.0)[1] == begin * SECOND
