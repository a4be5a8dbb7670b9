"""What can be asked of a proxy that misanswers; tests/faults/test_in_the_mesh.py has real ones."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.faults.misanswer import Misanswer


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"errors": -0.1}, "errors is -0.1"),
        ({"errors": 30}, "errors is 30"),
        ({"errors": float("nan")}, "errors is nan"),
        ({"code": 200}, "code is 200"),
        ({"code": 600}, "code is 600"),
        ({"delay_ms": -1}, "delay_ms is -1"),
        ({"delay_ms": 60_001}, "delay_ms is 60001"),
        ({"errors": 0.0}, "nothing would be misanswered"),
        ({"errors": 2, "code": 99, "delay_ms": -5}, "errors is 2.*code is 99.*delay_ms is -5"),
    ],
)
def test_a_wrong_misanswer_names_every_wrong_setting(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(Misuse, match=said):
        Misanswer(**wrong)


@pytest.mark.parametrize("right", [{}, {"errors": 1}, {"errors": 0, "delay_ms": 1}, {"code": 400, "only": "a"}])
def test_whatever_misanswers_something_may_be_asked(right: dict[str, Any]) -> None:
    Misanswer(**right)
