"""Targets are picked, and none is an error."""

from __future__ import annotations

import random

import pytest

from chaos.errors import NoTargets
from chaos.faults.selection import Pick, pick


def test_an_empty_selection_is_an_error() -> None:
    with pytest.raises(NoTargets, match="proxies of tenant z"):
        pick([], Pick.ALL, what="proxies of tenant z")


def test_the_same_seed_picks_the_same_target() -> None:
    names = [str(n) for n in range(50)]
    first = pick(names, Pick.RANDOM, what="x", chance=random.Random(3))
    assert first == pick(reversed(names), Pick.RANDOM, what="x", chance=random.Random(3))
