"""One proxy reaches its memory limit, and the kernel kills it. Who is hurt is who shared it."""

from __future__ import annotations

from chaos.engine.designs import break_proxy
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.out_of_memory import OutOfMemory
from chaos.verdict import Harm


@scenario("proxy-out-of-memory", faults=(OutOfMemory,))
def proxy_out_of_memory(trial: Trial) -> None:
    """A proxy that the kernel kills for want of memory hurts the flows behind it, by their share, and no other."""
    break_proxy(trial, OutOfMemory(), trial.deployment.proxy_to_break(), harm=Harm.ERRORS)
