"""Estimates how long a run still takes: from what its trials usually take, corrected by this machine's speed so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

# Seconds of a scenario's trial on two cores, the median of runs of the default matrix.
USUAL: Final = {
    "noisy-neighbour": 30.0,
    "noisy-handshakes": 30.0,
    "noisy-bodies": 30.0,
    "noisy-slow-readers": 30.0,
    "proxy-throttled": 35.0,
    "saturation": 22.0,
    "features": 24.0,
    "footprint": 16.0,
    "proxy-paused": 13.0,
    "control-plane-down": 13.0,
}
_OTHERS: Final = 9.0  # seconds
CLUSTER: Final = 4.0  # seconds until an embedded cluster answers
DEPLOYMENT: Final = 9.0  # seconds: a mode's deployment, its load getting steady, and its going


class EtaEstimator:
    """Told of each trial as it begins.

    Args:
        trials: (mode, scenario) of the run, in order: each change of mode is a deployment.
    """

    def __init__(self, trials: Sequence[tuple[str, str]], *, clock: Callable[[], float] = time.monotonic) -> None:
        modes = ["", *(mode for mode, _ in trials)]
        self._left = [
            USUAL.get(scenario, _OTHERS) + (DEPLOYMENT if mode != before else 0.0) + (CLUSTER if not before else 0.0)
            for before, (mode, scenario) in zip(modes, trials, strict=False)
        ]
        self._total, self._whole = len(trials), sum(self._left)
        self._clock = clock
        self._began: float | None = None

    def next(self) -> str:
        """Return the line to show as a trial begins: which one it is, and about how long the rest takes."""
        now = self._clock()
        if self._began is None:
            self._began = now
        left = sum(self._left)
        done = self._whole - left
        seconds = left * max((now - self._began) / done, 0.5) if done else left
        line = f"trial {self._total - len(self._left) + 1} of {self._total}, about {_spoken(seconds)} left"
        if self._left:
            self._left.pop(0)
        return line


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
