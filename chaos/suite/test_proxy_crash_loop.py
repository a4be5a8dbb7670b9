"""One proxy dies whenever it comes up: the kubelet backs off, and who shares it stays without it."""

from __future__ import annotations

from chaos.engine.designs import break_proxy
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.crash_loop import CrashLoop
from chaos.verdict import Harm


@scenario(
    "proxy-crash-loop", faults=(CrashLoop,), redeploys_after=True
)  # the back-off stays: who breaks this proxy next waits minutes for its successor
def proxy_crash_loop(trial: Trial) -> None:
    """A proxy that crashes again and again hurts the flows behind it all the while, and no other."""
    break_proxy(trial, CrashLoop(), trial.deployment.proxy_to_break(), harm=Harm.ERRORS, seconds=120.0)
