"""Knobs that make a server misbehave on purpose, with a deadline: the judge is proved against harm of a known size.

Set by `POST /knobs` on the control port, for the application ports only: the sentinel must not feel them.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, fields
from enum import StrEnum


class Act(StrEnum):
    """What to do with one request."""

    ANSWER = "answer"
    ERROR = "error"  # answer with `error_status`
    RESET = "reset"  # close the connection without an answer
    STALL = "stall"  # never answer


@dataclass(frozen=True, slots=True)
class Knobs:
    """How to treat each request; the defaults treat it well. Shares lie in [0, 1]."""

    delay_ms: float = 0.0  # added before the answer
    delay_spread_ms: float = 0.0  # plus an exponential of this mean
    delay_share: float = 1.0  # of this share of requests
    error_share: float = 0.0
    error_status: int = 500
    reset_share: float = 0.0
    stall: bool = False  # hold every answer until the knob is turned back, or its deadline
    seed: int = 0
    seconds: float = 0.0  # after which all knobs turn back by themselves; 0 means never

    @classmethod
    def parse(cls, text: bytes) -> Knobs:
        """From JSON; raises ValueError naming every problem."""
        data = json.loads(text or b"{}")
        if not isinstance(data, dict):
            raise ValueError("knobs: expected a JSON object")
        kinds = {field.name: field.type for field in fields(cls)}
        problems = [f"{name}: unknown knob; known are {', '.join(kinds)}" for name in data if name not in kinds]
        for name, value in data.items():
            kind = kinds.get(name, "any")
            if kind != "any" and (isinstance(value, bool) != (kind == "bool") or not isinstance(value, int | float)):
                problems.append(f"{name}: expected {kind}, got {value!r}")
            elif name.endswith("_share") and not 0 <= value <= 1:
                problems.append(f"{name}: a share lies in [0, 1], got {value!r}")
            elif name in ("delay_ms", "delay_spread_ms", "seconds") and value < 0:
                problems.append(f"{name}: must not be negative, got {value!r}")
        if problems:
            raise ValueError("knobs: " + "; ".join(problems))
        return cls(**data)


class Temper:
    """The knobs in force, and the chance that applies them. `calm` is the fast path: nothing to decide."""

    def __init__(self) -> None:
        self.set(Knobs())

    def set(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.random = random.Random(knobs.seed)
        self.ends = time.monotonic() + knobs.seconds if knobs.seconds else None
        self.calm = knobs == Knobs(seed=knobs.seed, seconds=knobs.seconds)

    def decide(self) -> tuple[Act, float]:
        """What to do with a request, and after how many seconds."""
        if self.ends is not None and time.monotonic() >= self.ends:
            self.set(Knobs())
        if self.calm:
            return Act.ANSWER, 0.0
        knobs, chance = self.knobs, self.random.random
        if knobs.stall:
            return Act.STALL, 0.0
        delay = 0.0
        if chance() < knobs.delay_share:
            delay = knobs.delay_ms / 1e3
            if knobs.delay_spread_ms:
                delay += self.random.expovariate(1e3 / knobs.delay_spread_ms)
        draw = chance()
        if draw < knobs.error_share:
            return Act.ERROR, delay
        if draw < knobs.error_share + knobs.reset_share:
            return Act.RESET, delay
        return Act.ANSWER, delay
