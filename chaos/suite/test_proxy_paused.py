"""One proxy stops answering and keeps its connections: a gray failure, which nothing that watches connections
notices.
"""

from __future__ import annotations

from chaos.engine.designs import break_proxy
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.pause import Pause


@scenario("proxy-paused", faults=(Pause,))
def proxy_paused(trial: Trial) -> None:
    """A proxy that hangs hurts the flows behind it, by their share, and no other, until it goes on."""
    break_proxy(trial, Pause(), trial.deployment.proxy_to_break())
