"""Reads mappings of a YAML document: every problem is collected, with the field's path and what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Fields:
    """One mapping, and the problems found so far (shared with those inside it)."""

    def __init__(self, value: Any, where: str, problems: list[str], *, known: Sequence[str]) -> None:
        self.where, self.problems = where, problems
        self.values: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self.wrong("", f"is a {type(value).__name__}, and should be a mapping with {', '.join(known)}")
        for name in sorted(map(str, self.values.keys() - set(known))):
            self.wrong(name, f"is not known here: known are {', '.join(known)}")

    def wrong(self, name: str, says: str) -> None:
        self.problems.append(f"{'.'.join(part for part in (self.where, name) if part)} {says}")

    def text(self, name: str, *, default: str | None = None, one_of: Sequence[str] = ()) -> str:
        """A text; a problem when it is missing without a default, or not one of those that can be."""
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

    def number(self, name: str, *, default: float) -> float:
        """A number above 0."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            self.wrong(name, f"is {value!r}, and should be a number above 0")
            return default
        return value

    def items(self, name: str, *, needed: bool = False) -> list[Any]:
        """A list."""
        value = self.values.get(name, [])
        if not isinstance(value, list):
            self.wrong(name, f"is a {type(value).__name__}, and should be a list")
            return []
        if needed and not value:
            self.wrong(name, "is missing or empty")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """A mapping of texts (labels)."""
        value = self.values.get(name, {})
        if not isinstance(value, Mapping) or any(not isinstance(v, (str, int, bool)) for v in value.values()):
            self.wrong(name, "should be a mapping of texts")
            return {}
        return {str(key): str(v).lower() if isinstance(v, bool) else str(v) for key, v in value.items()}

    def inside(self, name: str, *, known: Sequence[str]) -> Fields:
        """A mapping inside this one; an empty one when it is not there."""
        return Fields(
            self.values.get(name, {}), f"{self.where}.{name}" if self.where else name, self.problems, known=known
        )
