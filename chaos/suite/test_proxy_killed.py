"""One proxy dies at once. Who is hurt is who shared it, and the kubelet brings it back."""

from __future__ import annotations

from chaos.engine.scenario import has_waypoints, scenario
from chaos.engine.trial import Trial
from chaos.faults.kill import Kill
from chaos.model.faulting import FaultShape
from chaos.model.modes import Layer
from chaos.verdict import Harm


@scenario("proxy-killed")
def proxy_killed(trial: Trial) -> None:
    """The death of one proxy hurts the flows behind it, by their share, and no other."""
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.PULSE, harm=Harm.ERRORS)
    trial.break_and_watch(Kill(), trial.container(proxy))


@scenario("waypoint-killed", applies=has_waypoints)
def waypoint_killed(trial: Trial) -> None:
    """The death of one waypoint hurts the flows behind it, by their share, and no other."""
    proxy = trial.deployment.proxy_to_break(Layer.L7)
    trial.expect_fate_of(proxy, fault_shape=FaultShape.PULSE, harm=Harm.ERRORS)
    trial.break_and_watch(Kill(), trial.container(proxy))
