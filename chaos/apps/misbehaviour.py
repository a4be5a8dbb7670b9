"""Deliberate misbehaviour of a server, until a deadline: the judge is tested against harm of a known size.

Set by `POST /misbehaviour` on the control port, for the application ports only: the sentinel must not feel it.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, fields
from enum import StrEnum

from chaos.fields import Fields


class Action(StrEnum):
    """What to do with one request."""

    ANSWER = "answer"
    ERROR = "error"  # answer with `error_status`
    RESET = "reset"  # close the connection without an answer
    STALL = "stall"  # never answer


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """How to treat each request; the defaults answer it normally. Shares lie in [0, 1]."""

    delay_ms: float = 0.0  # added before the answer
    delay_spread_ms: float = 0.0  # plus an exponential of this mean
    delay_share: float = 1.0  # of this share of requests
    error_share: float = 0.0
    error_status: int = 500
    reset_share: float = 0.0
    stall: bool = False  # hold every answer until it is told otherwise, or its deadline
    seed: int = 0
    seconds: float = 0.0  # after which it behaves again; 0 means never

    @classmethod
    def parse(cls, text: bytes) -> Misbehaviour:
        """Parse JSON; raises ValueError naming every problem."""
        problems: list[str] = []
        top = Fields(json.loads(text or b"{}"), "", problems, known=[one.name for one in fields(cls)])
        values = top.of(cls)
        for name in values:
            if name.endswith("_share"):
                top.number(name, default=0.0, low=0.0, high=1.0)
            elif name in ("delay_ms", "delay_spread_ms", "seconds"):
                top.number(name, default=0.0, low=0.0)
        if problems:
            raise ValueError("misbehaviour: " + "; ".join(problems))
        return cls(**values)


class Temper:
    """The misbehaviour in force, and the random numbers that apply it. `calm` is the fast path: nothing to decide."""

    def __init__(self) -> None:
        self.set(Misbehaviour())

    def set(self, misbehaviour: Misbehaviour) -> None:
        self.misbehaviour = misbehaviour
        self.random = random.Random(misbehaviour.seed)
        self.ends = time.monotonic() + misbehaviour.seconds if misbehaviour.seconds else None
        self.calm = misbehaviour == Misbehaviour(seed=misbehaviour.seed, seconds=misbehaviour.seconds)

    def decide(self) -> tuple[Action, float]:
        """Return what to do with a request, and after how many seconds."""
        if self.ends is not None and time.monotonic() >= self.ends:
            self.set(Misbehaviour())
        if self.calm:
            return Action.ANSWER, 0.0
        misbehaviour, chance = self.misbehaviour, self.random.random
        if misbehaviour.stall:
            return Action.STALL, 0.0
        delay = 0.0
        if chance() < misbehaviour.delay_share:
            delay = misbehaviour.delay_ms / 1e3
            if misbehaviour.delay_spread_ms:
                delay += self.random.expovariate(1e3 / misbehaviour.delay_spread_ms)
        draw = chance()
        if draw < misbehaviour.error_share:
            return Action.ERROR, delay
        if draw < misbehaviour.error_share + misbehaviour.reset_share:
            return Action.RESET, delay
        return Action.ANSWER, delay
