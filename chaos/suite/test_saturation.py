"""Rising load on one tenant's path: the rate at which a share of the budget gives out."""

from __future__ import annotations

import statistics

from chaos.engine.features.check import decided
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial

RAMPS = 3


@scenario("saturation")
def saturation(trial: Trial) -> None:
    """A tenant's path bears more the more of the budget its proxy has, and the rate at which it gives out is measured."""
    tenant = trial.deployment.tenants[0]
    target = trial.client_container(tenant)
    trial.baseline()
    rates: list[float] = []
    bound: set[str] = set()
    for _ in range(RAMPS):
        trial.deployment.pause(tenant)
        with trial.fault(trial.deployment.overload(tenant, seconds=20.0, start_rate=200.0), target) as (receipt,):
            rates.append(float(receipt.evidence["saturated_at"]))
            bound.add(str(receipt.evidence["why"]) if not receipt.evidence["loader_bound"] else "loader")
        trial.heal(tenant)
    limit = "the loader or its highest rate, not the path, was the bound" if bound & {"max-rate", "loader"} else "the path gave out"
    trial.show(decided("the rate at which the path gives out", len(rates) == RAMPS,
                       f"{statistics.median(rates):.0f} requests/s ({min(rates):.0f} to {max(rates):.0f} in {RAMPS} ramps): {limit}",
                       statistics.median(rates), "requests/s"))
