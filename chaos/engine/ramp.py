"""How much load fills a proxy: found before a trial by a ramp, whose loader knows when its path gave out, and by the
proxy's own use of its CPU limit while that load is held.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

from chaos.engine.designs import BORNE_SHARE, bounded
from chaos.engine.saturation import SATURATED, use
from chaos.engine.topology import TenantLoad
from chaos.engine.trial import Trial
from chaos.faults.injection import injected
from chaos.faults.overload import Overload
from chaos.history.model import EventKind
from chaos.history.spans import SpanKind
from chaos.model.flow import Window, WindowKind
from chaos.model.placement import Proxy
from chaos.verdict import Measure

HOLD: Final = 3.5  # seconds for which the load is held: two readings of a proxy's use lie whole in it
ENDS_AT: Final = 3.0  # they end before, where the path gives out
FILLS: Final = "rate that fills the proxy"


@dataclass(frozen=True, slots=True)
class Ramp:
    """Where a path gave out, and what that did to the proxy that is asked about.

    Attributes:
        rate: requests a second.
        why: as the loader says.
        used: the share of the proxy's CPU limit; None: not read.
    """

    rate: float
    why: str
    loader_bound: bool
    used: float | None

    @property
    def fills(self) -> bool:
        """Whether the load filled the proxy."""
        return self.used is not None and self.used >= SATURATED

    def said(self, proxy: Proxy) -> str:
        """What was found, in words."""
        how = "the loader itself came late" if self.loader_bound else f"the loader says: {self.why}"
        used = "was not read" if self.used is None else f"used {self.used:.2f} of its CPU limit"
        return f"the path gave out at {self.rate:.0f} requests/s ({how}), and {proxy} {used}"


def ramp(trial: Trial, fault: Overload, noisy: TenantLoad, proxy: Proxy) -> Ramp:
    """Raise the tenant's load, of the fault's kind, until its path gives out; hold it there, and end it. The tenant's
    own flow pauses meanwhile.

    Raises NoEffect when the path carried all that the loader may send.
    """
    trial.progress.step(f"{trial.name}: a ramp to what fills {proxy}")
    target = trial.deployment.loader_target(noisy)
    fault = bounded(fault, [proxy])
    trial.deployment.pause(noisy)
    try:
        with trial.spans.span("ramp", SpanKind.WAIT):
            with injected(trial.cluster, fault, target, run=trial.deployment.run) as receipts:
                begin = time.time_ns()
                trial.hold(HOLD)
                held = Window(WindowKind.FAULT, begin, time.time_ns())
    finally:
        trial.restore_load(noisy)
    seen = receipts[0].evidence
    found = Ramp(
        float(seen["saturated_at"]), str(seen["why"]), bool(seen["loader_bound"]), use(proxy, trial.events(), [held])
    )
    trial.note(EventKind.NOTE, {"ramp": found.said(proxy)})
    trial.progress.step(f"{trial.name}: {found.said(proxy)}")
    if found.fills:
        trial.measures[FILLS] = Measure(found.rate, found.rate, found.rate, "requests/s")
    return found


def at_rate(fault: Overload, found: Ramp) -> Overload:
    """Return the fault around the rate that a ramp found."""
    return replace(fault, start_rate=BORNE_SHARE * found.rate, max_rate=ENDS_AT * found.rate)
