"""The time left is the usual time of the trials to come, at this machine's pace."""

from __future__ import annotations

from chaos.engine.eta import EtaEstimator


def test_before_the_first_trial_the_usual_times_are_all_there_is() -> None:
    assert (
        EtaEstimator(["proxy-killed", "noisy-neighbour"], clock=lambda: 0.0).next("proxy-killed")
        == "trial 1 of 2, about 39 s left"
    )


def test_a_machine_twice_as_slow_has_twice_as_long_to_go() -> None:
    now = iter([100.0, 160.0])
    pace = EtaEstimator(["noisy-neighbour"] * 8, clock=lambda: next(now))
    assert pace.next("noisy-neighbour") == "trial 1 of 8, about 4 min left"
    assert pace.next("noisy-neighbour") == "trial 2 of 8, about 7 min left"
