"""Finds an activity's target: a tenant by its name, a proxy by its place on a tenant's path. Read live, never
assumed.
"""

from __future__ import annotations

from chaos.engine import targets
from chaos.engine.targets import SIDES as SIDES
from chaos.engine.topology import TenantLoad
from chaos.engine.trial import Trial
from chaos.errors import Misuse, NoTargets
from chaos.model.modes import Layer
from chaos.model.placement import Proxy


def tenant_named(trial: Trial, name: str) -> TenantLoad:
    """Return a tenant by its name or its namespace; raises Misuse that lists the known ones."""
    for tenant in trial.deployment.tenants:
        if name in (tenant.name, tenant.namespace):
            return tenant
    known = ", ".join(tenant.namespace for tenant in trial.deployment.tenants)
    raise Misuse(f"unknown tenant {name!r}: known are {known}")


def proxy_on_path(trial: Trial, tenant: str, layer: str, side: str = "client") -> Proxy:
    """Return the first proxy of that layer on the path of a tenant's requests, or (side `server`) the last.

    The placebo where the mode has no proxy; raises NoTargets where it has none of that layer.
    """
    if side not in SIDES:
        raise Misuse(f"side is {side!r}: it is {' or '.join(SIDES)}")
    placement = trial.deployment.placement()
    owner = tenant_named(trial, tenant)
    if not placement.mode.hops:
        return trial.deployment.proxy_to_break()
    wanted = None if layer == "any" else Layer(layer)
    if (found := targets.proxy_on_path(placement, client=owner.client, layer=wanted, side=side)) is not None:
        return found
    raise NoTargets(
        f"no {layer} proxy on the path of {owner.namespace} in mode {placement.mode.name}: nothing would be tested"
    )
