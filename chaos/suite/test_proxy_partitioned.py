"""Every packet of one proxy is lost: it lives, and nobody reaches it or hears it."""

from __future__ import annotations

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.network.partition import Partition
from chaos.model.faulting import FaultShape


@scenario("proxy-partitioned")
def proxy_partitioned(trial: Trial) -> None:
    """A proxy that is cut off hurts the flows behind it, by their share, and no other."""
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.HELD)
    trial.break_and_watch(Partition(), trial.container(proxy))
