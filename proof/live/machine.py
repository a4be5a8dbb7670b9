"""What else the machine does while a history is recorded: nothing, one core's work, all cores' work, or far more than
that in bursts.

Loops of arithmetic at the usual priority, each with a deadline of its own, so that nothing outlives a harness that
died.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

# Works for `on` seconds in the mean, rests for `off` (both exponential); off 0: never rests. Ends by itself.
_LOOP = """
import random, sys, time
seconds, on, off, seed = float(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
chance, end = random.Random(seed), time.monotonic() + seconds
while (now := time.monotonic()) < end:
    until = min(end, now + chance.expovariate(1 / on)) if off else end
    while time.monotonic() < until:
        sum(range(2000))
    if off:
        time.sleep(min(chance.expovariate(1 / off), max(0.0, end - time.monotonic())))
"""


class Machine(StrEnum):
    """The state of the machine beside the system under test."""

    IDLE = "idle"
    BUSY = "busy"  # one core's worth of work, all the time
    FULL = "full"  # as many loops as cores, all the time, and twice as many more that come and go, each by itself
    NOISY = "noisy"  # as many loops as cores, all the time, and bursts of six more a core, all at once


BURST_ON, BURST_OFF = 0.4, 1.2  # seconds in the mean


@dataclass(frozen=True, slots=True)
class Loop:
    """One process: mean seconds of work and of rest (0: it never rests). Loops of one seed work and rest together."""

    on: float
    off: float
    seed: int


def plan_loops(machine: Machine, cores: int) -> list[Loop]:
    """The processes that make that state."""
    steady = {Machine.IDLE: 0, Machine.BUSY: 1, Machine.FULL: cores, Machine.NOISY: cores}[machine]
    loops = [Loop(1.0, 0.0, number) for number in range(steady)]
    if machine is Machine.FULL:
        loops += [Loop(BURST_ON, BURST_OFF, 100 + number) for number in range(2 * cores)]
    if machine is Machine.NOISY:
        loops += [Loop(BURST_ON, BURST_OFF, 100)] * (6 * cores)
    return loops


@contextmanager
def working(loops: Sequence[Loop], *, seconds: float) -> Iterator[None]:
    """Those loops run until left, and no longer than `seconds`."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _LOOP, str(seconds), str(loop.on), str(loop.off), str(loop.seed)])
        for loop in loops
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@contextmanager
def occupied(machine: Machine, *, seconds: float) -> Iterator[None]:
    """The machine in that state until left, and no longer than `seconds`."""
    with working(plan_loops(machine, os.cpu_count() or 1), seconds=seconds):
        yield
