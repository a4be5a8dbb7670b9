"""The prediction: whom each thing's end would hurt, by share; what is worst; what another sharing changes. Pure.

A flow's share is the one against which a trial is judged (`chaos.model.fate`): the part of its traffic that passes what
breaks, at the moment when it breaks. What a mesh or Kubernetes does afterwards (retries, endpoints that go, new pods)
makes less of it, and is for trials to measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from chaos.model.fate import moved_by_outages, shares_of_outages
from chaos.model.rescoping import Sharing, rescope
from chaos.prediction.outages import Kind, Named, every_place, every_proxy, resolve_when
from chaos.prediction.world import World

WORST: Final = 10
NOW: Final = "now"  # the name of the present sharing


@dataclass(frozen=True, slots=True)
class HurtFlow:
    """A flow behind what breaks.

    Attributes:
        share: of its traffic, in (0, 1].
        may_move: its clients have connections past what breaks and may move to them: a trial does not judge it.
    """

    client: str
    server: str
    share: float
    may_move: bool = False

    def __str__(self) -> str:
        moving = ", unless its clients move" if self.may_move else ""
        return f"{self.client} -> {self.server} by {percent(self.share)}{moving}"


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that can break, and whom that hurts.

    Attributes:
        flows: worst first.
        tenants: those whose calls fail: the mean share of their flows, worst first.
        total: the mean share of all flows: that of all traffic, where every flow carries the same.
    """

    kind: Kind
    name: str
    about: str
    flows: tuple[HurtFlow, ...]
    tenants: Mapping[str, float]
    total: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One sharing of proxies in figures.

    Attributes:
        proxies: how many carry traffic.
        shared: by how many flows a proxy is passed, on average.
        mean: the share of all flows that the death of one proxy hurts, over all proxies.
        worst: the proxy whose death hurts most, and the node; None without any.
    """

    sharing: str
    proxies: int
    shared: float
    mean: float
    worst: Point | None
    worst_node: Point | None
    worst_zone: Point | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The whole answer.

    Attributes:
        proxies: every proxy that carries traffic, worst first. nodes, zones: likewise.
        whens: what was asked for, in that order.
        others: the same asked of other sharings, with `whens` that are there too: places, and pods of applications.
        summaries: of the present sharing, then of the others; none without others.
    """

    world: World
    proxies: tuple[Point, ...]
    nodes: tuple[Point, ...]
    zones: tuple[Point, ...]
    whens: tuple[Point, ...] = ()
    others: tuple[Prediction, ...] = ()
    summaries: tuple[Summary, ...] = ()

    @property
    def worst(self) -> tuple[Point, ...]:
        """The ten worst single points among the proxies; of equals the first by name. None that hurts nobody."""
        return tuple(point for point in self.proxies[:WORST] if point.total)


def predict(world: World, *, whens: Sequence[str] = (), sharings: Sequence[Sharing] = ()) -> Prediction:
    """Ask the model of every proxy, node and zone, and of what else is named.

    Args:
        whens: what breaks, as `resolve_when` takes it.
        sharings: other sharings of proxies to hold beside the present one.

    Raises Misuse for a name that is not there, ExperimentFailure where a hop of a path has no proxy.
    """
    named = [resolve_when(world, text) for text in whens]
    points = ask(world, [*every_proxy(world), *every_place(world), *named])
    count = len(points) - len(named)
    by_kind = {kind: ranked(one for one in points[:count] if one.kind is kind) for kind in Kind}
    found = Prediction(world, by_kind[Kind.PROXY], by_kind[Kind.NODE], by_kind[Kind.ZONE], whens=tuple(points[count:]))
    if not sharings:
        return found
    others = tuple(predict(_under(world, sharing), whens=_kept(found)) for sharing in sharings)
    names = [NOW, *map(str, sharings)]
    summaries = tuple(summarise(name, one) for name, one in zip(names, (found, *others), strict=True))
    return replace(found, others=others, summaries=summaries)


def ask(world: World, named: Sequence[Named]) -> list[Point]:
    """Return the points in their order."""
    placement = world.placement
    outages = {str(one): one.outage for one in named}
    shares, moving = shares_of_outages(placement, outages), moved_by_outages(placement, outages)
    tenants = {pod.workload_key: pod.tenant for pod in placement.pods}
    caller = {call: tenants.get(call[0], call[0].partition("/")[0]) for call in placement.calls}
    flows_of: dict[str, int] = {}
    for tenant in caller.values():
        flows_of[tenant] = flows_of.get(tenant, 0) + 1
    found = []
    for one in named:
        name = str(one)
        hurt = [HurtFlow(*call, share, call in moving[name]) for call, share in shares[name].items()]
        hurt.sort(key=lambda flow: (-flow.share, flow.client, flow.server))
        by_tenant: dict[str, float] = {}
        for flow in hurt:
            tenant = caller[flow.client, flow.server]
            by_tenant[tenant] = by_tenant.get(tenant, 0.0) + flow.share / flows_of[tenant]
        worst_first = dict(sorted(by_tenant.items(), key=lambda item: (-item[1], item[0])))
        total = sum(flow.share for flow in hurt) / len(placement.calls) if placement.calls else 0.0
        found.append(Point(one.kind, one.name, one.about, tuple(hurt), worst_first, total))
    return found


def ranked(points: Iterable[Point]) -> tuple[Point, ...]:
    """Worst first: by the share of all traffic, then by how many tenants, then by name."""
    return tuple(sorted(points, key=lambda one: (-round(one.total, 12), -len(one.tenants), one.name)))


def summarise(sharing: str, found: Prediction) -> Summary:
    """Reduce a prediction to the figures by which sharings are compared."""
    count = len(found.proxies)
    first = [next((one for one in points if one.total), None) for points in (found.proxies, found.nodes, found.zones)]
    return Summary(
        sharing,
        count,
        sum(len(one.flows) for one in found.proxies) / count if count else 0.0,
        sum(one.total for one in found.proxies) / count if count else 0.0,
        *first,
    )


def _under(world: World, sharing: Sharing) -> World:
    zones = {node: world.zones.get(node, "") for node in world.nodes}
    return replace(world, placement=rescope(world.placement, sharing, zones))


def _kept(found: Prediction) -> list[str]:
    """What was asked for and is there under every sharing: places and pods of applications, not proxies."""
    pods = {f"{pod.namespace}/{pod.name}" for pod in found.world.placement.pods}
    return [
        f"{one.kind} {one.name}"
        for one in found.whens
        if one.kind in (Kind.NODE, Kind.ZONE) or (one.kind is Kind.POD and one.name in pods)
    ]


def percent(share: float) -> str:
    """Format a share: whole percents, tenths below ten; never as nothing or as all when it is not."""
    value = 100 * share
    text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")
    if text in ("0", "100") and value not in (0.0, 100.0):
        text = "<0.1" if value < 50 else ">99"
    return f"{text} %"
