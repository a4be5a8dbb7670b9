"""One proxy stops answering and keeps its connections: a gray failure, which nothing that watches connections
notices.
"""

from __future__ import annotations

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.pause import Pause
from chaos.model.faulting import FaultShape


@scenario("proxy-paused")
def proxy_paused(trial: Trial) -> None:
    """A proxy that hangs hurts the flows behind it, by their share, and no other, until it goes on."""
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.HELD)
    trial.break_and_watch(Pause(), trial.container(proxy))
