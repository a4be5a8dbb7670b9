"""What else the machine does while a history is recorded: nothing, one core's work, or more than all its cores can do.

Loops of arithmetic at the usual priority, each with a deadline of its own, so that nothing outlives a harness that died.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    NOISY = "noisy"  # as many loops as cores, all the time, and twice as many more that come and go


BURST_ON, BURST_OFF = 0.4, 1.2  # seconds in the mean


def plan_loops(machine: Machine, cores: int) -> list[tuple[float, float]]:
    """Of each loop, the mean seconds of work and of rest."""
    steady, bursts = {Machine.IDLE: (0, 0), Machine.BUSY: (1, 0), Machine.NOISY: (cores, 2 * cores)}[machine]
    return [(1.0, 0.0)] * steady + [(BURST_ON, BURST_OFF)] * bursts


@contextmanager
def occupied(machine: Machine, *, seconds: float, seed: int = 1) -> Iterator[None]:
    """The machine in that state until left, and no longer than `seconds`."""
    loops = [
        subprocess.Popen([sys.executable, "-c", _LOOP, str(seconds), str(on), str(off), str(seed + number)])
        for number, (on, off) in enumerate(plan_loops(machine, os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()
