"""What can break, by name: each proxy, each node, each zone; and whatever the user names. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chaos.errors import Misuse
from chaos.kube.placement import limits_text
from chaos.model.fate import Outage
from chaos.model.modes import layer_name
from chaos.model.placement import Pod, Proxy
from chaos.prediction.world import World


class Kind(StrEnum):
    """What breaks. A pod takes its own proxies with it, a node its pods, a zone its nodes."""

    PROXY = "proxy"
    POD = "pod"
    NODE = "node"
    ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Named:
    """Something that can break.

    Attributes:
        about: for people: what it is and where.
        outage: what it takes with it.
    """

    kind: Kind
    name: str
    about: str
    outage: Outage

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


_CLOSE: Final = 3  # names that an error offers


def every_proxy(world: World) -> list[Named]:
    """Each proxy that carries traffic, as it stands: its process dies, its pod's other containers live."""
    return [
        Named(Kind.PROXY, str(one), describe_proxy(one), Outage((one,)))
        for one in world.placement.proxies
        if one.layers and one.key
    ]


def every_place(world: World) -> list[Named]:
    """Each node and each zone, with all pods and proxies there."""
    placement = world.placement
    pods: dict[str, list[Pod]] = {name: [] for name in world.nodes}
    proxies: dict[str, list[Proxy]] = {name: [] for name in world.nodes}
    for pod in placement.pods:
        pods.setdefault(pod.node, []).append(pod)
    for proxy in placement.proxies:
        proxies.setdefault(proxy.node, []).append(proxy)
    found = [_place(Kind.NODE, name, [name], pods, proxies) for name in sorted({*pods, *proxies})]
    zones: dict[str, list[str]] = {}
    for node, zone in sorted(world.zones.items()):
        zones.setdefault(zone, []).append(node)
    return found + [_place(Kind.ZONE, zone, nodes, pods, proxies) for zone, nodes in sorted(zones.items())]


def _place(
    kind: Kind, name: str, nodes: Sequence[str], pods: dict[str, list[Pod]], proxies: dict[str, list[Proxy]]
) -> Named:
    there = [pod.uid for node in nodes for pod in pods.get(node, ())]
    broken = [proxy for node in nodes for proxy in proxies.get(node, ())]
    said = f"{len(there)} application pods and {len(broken)} proxies"
    about = said if kind is Kind.NODE else f"{len(nodes)} node{'s' * (len(nodes) > 1)}, {said}"
    return Named(kind, name, about, Outage(tuple(broken), tuple(there)))


def every_pod(world: World) -> list[Named]:
    """Each pod with a part in the placement, an application's or a proxy's."""
    inside: dict[tuple[str, str], list[Proxy]] = {}
    for proxy in world.placement.proxies:
        inside.setdefault((proxy.namespace, proxy.pod), []).append(proxy)
    found = []
    for pod in world.placement.pods:
        own = inside.pop((pod.namespace, pod.name), [])
        about = f"of {pod.workload_key} on node {pod.node}" + (f", with {len(own)} proxies" if own else "")
        found.append(Named(Kind.POD, f"{pod.namespace}/{pod.name}", about, Outage(tuple(own), (pod.uid,))))
    for (namespace, name), own in inside.items():
        found.append(Named(Kind.POD, f"{namespace}/{name}", describe_proxy(own[0]), Outage(tuple(own))))
    return found


def describe_proxy(proxy: Proxy) -> str:
    """What a proxy is, where, and how large."""
    return f"{layer_name(proxy.layers)} per {proxy.scope}, on node {proxy.node}, {limits_text(proxy)}"


def resolve_when(world: World, text: str) -> Named:
    """Return what a user means: `KIND NAME` (`pod shop/web-1`, `zone=b`), or a name alone. Raises Misuse that lists the
    nearest names, and for a name of several kinds.
    """
    words = text.replace("=", " ", 1).split(maxsplit=1)
    kind = next((one for one in Kind if len(words) == 2 and words[0] == one), None)
    name = words[1] if kind is not None else text.strip()
    known = [one for one in (*every_place(world), *every_pod(world), *every_proxy(world)) if kind in (None, one.kind)]
    found = [one for one in known if name in _names(one)]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(f"`{one}`" for one in found)
        raise Misuse(f"--when {text}: there are {len(found)} of that name: say which: {which}")
    raise Misuse(f"--when {text}: there is no such {kind or 'proxy, pod, node or zone'}: {_near(name, known)}")


def _names(one: Named) -> tuple[str, ...]:
    """The names by which a user may mean it: a proxy's also without its container."""
    return (one.name, one.name.partition("[")[0]) if one.kind is Kind.PROXY else (one.name,)


def _near(name: str, known: Iterable[Named]) -> str:
    names = {one.name: str(one) for one in known}
    near = difflib.get_close_matches(name, names, n=_CLOSE, cutoff=0.4) or sorted(names)[:_CLOSE]
    return f"known are {', '.join(names[one] for one in near)}{' and others' if len(names) > len(near) else ''}"
