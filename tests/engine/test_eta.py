"""The time left is the usual time of the trials to come, at this machine's pace."""

from __future__ import annotations

from chaos.engine.eta import EtaEstimator


def test_before_the_first_trial_the_usual_times_with_the_deployments_are_all_there_is() -> None:
    # 4 s of cluster, two deployments of 9 s, 9 s and 30 s of trials
    pace = EtaEstimator([("none", "proxy-killed"), ("node", "noisy-neighbour")], clock=lambda: 0.0)
    assert pace.next() == "trial 1 of 2, about 61 s left"


def test_trials_of_one_mode_share_a_deployment() -> None:
    pace = EtaEstimator([("node", "proxy-killed"), ("node", "noisy-neighbour")], clock=lambda: 0.0)
    assert pace.next() == "trial 1 of 2, about 52 s left"


def test_a_machine_twice_as_slow_has_twice_as_long_to_go() -> None:
    now = iter([100.0, 186.0])
    pace = EtaEstimator([("node", "noisy-neighbour")] * 8, clock=lambda: next(now))
    assert pace.next() == "trial 1 of 8, about 4 min left"
    assert pace.next() == "trial 2 of 8, about 7 min left"
