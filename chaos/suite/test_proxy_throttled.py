"""One proxy's CPU limit is cut to a tenth of a tenth of a core. Who slows down is who shares it."""

from __future__ import annotations

from chaos.engine.designs import break_proxy
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.throttle import Throttle


@scenario("proxy-throttled", faults=(Throttle,))
def proxy_throttled(trial: Trial) -> None:
    """A proxy that is starved of CPU hurts the flows behind it, and no other."""
    break_proxy(trial, Throttle(millicores=10), trial.deployment.proxy_to_break())
