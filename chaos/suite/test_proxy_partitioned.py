"""Every packet of one proxy is lost: it lives, and nobody reaches it or hears it."""

from __future__ import annotations

from chaos.engine.designs import break_proxy
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.network.partition import Partition


@scenario("proxy-partitioned", faults=(Partition,))
def proxy_partitioned(trial: Trial) -> None:
    """A proxy that is cut off hurts the flows behind it, by their share, and no other."""
    probed_alone = not trial.mesh.mode.hops  # nothing else reaches a placebo, so that nothing else could be lost
    break_proxy(trial, Partition(spare_status=not probed_alone), trial.deployment.proxy_to_break())
