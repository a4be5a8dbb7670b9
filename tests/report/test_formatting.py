"""How figures are spelt: rounded to what their limits say is known, and counted things whole."""

from __future__ import annotations

import pytest

from chaos.report.formatting import FlowChange, measure_line, measure_text, spell


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "text"),
    [
        (77.7, 77.1, 77.9, "requests", "78 requests (77 to 78)"),
        (226.0, 224.0, 226.0, "requests", "226 requests (224 to 226)"),
        (0.0, 0.0, 0.3, "requests", "0 requests"),
        (0.0, 0.0, 0.00426, "s", "under 5 ms"),
        (0.0227, 0.0227, 0.0277, "s", "23 ms (23 to 28)"),
        (0.41, 0.405, 0.4149, "s", "0.41 s (0.40 to 0.41)"),
        (10.02, 10.0, 10.03, "s", "10.02 s (10.00 to 10.03)"),
        (23.1, 16.0, 23.1, "s", "23 s (16 to 23)"),
        (-0.011, -0.0783, 0.00882, "share", "-1 % (-8 to 1)"),
        (0.0, -0.001, 0.001, "share", "0.0 % (-0.1 to 0.1)"),
        (3.0, None, None, "identities, the most of one proxy", "3 identities, the most of one proxy"),
        (0.8934, None, None, "cores", "0.893 cores"),
        (None, None, None, "s", "–"),
    ],
)
def test_a_figure_is_rounded_to_what_is_known_of_it(
    value: float | None, low: float | None, high: float | None, unit: str, text: str
) -> None:
    assert measure_text({"value": value, "low": low, "high": high, "unit": unit}) == text


def test_a_unit_that_the_name_says_is_not_said_twice() -> None:
    lost = {"value": 78.0, "low": 77.0, "high": 78.0, "unit": "requests"}
    assert measure_line("requests lost", lost) == "requests lost 78 (77 to 78)"
    assert measure_line("time to detect", {"value": 1.0, "low": 0.0, "high": 1.0, "unit": "s"}) == (
        "the judge was sure after 1.0 s (0.0 to 1.0)"
    )


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        (FlowChange("f", "errors", 100.0, 85.3, 100.0), "errors +100 points (+85 to +100)"),
        (FlowChange("f", "slow", 0.1, -1.7, 1.9), "slow 0 points (-2 to +2)"),
        (FlowChange("f", "errors", 0.0, -0.04, 0.04), "errors 0.0 points (0.0 to 0.0)"),
        (FlowChange("f", "slow", 34.8, -17.3, 63.9), "slow +35 points (-17 to +64)"),
    ],
)
def test_an_effect_is_told_in_points_that_mean_something(effect: FlowChange, text: str) -> None:
    assert str(effect) == text


def test_nothing_is_spelt_minus_zero() -> None:
    assert spell(-0.2, 1.0, sign=True) == "0"
