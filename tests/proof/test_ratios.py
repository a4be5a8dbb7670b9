"""The guard over what the hottest paths cost."""

from __future__ import annotations

import json

import pytest

from proof.ratios import KEPT, PATHS, Ratio, judge_history, profile, tell_watches, used, worse


@pytest.mark.parametrize(
    ("now", "said"),
    [(2.0, False), (2.19, False), (2.21, True), (1.0, False)],
    ids=["as before", "within a tenth", "beyond it", "better"],
)
def test_a_ratio_that_got_worse_by_more_than_a_tenth_is_said(now: float, said: bool) -> None:
    found = worse({"the loader": Ratio(now, 0.9 * now, 1.1 * now)}, {"the loader": 2.0})
    assert bool(found) is said
    assert not said or found == ["the loader: 2.21 times its yardstick, 10% more than the committed 2.00"]


def test_a_path_that_was_never_measured_is_not_compared() -> None:
    assert worse({"new": Ratio(9, 9, 9)}, {}) == []


def test_every_path_has_a_committed_ratio() -> None:
    assert list(json.loads(KEPT.read_text())) == [one.name for one in PATHS]


def four_times() -> None:
    for _ in range(4):
        judge_history()


def test_a_slower_judge_is_seen_by_its_profile_and_its_cost() -> None:
    assert used(four_times) > used(judge_history)
    assert any("verdict" in row for row in profile(judge_history))


def test_every_watch_is_told_every_change() -> None:
    tell_watches()  # ends only when each has seen them all
