"""One clock and one seeded source of chance, both injectable.

Every random choice draws from a named child of the run's seed, so that a new draw in one place does not move the others
and a failure can be repeated from the seed that its message states.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """What a runner needs of time."""

    def now(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        """Let `seconds` pass, or less when `until` is set meanwhile; whether it was."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        return (until or threading.Event()).wait(max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed with named children: `seed.child("targets").random()`."""

    value: int
    path: tuple[str, ...] = field(default=())

    def child(self, *names: str) -> Seed:
        """The seed of a named part; the same names always give the same seed."""
        return Seed(self.value, (*self.path, *names))

    def random(self) -> random.Random:
        """A generator of its own for this part."""
        return random.Random(self.number())

    def number(self) -> int:
        """A 64-bit number that stands for this part."""
        text = "/".join((str(self.value), *self.path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def __str__(self) -> str:
        return str(self.value)
