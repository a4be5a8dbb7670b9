"""What a taken-over proxy opens: the servers that accept a request as one of the identities whose keys it holds.

Where each server lets in those alone that call it, an identity opens the servers of its own calls. An account of
waypoints opens besides whatever stands behind any waypoint of that account, on whichever node: those servers accept it
in everybody's name. Pure: neither reads nor waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from chaos.model.fate import identities_held, path
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy

Identity = tuple[str, str]  # (namespace, service account)
WAYPOINT = frozenset({Layer.L7})


def callers(placement: Placement) -> dict[str, frozenset[Identity]]:
    """Return of each server workload (`namespace/name`) that is called: the identities of its clients."""
    accounts: dict[str, set[Identity]] = {}
    for pod in placement.pods:
        accounts.setdefault(pod.workload_key, set()).add((pod.namespace, pod.service_account))
    found: dict[str, set[Identity]] = {}
    for client, server in placement.calls:
        found.setdefault(server, set()).update(accounts.get(client, ()))
    return {server: frozenset(identities) for server, identities in found.items()}


def waypoints(placement: Placement) -> dict[str, frozenset[Proxy]]:
    """Return of each server workload that is called: the waypoints before it; none where one proxy holds both layers.

    Raises ExperimentFailure as `fate.path` does.
    """
    found: dict[str, set[Proxy]] = {server: set() for _, server in placement.calls}
    for pair in placement.pairs():
        for hop in path(placement, pair):
            found[pair.server.workload_key] |= {proxy for proxy in hop if proxy.layers == WAYPOINT}
    return {server: frozenset(proxies) for server, proxies in found.items()}


def opened_by(placement: Placement) -> Mapping[Identity, frozenset[str]]:
    """Return of each identity that opens any server: the server workloads that accept a request as it, where each lets
    in its own callers alone.

    Raises ExperimentFailure as `fate.path` does.
    """
    found: dict[Identity, set[str]] = {}
    for server, clients in callers(placement).items():
        for identity in clients:
            found.setdefault(identity, set()).add(server)
    for server, proxies in waypoints(placement).items():
        for proxy in proxies:
            found.setdefault((proxy.namespace, proxy.service_account), set()).add(server)
    return {identity: frozenset(servers) for identity, servers in found.items()}


def reach(placement: Placement, proxy: Proxy) -> Mapping[Identity, frozenset[str]]:
    """Return of each identity whose key the proxy holds: the server workloads that it opens, perhaps none.

    Raises ExperimentFailure as `fate.path` does.
    """
    opened = opened_by(placement)
    return {identity: opened.get(identity, frozenset()) for identity in identities_held(placement, proxy)}
