"""Random numbers repeat from a seed."""

from __future__ import annotations

from chaos.chance import Seed


def test_named_children_of_a_seed_repeat_and_differ() -> None:
    assert Seed(1).child("x").number() == Seed(1).child("x").number()
    assert Seed(1).child("x").number() != Seed(1).child("y").number() != Seed(2).child("y").number()
