"""One budget for all proxies of a mode, divided equally over the instances of a layer, which makes modes
comparable.

The division is fixed at deployment over a *reference* placement, so that one more pod later does not shrink the others.
Another policy is another `Budget` (more CPU, another split between the layers) or another `Reference` (other counts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chaos.errors import Misuse
from chaos.model.modes import ProxyMode, Scope, Side, layer_name

# A sidecar gets a ninth: at the suite's load a client's needs up to 95 millicores on a slow machine, and one that is
# near its limit has a speed of its own, by which nothing can be judged.
DEFAULT_MILLICORES: Final = 1200


@dataclass(frozen=True, slots=True)
class Budget:
    """The resources of all proxies of a mode together. `l7_share`: the L7 proxies' part where the layers are
    separate.
    """

    cpu_millicores: int = DEFAULT_MILLICORES
    memory_mib: int = 1152
    l7_share: float = 0.5

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (self.cpu_millicores < 1, f"cpu_millicores is {self.cpu_millicores}, and should be at least 1"),
                (self.memory_mib < 1, f"memory_mib is {self.memory_mib}, and should be at least 1"),
                (not 0 < self.l7_share < 1, f"l7_share is {self.l7_share}, and should lie between 0 and 1"),
            )
            if wrong
        ]
        if problems:
            raise Misuse(f"budget: {'; '.join(problems)}")


@dataclass(frozen=True, slots=True)
class Reference:
    """The size of the placement that the budget is divided over."""

    pods: int = 9
    servers: int = 6
    nodes: int = 2
    namespaces: int = 3


@dataclass(frozen=True, slots=True)
class Share:
    """The resources of one proxy instance."""

    cpu_millicores: int
    memory_mib: int


def instances(mode: ProxyMode, reference: Reference = Reference()) -> Mapping[str, int]:
    """Return how many proxies each layer (or pair of layers) has; mode `none` has one placebo per node."""
    if not mode.hops:
        return {"none": reference.nodes}
    counts: dict[str, int] = {}
    for name in dict.fromkeys(layer_name(hop.layers) for hop in mode.hops):
        hops = [hop for hop in mode.hops if layer_name(hop.layers) == name]
        client = any(hop.side is Side.CLIENT for hop in hops)
        counts[name] = {
            Scope.POD: reference.pods if client else reference.servers,
            Scope.NODE: reference.nodes,
            Scope.NAMESPACE: reference.namespaces,
            Scope.WAYPOINT: reference.namespaces,  # of our tenants each has its own
        }[hops[0].scope]
    return counts


def divide(mode: ProxyMode, budget: Budget = Budget(), reference: Reference = Reference()) -> Mapping[str, Share]:
    """Return each instance's share by layer: `{"l4-l7": Share(450, 576)}`."""
    counts = instances(mode, reference)
    parts = {"l4": 1 - budget.l7_share, "l7": budget.l7_share} if len(counts) == 2 else {}
    return {
        name: Share(
            int(budget.cpu_millicores * parts.get(name, 1) / count), int(budget.memory_mib * parts.get(name, 1) / count)
        )
        for name, count in counts.items()
    }
