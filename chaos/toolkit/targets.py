"""Whom an activity means: a tenant by its name, a proxy by where it stands on a tenant's path. Read live, never
assumed.
"""

from __future__ import annotations

from typing import Final

from chaos.engine.topology import Tenant
from chaos.engine.trial import Trial
from chaos.errors import Misuse, NoTargets
from chaos.model.fate import flow_shares, path
from chaos.model.flow import Flow
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy

SIDES: Final = ("client", "server")  # of a path: where it begins, where it ends


def tenant_named(trial: Trial, name: str) -> Tenant:
    """By its name or its namespace; raises Misuse naming all that exist."""
    for tenant in trial.deployment.tenants:
        if name in (tenant.name, tenant.namespace):
            return tenant
    known = ", ".join(tenant.namespace for tenant in trial.deployment.tenants)
    raise Misuse(f"unknown tenant {name!r}: known are {known}")


def proxy_on_path(trial: Trial, tenant: str, layer: str, side: str = "client") -> Proxy:
    """The proxy of that layer on the path of a tenant's requests that comes first, or (side `server`) last.

    The placebo where the mode has no proxy; raises NoTargets where it has none of that layer.
    """
    if side not in SIDES:
        raise Misuse(f"side is {side!r}: it is {' or '.join(SIDES)}")
    placement = trial.deployment.placement()
    owner = tenant_named(trial, tenant)
    if not placement.mode.hops:
        return trial.deployment.proxy_to_break()
    passed = [
        proxy
        for pair in placement.pairs()
        if pair.client.workload_key == owner.client
        for hop in path(placement, pair)
        for proxy in hop
    ]
    for proxy in passed if side == "client" else reversed(passed):
        if layer == "any" or Layer(layer) in proxy.layers:
            return proxy
    raise NoTargets(
        f"no {layer} proxy on the path of {owner.namespace} in mode {placement.mode.name}: nothing would be tested"
    )


def flows_behind(placement: Placement, proxies: list[Proxy]) -> set[Flow]:
    """The flows of which any traffic passes one of the proxies."""
    return {Flow(*call) for call, share in flow_shares(placement, proxies).items() if share > 0}


def flows_at(placement: Placement, node: str) -> set[Flow]:
    """The flows with a pod on the node, or a proxy on their path there."""
    there = {
        Flow(pair.client.workload_key, pair.server.workload_key)
        for pair in placement.pairs()
        if node in (pair.client.node, pair.server.node)
    }
    return there | flows_behind(placement, [proxy for proxy in placement.proxies if proxy.node == node])
