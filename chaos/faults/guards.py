"""Abort conditions: a guard watches a measure, and ends the faults as soon as it passes its limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """End the held faults when `measure()` rises above (or, with `below`, falls under) the limit.

    Args:
        name: of the measure, for people.
        measure: called a few times a second from a thread of its own; an exception of its own ends the faults too,
            because a guard that cannot see does not guard.
    """

    name: str
    measure: Callable[[], float]
    limit: float
    below: bool = False

    def tripped(self) -> str:
        """Return what was measured; "" within the limit."""
        try:
            value = self.measure()
        except Exception as error:  # the measure is the user's: whatever it raises, it does not measure any more
            return f"{self.name} cannot be measured: {type(error).__name__}: {error}"
        wrong = value < self.limit if self.below else value > self.limit
        return (
            f"{self.name} is {value:g}, {'below' if self.below else 'above'} its limit {self.limit:g}" if wrong else ""
        )


def first_tripped(guards: Sequence[Guard]) -> str:
    """Return the first guard's message; "" when none has tripped."""
    return next((text for guard in guards if (text := guard.tripped())), "")
