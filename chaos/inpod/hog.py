"""Runs inside a hog's pod: `python -m chaos.inpod.hog hog --cores N --memory MIB --for SECONDS`.

Says `injected` with what it has got: CPU seconds burnt in its first moments, and memory that is really resident.
Standard library only.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import signal
import sys
import time

from chaos.inpod.process_helper import NO_EFFECT, hold, say

_LOOK = 0.5  # seconds of burning after which it is measured
_LEAST = 0.05  # cores that must have been got: on a full machine a hog gets little, and still eats


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def burn() -> None:
    while True:
        sum(range(10_000))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos.inpod.hog")
    parser.add_argument("action", choices=["hog"])
    parser.add_argument("--cores", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--for", dest="seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    at = time.time_ns()
    children = []
    for _ in range(options.cores):
        if (child := os.fork()) == 0:
            burn()
        children.append(child)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        held = mmap.mmap(-1, max(1, options.memory) << 20)
        for offset in range(0, options.memory << 20, mmap.PAGESIZE):
            held[offset] = 1
        begun, before = time.monotonic(), _cpu(children)
        time.sleep(_LOOK)  # the length of a measurement
        cores = (_cpu(children) - before) / (time.monotonic() - begun)
        if (options.cores and cores < _LEAST) or resident_mib() < options.memory:
            say("weak", cores=cores, resident_mib=resident_mib())
            return NO_EFFECT
        say("injected", effect=at, cores=round(cores, 3), resident_mib=round(resident_mib()))
        hold(options.seconds)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    say("recovered", effect=time.time_ns())
    return 0


def _cpu(children: list[int]) -> float:
    """CPU seconds of the children so far."""
    ticks = 0
    for child in children:
        with open(f"/proc/{child}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
