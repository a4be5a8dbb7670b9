"""Estimates how long a run still takes: from what its own deployments and trials took, and before it has any of a kind
from what they usually take at the pace of this machine so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

# Seconds of a scenario's trial on two cores, the median of runs of the default matrix.
USUAL: Final = {
    "noisy-neighbour": 30.0,
    "noisy-handshakes": 30.0,
    "noisy-bodies": 30.0,
    "noisy-slow-readers": 30.0,
    "noisy-connections": 45.0,
    "noisy-bytes": 45.0,
    "noisy-tunnel": 40.0,
    "cron-job": 105.0,
    "job-policies": 340.0,
    "server-shut-down": 25.0,
    "root-rotated": 25.0,
    "proxy-throttled": 35.0,
    "saturation": 22.0,
    "features": 24.0,
    "footprint": 16.0,
    "proxy-killed": 17.0,  # with the kills that are repeated
    "proxy-paused": 13.0,
    "control-plane-down": 13.0,
}
_OTHERS: Final = 9.0  # seconds
CLUSTER: Final = 4.0  # seconds until an embedded cluster answers
DEPLOYMENT: Final = 9.0  # seconds: a mode's deployment, its load getting steady, and its going
ENDING: Final = 5.0  # seconds: the last mode's going, and the reports
_PRIOR: Final = 20.0  # usual seconds that the usual pace weighs: one odd trial moves it little


@dataclass(frozen=True, slots=True)
class _Step:
    """A trial with what comes before it, in usual seconds."""

    scenario: str
    trial: float
    deployment: float
    cluster: float

    @property
    def whole(self) -> float:
        return self.trial + self.deployment + self.cluster

    def share(self, seconds: float, part: float) -> float:
        """Return a part's seconds of the whole's, split as usual."""
        return seconds * part / self.whole


class EtaEstimator:
    """Told of each trial as it begins. A trial that is repeated, or taken again, counts with all that it took.

    Args:
        trials: (mode, scenario) of the run, in order: each change of mode is a deployment.
    """

    def __init__(self, trials: Sequence[tuple[str, str]], *, clock: Callable[[], float] = time.monotonic) -> None:
        modes = ["", *(mode for mode, _ in trials)]
        self._steps = [
            _Step(
                scenario,
                USUAL.get(scenario, _OTHERS),
                DEPLOYMENT if mode != before else 0.0,
                CLUSTER if not before else 0.0,
            )
            for before, (mode, scenario) in zip(modes, trials, strict=False)
        ]
        self._took: list[float] = []
        self._clock = clock
        self._begun: float | None = None

    def next(self) -> str:
        """Return the line to show as a trial begins: which one it is, and about how long the rest takes."""
        now = self._clock()
        if self._begun is not None:
            self._took.append(now - self._begun)
        self._begun = now
        return f"trial {len(self._took) + 1} of {len(self._steps)}, about {_spoken(self._left())} left"

    def _left(self) -> float:
        done = list(zip(self._steps, self._took, strict=False))
        pace = (_PRIOR + sum(self._took)) / (_PRIOR + sum(step.whole for step, _ in done))
        deployments = [step.share(took, step.deployment) for step, took in done if step.deployment]
        own: dict[str, list[float]] = {}
        for step, took in done:
            own.setdefault(step.scenario, []).append(step.share(took, step.trial))

        def expected(step: _Step) -> float:
            trial = _mean(own.get(step.scenario, [])) or step.trial * pace
            deployment = (_mean(deployments) or step.deployment * pace) if step.deployment else 0.0
            return trial + deployment + step.cluster

        return sum(map(expected, self._steps[len(done) :])) + ENDING * pace


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
