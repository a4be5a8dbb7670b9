"""One proxy dies at once. Who is hurt is who shared it, and the kubelet brings it back."""

from __future__ import annotations

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.kill import Kill
from chaos.verdict import FaultKind, Harm


@scenario("proxy-killed")
def proxy_killed(trial: Trial) -> None:
    """The death of one proxy hurts the flows behind it, by their share, and no other."""
    proxy = trial.deployment.proxy_to_break(trial.seed)
    trial.expect_fate_of(proxy, fault_kind=FaultKind.PULSE, harm=Harm.ERRORS)
    trial.break_and_watch(Kill(), trial.container(proxy))
