"""One proxy dies whenever it comes up: the kubelet backs off, and who shares it stays without it."""

from __future__ import annotations

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.crash_loop import CrashLoop
from chaos.model.faulting import FaultShape
from chaos.verdict import Harm


@scenario(
    "proxy-crash-loop", spoils=True
)  # the back-off stays: who breaks this proxy next waits minutes for its successor
def proxy_crash_loop(trial: Trial) -> None:
    """A proxy that crashes again and again hurts the flows behind it all the while, and no other."""
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.HELD, harm=Harm.ERRORS)
    trial.break_and_watch(CrashLoop(), trial.container(proxy), seconds=120.0)
