"""Mappings of users' files: every problem at once, each with its field and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import pytest

from chaos.errors import Misuse
from chaos.fields import Fields, from_text, parse_pairs


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Thing:
    name: str
    size: int = 1
    share: float = 0.5
    bright: bool = False
    colour: Colour = Colour.RED
    labels: Mapping[str, str] = field(default_factory=dict)


def problems_of(document: Any) -> list[str]:
    problems: list[str] = []
    Fields(document, "thing", problems, known=tuple(Thing.__dataclass_fields__)).of(Thing)
    return problems


def test_a_dataclass_is_read_from_its_values_and_keeps_its_other_defaults() -> None:
    values = Fields({"name": "x", "share": 1, "colour": "blue"}, "", [], known=tuple(Thing.__dataclass_fields__)).of(
        Thing
    )
    assert Thing(**values) == Thing("x", share=1, colour=Colour.BLUE)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "thing.name is missing"),
        ({"name": 3}, "thing.name is 3, and should be a text"),
        ({"name": "x", "size": 1.5}, "thing.size is 1.5, and should be a whole number"),
        ({"name": "x", "size": True}, "thing.size is True, and should be a whole number"),
        ({"name": "x", "share": "1"}, "thing.share is '1', and should be a number"),
        ({"name": "x", "bright": 1}, "thing.bright is 1, and should be true or false"),
        ({"name": "x", "colour": "green"}, "thing.colour is 'green': known are red, blue"),
        ({"name": "x", "labels": []}, "thing.labels is [], and should be a mapping"),
        ({"name": "x", "sise": 1}, "thing.sise is not known here, did you mean size: known are name, size"),
        ([], "thing is a list, and should be a mapping with name"),
        (None, "thing is a NoneType, and should be a mapping with name"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(document: Any, says: str) -> None:
    assert problems_of(document)[0].startswith(says)


def test_every_problem_is_found_at_once() -> None:
    assert len(problems_of({"size": "x", "share": None, "colour": "green", "sise": 1})) == 5


@pytest.mark.parametrize(
    ("value", "good"),
    [
        *((good, True) for good in (0.0, 1, 0.3)),
        *((wrong, False) for wrong in (-0.1, 1.1, True, "1", None, float("nan"), float("inf"))),
    ],
)
def test_a_number_lies_in_its_interval(value: Any, good: bool) -> None:
    problems: list[str] = []
    Fields({"share": value}, "", problems, known=("share",)).number("share", default=0.5, low=0.0, high=1.0)
    assert (problems == []) is good


def test_a_number_without_a_lower_end_is_above_0() -> None:
    problems: list[str] = []
    Fields({"rate": 0}, "", problems, known=("rate",)).number("rate", default=1.0)
    assert problems == ["rate is 0, and should be a number above 0"]


def test_pairs_are_name_and_value_and_the_first_sign_divides_them() -> None:
    assert parse_pairs("--var", ("mode=node", "x=a=b", "empty=")) == {"mode": "node", "x": "a=b", "empty": ""}


def test_every_text_that_is_no_pair_is_named_with_its_option() -> None:
    with pytest.raises(Misuse, match="--var 'mode', 'node': want NAME=VALUE"):
        parse_pairs("--var", ("mode", "x=1", "node"))


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "3", 3),
        (float, "0.5", 0.5),
        (bool, "True", True),
        (str, "1", "1"),
        (int | None, "none", None),
        (int | None, "0", 0),
        (tuple[int, ...], "80,443", (80, 443)),
        (tuple[str, ...], "", ()),
        (Mapping[str, str], "A=1,B=2", {"A": "1", "B": "2"}),
        (Literal["in", "out"], "both", "both"),  # whoever takes it refuses it
    ],
)
def test_a_text_is_read_as_the_type_that_is_wanted(hint: Any, text: str, value: Any) -> None:
    assert from_text(hint, text) == value


@pytest.mark.parametrize(("hint", "text"), [(int, "1.5"), (float, "x"), (bool, "yes"), (tuple[int, ...], "80,x")])
def test_a_text_that_is_no_such_value_is_refused(hint: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_text(hint, text)
