"""Rising load on one tenant's path: the rate at which a share of the budget gives out."""

from __future__ import annotations

import statistics
import time

from chaos.engine.designs import GAVE_OUT
from chaos.engine.saturation import classify_saturation
from chaos.engine.scenario import scenario
from chaos.engine.targets import proxies_of_client
from chaos.engine.trial import Trial
from chaos.faults.overload import LIMITED_RATE, MAX_RATE_REACHED, Overload
from chaos.model.flow import Window, WindowKind
from chaos.verdict import Measure
from chaos.verdict.check import decided, measured
from chaos.verdict.measures import over_repeats

RAMPS = 3
HELD = 1.6  # seconds at the rate that was too much: a reading of CPU use covers the second before it


@scenario("saturation", faults=(Overload,))
def saturation(trial: Trial) -> None:
    """A tenant's path gives out where a proxy has used up its share of the budget; the rate at which it does is
    measured.
    """
    tenant = trial.deployment.tenants[0]
    target, path = trial.deployment.loader_target(tenant), proxies_of_client(trial.placement, tenant.client, whole=True)
    trial.baseline()
    rates: list[float] = []
    held: list[Window] = []
    bounds: set[str] = set()
    for _ in range(RAMPS):
        trial.deployment.pause(tenant)
        with trial.fault(
            Overload(**tenant.call_options(), seconds=20.0, start_rate=200.0, max_rate=LIMITED_RATE),
            target,
            described=f"{tenant.client} overloads {tenant.server}",
        ) as injection:
            (receipt,) = injection.receipts
            rates.append(float(receipt.evidence["saturated_at"]))
            bounds.add(str(receipt.evidence["why"]) if not receipt.evidence["loader_bound"] else "loader")
            begin = time.time_ns()
            trial.hold(HELD)
            held.append(Window(WindowKind.FAULT, begin, time.time_ns()))
        trial.restore_load(tenant)
    trial.measures[GAVE_OUT] = over_repeats([Measure(rate, rate, rate, "requests/s") for rate in rates], "ramp")
    least = "at least " if bounds <= {MAX_RATE_REACHED, "loader"} else ""
    trial.show(
        measured(
            GAVE_OUT,
            f"{least}{statistics.median(rates):.0f} requests/s ({min(rates):.0f} to {max(rates):.0f} in {RAMPS} ramps; "
            f"{', '.join(sorted(bounds))})",
            statistics.median(rates),
            "requests/s",
        )
    )
    if any(proxy.cpu_millicores for proxy in path):
        gave_out = not bounds & {MAX_RATE_REACHED, "loader"}
        full = classify_saturation(path, trial.events(), held, gave_out=gave_out).saturated
        trial.show(
            decided(
                "a proxy's share of the budget is what gives out",
                bool(full),
                f"full were {', '.join(map(str, full)) or 'none of its proxies'}",
            )
        )
