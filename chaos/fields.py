"""Reads mappings: every problem is collected, with the field's path and what would be right.

For users' files and options, our own programs' orders, and the requests of the embedded cluster's own pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from enum import StrEnum
from math import inf
from typing import Any, Final, get_args, get_origin, get_type_hints

from chaos.errors import Misuse

_WHOLE: Final = re.compile("-?[0-9]{1,18}")
_KINDS: Final = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Fields:
    """One mapping, and the problems found so far (shared with those inside it)."""

    def __init__(self, value: Any, where: str, problems: list[str], *, known: Sequence[str]) -> None:
        self.where, self.problems = where, problems
        self.values: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self.wrong("", f"is a {type(value).__name__}, and should be a mapping with {', '.join(known)}")
        for name in sorted(map(str, self.values.keys() - set(known))):
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}" if near else ""
            self.wrong(name, f"is not known here{hint}: known are {', '.join(known) or 'none'}")

    def wrong(self, name: str, says: str) -> None:
        self.problems.append(f"{'.'.join(part for part in (self.where, name) if part)} {says}")

    def text(self, name: str, *, default: str | None = None, one_of: Sequence[str] = ()) -> str:
        """Return a text; a problem when it is missing without a default, or not one of `one_of`."""
        value = self.values.get(name, default)
        if value is None:
            self.wrong(name, "is missing")
        elif not isinstance(value, str):
            self.wrong(name, f"is {value!r}, and should be a text")
        elif one_of and value not in one_of:
            self.wrong(name, f"is {value!r}: known are {', '.join(one_of)}")
        else:
            return value
        return default or (one_of[0] if one_of else "")

    def number(self, name: str, *, default: float, low: float | None = None, high: float = inf) -> float:
        """Return a number from `low` to `high`; above 0 when no `low` is given."""
        value: Any = self.values.get(name, default)
        fits = not isinstance(value, bool) and isinstance(value, (int, float)) and value <= high and value < inf
        if not fits or not (value > 0 if low is None else value >= low):
            least = "above 0" if low is None else f"of at least {low:g}"
            self.wrong(name, f"is {value!r}, and should be a number {least}" + f", at most {high:g}" * (high < inf))
            return default
        given: float = value
        return given

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return true or false."""
        return bool(self._typed(name, bool)) if name in self.values else default

    def of(self, cls: type[Any]) -> dict[str, Any]:
        """Return the values given for a dataclass's fields, checked against their types; a problem for each wrong type,
        and for each missing field without a default.
        """
        hints, found = get_type_hints(cls), {}
        for one in fields(cls):
            if one.name in self.values:
                found[one.name] = self._typed(one.name, hints[one.name])
            elif one.default is MISSING and one.default_factory is MISSING:
                self.wrong(one.name, "is missing")
        return found

    def parsed(self, hints: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given texts as values of their types; a problem for each that does not parse."""
        found = {}
        for name in hints.keys() & self.values.keys():
            try:
                found[name] = from_text(hints[name], self.values[name])
            except ValueError:
                self.wrong(name, f"is {self.values[name]!r}, and should be {_KINDS.get(hints[name], hints[name])}")
        return found

    def _typed(self, name: str, kind: Any) -> Any:
        value, plain = self.values[name], get_origin(kind) or kind
        if issubclass(plain, StrEnum):
            return plain(self.text(name, one_of=tuple(plain)))
        if isinstance(value, bool) and plain is not bool:
            fits = False
        else:
            fits = isinstance(value, (int, float) if plain is float else plain)
        if not fits:
            self.wrong(name, f"is {value!r}, and should be {_KINDS.get(plain, 'a mapping')}")
        return value

    def items(self, name: str, *, needed: bool = False) -> list[Any]:
        """Return a list."""
        value = [] if self.values.get(name) is None else self.values[name]
        if not isinstance(value, list):
            self.wrong(name, f"is a {type(value).__name__}, and should be a list")
            return []
        if needed and not value:
            self.wrong(name, "is missing or empty")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """Return a mapping of texts (labels)."""
        value = self.values.get(name, {})
        if not isinstance(value, Mapping) or any(not isinstance(v, (str, int, bool)) for v in value.values()):
            self.wrong(name, "should be a mapping of texts")
            return {}
        return {str(key): str(v).lower() if isinstance(v, bool) else str(v) for key, v in value.items()}

    def inside(self, name: str, *, known: Sequence[str]) -> Fields:
        """Return a mapping inside this one; an empty one when it is missing."""
        return Fields(
            {} if self.values.get(name) is None else self.values[name],
            f"{self.where}.{name}" if self.where else name,
            self.problems,
            known=known,
        )


def parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Parse a command option's NAME=VALUE texts; the last of a name wins. Raises Misuse that names every wrong one."""
    if wrong := [text for text in texts if "=" not in text]:
        raise Misuse(f"{option} {', '.join(map(repr, wrong))}: want NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)


def whole_number(text: object) -> int | None:
    """The number that a text says in plain digits, perhaps with a minus; None for anything else, or beyond 64 bits.

    For what strangers wrote: `str.isdigit` takes digits that `int` refuses, and `int` takes blanks, underscores and
    other scripts' digits, and refuses more than 4,300.
    """
    return int(text) if isinstance(text, str) and _WHOLE.fullmatch(text) else None


def from_text(hint: Any, text: str) -> Any:
    """Parse a text as a value of this type; raises ValueError when it is none. A Literal is checked by whoever takes
    it.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if hint in (int, float, str):
        return hint(text)
    if origin is tuple:
        return tuple(inner[0](part) for part in text.split(",") if part)
    if type(None) in inner:
        return None if text == "none" else from_text(next(one for one in inner if one is not type(None)), text)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict(part.split("=", 1) if "=" in part else part.split(":", 1) for part in text.split(","))
    return text
