"""Clocks are aligned within the stated error, and clocks that agree are left alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chaos.load.clocks import RemoteClock

MS = 1_000_000
trips = st.lists(st.tuples(st.integers(0, 20 * MS), st.integers(0, 20 * MS), st.integers(1, 500 * MS)), min_size=1)


@given(st.integers(-(10**12), 10**12), trips)
def test_the_true_offset_lies_within_the_stated_error(true: Any, trips: Any) -> None:
    clock, now = RemoteClock(), 10**18
    for there, back, pause in trips:
        clock.observe(asked=now, answered=now + there + back, clock=now + there + true)
        now += there + back + pause
    assert abs(clock.offset.value - true) <= clock.offset.error + 1


@given(trips)
def test_clocks_that_agree_are_left_alone_however_lopsided_the_trips_are(trips: Any) -> None:
    clock, now = RemoteClock(), 10**18
    for there, back, pause in trips:
        clock.observe(asked=now, answered=now + there + back, clock=now + there)
        now += there + back + pause
    assert clock.offset.value == 0


def test_a_clock_that_was_set_begins_anew() -> None:
    clock = RemoteClock()
    clock.observe(asked=1000 * MS, answered=1001 * MS, clock=1000 * MS)
    clock.observe(asked=2000 * MS, answered=2001 * MS, clock=7000 * MS)
    assert abs(clock.offset.value - 5000 * MS) <= clock.offset.error <= 2 * MS


def test_many_trips_state_a_smaller_error_than_the_first() -> None:
    clock = RemoteClock()
    clock.observe(asked=1000 * MS, answered=1020 * MS, clock=1001 * MS)
    first = clock.offset.error
    clock.observe(asked=1100 * MS, answered=1101 * MS, clock=1100 * MS + 1)
    assert clock.offset.error < first
