"""One proxy's CPU limit is cut to a tenth of a tenth of a core. Who slows down is who shares it."""

from __future__ import annotations

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.throttle import Throttle
from chaos.model.faulting import FaultShape


@scenario("proxy-throttled")
def proxy_throttled(trial: Trial) -> None:
    """A proxy that is starved of CPU hurts the flows behind it, and no other."""
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.GRADUAL)
    trial.switchback(Throttle(millicores=10), trial.container(proxy))
