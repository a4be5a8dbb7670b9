"""One seeded source of randomness.

Every random choice draws from a named child of the run's seed, so that a new draw in one place does not move the others
and a failure can be repeated from the seed that its message states.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed with named children: `seed.child("targets").random()`."""

    value: int
    path: tuple[str, ...] = field(default=())

    def child(self, *names: str) -> Seed:
        """Return the seed of a named part; the same names always give the same seed."""
        return Seed(self.value, (*self.path, *names))

    def random(self) -> random.Random:
        """Return a random generator for this part alone."""
        return random.Random(self.number())

    def number(self) -> int:
        """Return a 64-bit number that stands for this part."""
        text = "/".join((str(self.value), *self.path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def __str__(self) -> str:
        return str(self.value)
