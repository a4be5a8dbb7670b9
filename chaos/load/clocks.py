"""Aligns a loader's clock with the runner's from round trips. Pure; the collector feeds it.

A loader's answer holds its clock at a moment between the question and the answer, so each round trip bounds the offset
(loader minus runner) from both sides; the bounds of many round trips meet. They are widened with age, because clocks
drift. When zero lies within them, the clocks agree as far as can be known, and nothing is taken out: two processes of
one machine are never made to disagree by the asymmetry of a round trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DRIFT: Final = 50e-6  # seconds a second: what an undisciplined quartz does


@dataclass(frozen=True, slots=True)
class Offset:
    """The correction of a loader's instants, and its error, in ns."""

    value: int
    error: int


@dataclass(slots=True)
class RemoteClock:
    """Bounds of one loader's offset, in ns, as of the runner's instant `at`."""

    low: float = float("-inf")
    high: float = float("inf")
    at: int = 0

    def observe(self, *, asked: int, answered: int, clock: int) -> None:
        """Take one round trip: the runner's instants around it, and the loader's clock inside it."""
        age = max(0, answered - self.at) * DRIFT if self.at else 0.0
        low, high = max(self.low - age, clock - answered), min(self.high + age, clock - asked)
        if low > high:  # one of the clocks was set: begin anew
            low, high = clock - answered, clock - asked
        self.low, self.high, self.at = low, high, answered

    @property
    def offset(self) -> Offset:
        """Return the correction: none while the clocks may agree, else the middle of the possible range."""
        if self.low <= 0 <= self.high:
            return Offset(0, round(max(-self.low, self.high)) if self.at else 0)
        return Offset(round((self.low + self.high) / 2), round((self.high - self.low) / 2))
