"""One pod reads large answers slowly. Another one's small requests, of the same tenant and account, stand behind them
where both are carried over one connection between proxies: head-of-line blocking.
"""

from __future__ import annotations

from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.trial import Trial
from chaos.engine.tunnel import hold_up
from chaos.faults.overload import Overload


@scenario(
    "noisy-tunnel",
    faults=(Overload,),
    skip_reason=without_proxies,
    reference_mesh_only="how much a connection between your proxies takes unread is unknown",
    reference_apps_only="what makes an application of yours answer at length is unknown: noisy-neighbour asks plainly",
)
def noisy_tunnel(trial: Trial) -> None:
    """A pod that reads slowly holds up another one's small requests where both share a connection between proxies, and
    nowhere else.
    """
    trial.show(hold_up(trial))
