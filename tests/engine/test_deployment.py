"""The loader's counts against the servers'."""

from __future__ import annotations

import pytest

from chaos.engine.deployment import detect_contradictions


@pytest.mark.parametrize(
    ("answered", "served", "contradiction"), [(900, 900, False), (900, 960, False), (901, 900, True), (10, 0, True)]
)
def test_a_loader_that_saw_more_answers_than_were_given_contradicts_the_servers(
    answered: int, served: int, contradiction: bool
) -> None:
    counts = {"tenant-a": {"answered": answered, "served": served}, "tenant-b": {"answered": 1, "served": 1}}
    assert bool(detect_contradictions(counts)) is contradiction
