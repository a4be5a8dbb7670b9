"""One proxy reaches its memory limit, and the kernel kills it. Who is hurt is who shared it."""

from __future__ import annotations

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.out_of_memory import OutOfMemory
from chaos.model.faulting import FaultShape
from chaos.verdict import Harm


@scenario("proxy-out-of-memory")
def proxy_out_of_memory(trial: Trial) -> None:
    """A proxy that is OOMKilled hurts the flows behind it, by their share, and no other."""
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.PULSE, harm=Harm.ERRORS)
    trial.break_and_watch(OutOfMemory(), trial.container(proxy))
