"""The diagram of who shared what: nodes, their pods and proxies, with the target and the hurt ones marked.

Boxes of the page rather than a picture: they wrap on a phone and a screen reader reads them as lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history.result import TrialResult
from chaos.model.flow import Flow
from chaos.model.modes import Scope
from chaos.model.placement import Pod, Proxy
from chaos.report.sharing import Sharing, target_of

MOST_NODES: Final = 12  # that are drawn; the other nodes are a line each
MOST_PODS: Final = 150  # on them


@dataclass(frozen=True, slots=True)
class ProxyBox:
    """A proxy. `serves` says whom, in words."""

    name: str
    title: str
    layers: str
    serves: str
    target: bool
    millicores: int


@dataclass(frozen=True, slots=True)
class PodBox:
    """An application pod with the proxies inside it."""

    name: str
    title: str
    role: str
    state: str  # hurt | not hurt | cannot tell | not judged: what its tenant's clients saw
    said: str  # the same in words that tell whose requests they were
    behind: bool  # the target served it: the model says that harm passes here
    unforeseen: bool  # hurt, by a flow that the model said would not be
    proxies: tuple[ProxyBox, ...]


@dataclass(frozen=True, slots=True)
class NodeBox:
    """A node: its application pods, then the proxies that pods share or that stand apart."""

    name: str
    pods: tuple[PodBox, ...]
    proxies: tuple[ProxyBox, ...]


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node that is not drawn, in figures."""

    name: str
    pods: int
    hurt: int
    unforeseen: int
    behind: int
    proxies: int


def fold(boxes: Sequence[NodeBox]) -> tuple[tuple[NodeBox, ...], tuple[NodeLine, ...]]:
    """Return the nodes that are drawn, and a line for each other one: drawn are those with the target, then with pods
    that were hurt against the prediction, that were hurt, that are behind the target, as many as can be looked at.
    """
    if len(boxes) <= MOST_NODES and sum(len(box.pods) for box in boxes) <= MOST_PODS:
        return tuple(boxes), ()
    lines = {box.name: _line(box) for box in boxes}

    def weight(box: NodeBox) -> tuple[bool, int, int, int]:
        line, inside = lines[box.name], [proxy for pod in box.pods for proxy in pod.proxies]
        return any(one.target for one in (*box.proxies, *inside)), line.unforeseen, line.hurt, line.behind

    drawn: set[str] = set()
    pods = 0
    for box in sorted(boxes, key=weight, reverse=True)[:MOST_NODES]:
        if not drawn or pods + len(box.pods) <= MOST_PODS:
            drawn.add(box.name)
            pods += len(box.pods)
    return tuple(box for box in boxes if box.name in drawn), tuple(
        line for name, line in lines.items() if name not in drawn
    )


def _line(box: NodeBox) -> NodeLine:
    return NodeLine(
        box.name,
        len(box.pods),
        sum(pod.state == "hurt" for pod in box.pods),
        sum(pod.unforeseen for pod in box.pods),
        sum(pod.behind for pod in box.pods),
        len(box.proxies) + sum(len(pod.proxies) for pod in box.pods),
    )


def plan_diagram(sharing: Sharing, trial: TrialResult) -> tuple[NodeBox, ...]:
    """Return the boxes of a trial, node by node."""
    target = target_of(sharing, trial.target)
    unforeseen = _ends(set(trial.observed["hurt"]) & set(trial.predicted["unhurt"]))
    inside = {(pod.namespace, pod.name) for pod in sharing.pods}
    boxes = []
    for node in sharing.nodes:
        pods = []
        for pod in sorted((p for p in sharing.pods if p.node == node), key=lambda p: (p.namespace, p.role, p.name)):
            own = [p for p in sharing.proxies if (p.namespace, p.pod) == (pod.namespace, pod.name)]
            behind = target is not None and target.serves(pod)
            pods.append(
                PodBox(
                    f"{pod.namespace} {pod.role}",
                    f"{pod.namespace}/{pod.name}",
                    pod.role,
                    state := state_of(pod.workload_key, trial),
                    f"{'its callers' if pod.role == 'server' else 'its calls'}: {state}",
                    behind,
                    pod.workload_key in unforeseen,
                    tuple(_proxy(p, sharing, target) for p in own),
                )
            )
        apart = [p for p in sharing.proxies if p.node == node and (p.namespace, p.pod) not in inside]
        boxes.append(NodeBox(node, tuple(pods), tuple(_proxy(p, sharing, target) for p in apart)))
    return tuple(boxes)


def state_of(workload: str, trial: TrialResult) -> str:
    """Return the worst finding on the flows from or to a workload."""
    for key, state in (("hurt", "hurt"), ("inconclusive", "cannot tell"), ("unhurt", "not hurt")):
        if workload in _ends(trial.observed[key]):
            return state
    return "not judged"


def _ends(flows: Iterable[str]) -> set[str]:
    return {end for flow in map(Flow.parse, flows) for end in (flow.client, flow.server)}


def _proxy(proxy: Proxy, sharing: Sharing, target: Proxy | None) -> ProxyBox:
    return ProxyBox(
        proxy.container if proxy.scope is Scope.POD else f"{proxy.scope} proxy",
        str(proxy),
        "+".join(layer.upper() for layer in sorted(proxy.layers)) or "placebo",
        served(proxy, sharing.pods),
        proxy == target,
        proxy.cpu_millicores,
    )


def served(proxy: Proxy, pods: Sequence[Pod]) -> str:
    """Format `serves 4 pods of 2 tenants`."""
    mine = [pod for pod in pods if proxy.serves(pod)]
    if not mine:
        return "serves nobody"
    tenants = len({pod.namespace for pod in mine})
    return f"serves {len(mine)} pod{'s' * (len(mine) > 1)} of {tenants} tenant{'s' * (tenants > 1)}"
