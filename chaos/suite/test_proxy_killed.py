"""One proxy dies at once. Who is hurt is who shared it, and the kubelet brings it back."""

from __future__ import annotations

from chaos.engine.designs import break_proxy
from chaos.engine.scenario import scenario, without_waypoints
from chaos.engine.trial import Trial
from chaos.faults.kill import Kill
from chaos.model.modes import Layer
from chaos.verdict import Harm


@scenario("proxy-killed", faults=(Kill,))
def proxy_killed(trial: Trial) -> None:
    """The death of one proxy hurts the flows behind it, by their share, and no other."""
    break_proxy(trial, Kill(), trial.deployment.proxy_to_break(), harm=Harm.ERRORS)


@scenario("waypoint-killed", faults=(Kill,), skip_reason=without_waypoints)
def waypoint_killed(trial: Trial) -> None:
    """The death of one waypoint hurts the flows behind it, by their share, and no other."""
    break_proxy(trial, Kill(), trial.deployment.proxy_to_break(Layer.L7), harm=Harm.ERRORS)
