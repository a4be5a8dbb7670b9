"""The same pods under another sharing of proxies: the placement that a mode would give, and the one with more or fewer
instances of a waypoint. Pure: nothing is deployed, so what changes for whom is said before anybody decides.

Which pods a mesh carries stays as it is; what changes is who shares their proxies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from chaos.model.modes import Hop, Layer, Located, ProxyKind, ProxyMode, Route, Scope, Side, balancing_of
from chaos.model.placement import Placement, Pod, Proxy
from chaos.model.spreading import Spread, spread_over

_APART: Final = (Scope.NAMESPACE, Scope.WAYPOINT)  # whose proxies stand wherever the scheduler puts them
_IN, _OUT = "carried", "not carried"


@dataclass(frozen=True, slots=True)
class Sharing:
    """Another sharing of proxies.

    Attributes:
        mode: None: the present one.
        replicas: instances of each waypoint that stands apart; None: as many as now, one where there is none yet.
        spread: of those; None: those that are there stay, new ones go over the nodes.
    """

    mode: ProxyMode | None = None
    replicas: int | None = None
    spread: Spread | None = None

    def __str__(self) -> str:
        said = [self.mode.name] if self.mode else []
        said += [f"replicas={self.replicas}"] if self.replicas is not None else []
        return ",".join([*said, *([f"spread={self.spread}"] if self.spread else [])])


def rescope(placement: Placement, sharing: Sharing, zones: Mapping[str, str]) -> Placement:
    """Return the placement with the same pods and calls under that sharing.

    Args:
        zones: node -> zone, of every node that takes pods; one that is missing is a zone of its own.
    """
    nodes = sorted({*zones, *(pod.node for pod in placement.pods)})
    if sharing.mode is None:
        return replace(placement, proxies=_replicated(placement.proxies, sharing, nodes, zones))
    mode = sharing.mode
    proxies = [proxy for kind in mode.kinds for proxy in _of_kind(kind, placement)] if mode.hops else []
    kinds = {pod.uid: f"{pod.workload_key} {_IN if pod.carried_by else _OUT}" for pod in placement.pods}
    return Placement(
        mode,
        placement.pods,
        _replicated(proxies, replace(sharing, spread=sharing.spread or Spread.NODE), nodes, zones),
        placement.calls,
        _routes(mode, placement),
        kinds,
    )


def _routes(mode: ProxyMode, placement: Placement) -> dict[tuple[str, str], Route]:
    """Routes of pairs with an end that no proxy carries: its own hops fall away, and so does a waypoint, which the
    client's proxy leads to and the server's lets through.
    """
    if all(pod.carried_by for pod in placement.pods):
        return {}
    whole = Route(mode.hops, mode.balancing)
    found = {}
    for client, server in placement.calls:
        for before in (_IN, _OUT):
            for behind in (_IN, _OUT):
                hops = tuple(hop for hop in mode.hops if _stands(hop, before, behind))
                found[f"{client} {before}", f"{server} {behind}"] = (
                    whole if hops == mode.hops else Route(hops, balancing_of(hops))
                )
    return found


def _stands(hop: Hop, before: str, behind: str) -> bool:
    if hop.layers == frozenset({Layer.L7}):
        return before == behind == _IN
    return (before if hop.side is Side.CLIENT else behind) == _IN


def _of_kind(kind: ProxyKind, placement: Placement) -> Iterable[Proxy]:
    """The proxies of a kind: one for each place that a hop of the mode asks for one."""
    assert placement.pods or not kind.layers
    carried = [pod for pod in placement.pods if pod.carried_by]
    servers = {server for _, server in placement.calls}
    if not kind.in_pod and (kind.scope is Scope.POD or kind.scope in _APART):  # a waypoint: for those who are called
        carried = [pod for pod in carried if pod.workload_key in servers]
    places: dict[str, Pod] = {}
    for pod in carried:
        places.setdefault(kind.scope.key_of(_located(pod)), pod)
    layer = "-".join(sorted(kind.layers))
    for key, pod in places.items():
        own = kind.in_pod
        name = pod.name if own else f"{layer}-{pod.name if kind.scope is Scope.POD else key}"
        yield Proxy(
            namespace=pod.namespace if kind.scope is not Scope.NODE else "mesh",
            pod=name,
            container="proxy",
            uid=pod.uid if own else f"{kind.scope}/{name}",
            node=pod.node,
            layers=kind.layers,
            scope=kind.scope,
            key=key,
            service_account=pod.service_account if own else name,
        )


def _located(pod: Pod) -> Located:
    return pod


def _replicated(
    proxies: Iterable[Proxy], sharing: Sharing, nodes: Sequence[str], zones: Mapping[str, str]
) -> tuple[Proxy, ...]:
    """Return the proxies with as many instances of each waypoint as asked for, each on its node."""
    kept: list[Proxy] = []
    apart: dict[tuple[Scope, str, frozenset[Layer]], list[Proxy]] = {}
    for proxy in proxies:
        if proxy.scope in _APART:
            apart.setdefault((proxy.scope, proxy.key, proxy.layers), []).append(proxy)
        else:
            kept.append(proxy)
    for number, there in enumerate(apart.values()):
        wanted = len(there) if sharing.replicas is None else sharing.replicas
        places = spread_over(nodes, sharing.spread or Spread.NODE, start=number, count=wanted, zones=zones)
        for count, node in enumerate(places):
            if count < len(there):
                kept.append(there[count] if sharing.spread is None else replace(there[count], node=node))
            else:
                name = f"{there[0].pod}-{count + 1}"
                kept.append(replace(there[0], pod=name, uid=f"{there[0].uid}-{count + 1}", node=node))
    return tuple(sorted(kept, key=str))
