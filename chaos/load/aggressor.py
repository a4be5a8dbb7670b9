"""Deliberate overload: a flow whose rate grows until its path saturates, holds it there, and ends at its own
deadline.

The deadline is the loader's own: a runner that dies leaves no aggressor behind for longer than it asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from time import monotonic_ns
from typing import Final

from chaos.load.engine import Engine
from chaos.load.reactor import TOLERANCE, Timer
from chaos.load.spec import AggressorSpec

_SLOWER: Final = 4.0  # the median latency, against the first step's, that means: the path has given out
_SLOWER_AT_LEAST: Final = 20_000_000  # ns: and at least this, or it is noise of a quick path


class Phase(StrEnum):
    RAMP = "ramp"
    HOLD = "hold"
    ENDED = "ended"


def detect_saturation(*, offered: int, lost: int, shed: int, median: int, first_median: int) -> str:
    """Return why the path saturated in one step; "" while it has not.

    Args:
        offered, lost, shed: requests of this step that fell due, that ended badly after they were sent or while they
            connected, that were shed. (Not the answered ones: a step's answers may come in the next.)
        median, first_median: latency in ns, of this step and of the ramp's first; 0 when nothing was answered.
    """
    if offered >= 10 and shed > 0.05 * offered:
        return "shed"
    if offered >= 10 and lost > 0.2 * offered:
        return "errors"
    if first_median and median > max(_SLOWER * first_median, _SLOWER_AT_LEAST):
        return "slow"
    return ""


class Aggressor:
    """Controls one engine's rate."""

    def __init__(self, engine: Engine, spec: AggressorSpec, ended: Callable[[], None]) -> None:
        self.engine, self.spec, self._ended = engine, spec, ended
        self.phase = Phase.RAMP
        self.rate = spec.start_rate
        self.saturated_at = 0.0
        self.why = ""
        self.loader_bound = False  # the loader itself came late: the path may bear more than it was offered
        now = monotonic_ns()
        self._deadline = now + int(spec.seconds * 1e9)
        self._first_median = 0
        self._stalls = engine.reactor.stalls
        self._seen = self._counts()
        self._timer: Timer | None = engine.reactor.at(now + int(spec.step * 1e9), self._step)

    def _counts(self) -> tuple[int, int, int]:
        counters = self.engine.counters
        return counters.due, counters.failed + counters.unknown - counters.shed, counters.shed

    def _step(self) -> None:
        now = monotonic_ns()
        if now >= self._deadline:
            self.stop()
            return
        reactor, spec = self.engine.reactor, self.spec
        if self.phase is Phase.RAMP:
            counts = self._counts()
            offered, lost, shed = (new - old for new, old in zip(counts, self._seen, strict=True))
            self._seen = counts
            latencies = sorted(self.engine.last_latencies)
            median = latencies[len(latencies) // 2] if latencies else 0
            why = detect_saturation(
                offered=offered, lost=lost, shed=shed, median=median, first_median=self._first_median
            )
            self._first_median = self._first_median or median
            late = reactor.stalls - self._stalls
            self._stalls = reactor.stalls
            self.loader_bound = self.loader_bound or (reactor.late > TOLERANCE and late > offered / 10)
            if not why and self.rate >= spec.max_rate:
                why = "max-rate"
            if why:
                self.phase, self.why, self.saturated_at = Phase.HOLD, why, self.rate
                self.rate = min(self.rate * (1.0 if why == "max-rate" else spec.overload), spec.max_rate)
            else:
                self.rate = min(self.rate * spec.growth, spec.max_rate)
            self.engine.last_latencies.clear()
            self.engine.set_rate(self.rate)
        self._timer = reactor.at(min(now + int(spec.step * 1e9), self._deadline), self._step)

    def stop(self) -> None:
        """End now; safe to repeat."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            if self._timer is not None:
                self._timer.cancel()
            self.engine.close()
            self._ended()

    def as_dict(self) -> dict[str, str | float | bool]:
        left = max(0.0, (self._deadline - monotonic_ns()) / 1e9) if self.phase is not Phase.ENDED else 0.0
        return {
            "profile": str(self.spec.profile),
            "phase": str(self.phase),
            "rate": self.rate,
            "why": self.why,
            "saturated_at": self.saturated_at,
            "loader_bound": self.loader_bound,
            "seconds_left": left,
        }
