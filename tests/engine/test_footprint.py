"""Totals and intervals of the proxies' use."""

from __future__ import annotations

from chaos.engine.footprint import interval, total


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = interval([1.0, 2.0, 3.0, 4.0])
    assert (round(low, 3), round(high, 3)) == (0.446, 4.554)  # 2.5 -+ 3.182 x 1.291 / 2 (scipy.stats.t.interval)
    assert interval([5.0]) == (0.0, 10.0)


def test_a_total_counts_the_containers_that_are_named_and_there() -> None:
    row = {("n", "p", "proxy"): {"cores": 0.5}, ("n", "p", "app"): {"cores": 2.0}}
    assert total(row, [("n", "p", "proxy"), ("n", "gone", "proxy")], "cores") == 0.5
