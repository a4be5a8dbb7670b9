"""How long a run will take yet: what its trials usually take, corrected by how this machine has done so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

# Seconds of a scenario's trial on two cores, the median of runs of the default matrix; its share of a deployment
# included.
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


class EtaEstimator:
    """Told of each trial as it begins.

    Args:
        scenarios: the trials of the run, by scenario.
    """

    def __init__(self, scenarios: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = [USUAL.get(name, _OTHERS) for name in scenarios]
        self._total, self._whole = len(scenarios), sum(self._left)
        self._clock = clock
        self._began: float | None = None

    def next(self, scenario: str) -> str:
        """The line to show as a trial begins: which one it is, and about how long the rest takes."""
        now = self._clock()
        if self._began is None:
            self._began = now
        left = sum(self._left)
        done = self._whole - left
        seconds = left * max((now - self._began) / done, 0.5) if done else left
        line = f"trial {self._total - len(self._left) + 1} of {self._total}, about {_spoken(seconds)} left"
        usual = USUAL.get(scenario, _OTHERS)
        if usual in self._left:
            self._left.remove(usual)
        return line


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
