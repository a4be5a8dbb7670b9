"""Whom a fault hits, and whose traffic that is: read from the live cluster and the model, never assumed.

Used by the suite, by Chaos Toolkit's actions and by the deployments alike. Every function looks and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from chaos.errors import ExperimentFailure
from chaos.faults.model import EXISTENCE, Fault, Target
from chaos.faults.selection import container_target, workload_target
from chaos.faults.workload import KINDS, pods_of
from chaos.kube.client import Cluster
from chaos.kube.objects import controller, is_owned_by
from chaos.kube.placement import application
from chaos.model.fate import flow_shares, path
from chaos.model.flow import Flow
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy

SIDES: Final = ("client", "server")  # of a path: where it begins, where it ends
WHOLE_POD: Final = ""  # in the place of a container's name: every container of the pod
Excused = tuple[str, str]  # pod UID, container (or WHOLE_POD): what the model expects to restart


# ---- proxies on a path


def hops_of(placement: Placement, *, client: str = "", server: str = "") -> list[tuple[Proxy, ...]]:
    """Return the hops of every pair between the workloads (`namespace/name`; none given: any), in the order of the
    path.
    """
    if not placement.mode.hops:
        return []
    return [
        hop
        for pair in placement.pairs()
        if client in ("", pair.client.workload_key) and server in ("", pair.server.workload_key)
        for hop in path(placement, pair)
    ]


def proxy_on_path(
    placement: Placement,
    *,
    client: str = "",
    server: str = "",
    layer: Layer | None = None,
    side: str = "client",
    outside: str = "",
) -> Proxy | None:
    """Return the proxy of that layer (none given: any) that a flow's requests pass first, or (side `server`) last.

    None where the path has none of that layer, or the mode has no proxies at all.

    Args:
        outside: UID of a pod whose own proxy is not meant.
    """
    passed = [proxy for hop in hops_of(placement, client=client, server=server) for proxy in hop]
    for proxy in passed if side == "client" else reversed(passed):
        if (layer is None or layer in proxy.layers) and proxy.uid != outside:
            return proxy
    return None


def proxy_serving(placement: Placement, pod: Mapping[str, Any]) -> Proxy | None:
    """Return the L4 proxy that serves an application's live pod; in mode `none` the placebo of its node. None where
    nothing does.
    """
    who = application(pod, placement.mode)
    if who is None:
        return None
    for proxy in placement.proxies:
        if proxy.serves(who) and Layer.L4 in proxy.layers:
            return proxy
        if not proxy.layers and proxy.key == proxy.scope.key_of(who):  # a placebo, where the proxy would stand
            return proxy
    return None


def proxies_of_client(placement: Placement, client: str, *, whole: bool = False) -> list[Proxy]:
    """Return the proxies of the first hop of a client's paths, or of the whole paths, each once. None in mode
    `none`.
    """
    found: dict[Proxy, None] = {}
    for pair in placement.pairs():
        if pair.client.workload_key == client and placement.mode.hops:
            hops = path(placement, pair)
            found.update(dict.fromkeys(proxy for hop in (hops if whole else hops[:1]) for proxy in hop))
    return list(found)


def placebo(placement: Placement) -> Proxy:
    """Return the pod in a proxy's place in mode `none`, which carries no traffic. Raises ExperimentFailure without
    one.
    """
    if not placement.proxies:
        raise ExperimentFailure(f"mode {placement.mode.name} has neither a proxy nor a placebo: is the mesh whole?")
    return min(placement.proxies)


# ---- flows


def flows_behind(placement: Placement, proxies: Iterable[Proxy]) -> frozenset[Flow]:
    """Return the flows with any traffic through one of the proxies."""
    return frozenset(Flow(*call) for call, share in flow_shares(placement, list(proxies)).items() if share > 0)


def flows_at(placement: Placement, node: str) -> frozenset[Flow]:
    """Return the flows with a pod on the node, or a proxy on their path there."""
    there = {
        Flow(pair.client.workload_key, pair.server.workload_key)
        for pair in placement.pairs()
        if node in (pair.client.node, pair.server.node)
    }
    return frozenset(there) | flows_behind(placement, [proxy for proxy in placement.proxies if proxy.node == node])


def flows_of_pods(placement: Placement, uids: Iterable[str]) -> frozenset[Flow]:
    """Return the flows with one of these pods at an end, or with a proxy of one of them on their path."""
    inside = set(uids)
    ends = {
        Flow(pair.client.workload_key, pair.server.workload_key)
        for pair in placement.pairs()
        if {pair.client.uid, pair.server.uid} & inside
    }
    return frozenset(ends) | flows_behind(placement, [proxy for proxy in placement.proxies if proxy.uid in inside])


# ---- targets


def container_of(cluster: Cluster, proxy: Proxy) -> Target:
    """The live container of a proxy."""
    return container_target(cluster.get("Pod", proxy.pod, proxy.namespace), proxy.container)


def workload(cluster: Cluster, key: str, kind: str = "") -> Target:
    """Return a workload by `namespace/name`, of that kind, or of any."""
    namespace, _, name = key.partition("/")
    found = kind or next((one for one in KINDS if cluster.find(one, name, namespace)), KINDS[0])
    return workload_target(cluster.get(found, name, namespace))


def workload_of(cluster: Cluster, proxy: Proxy) -> Target:
    """The workload that a proxy's pod belongs to."""
    pod = cluster.get("Pod", proxy.pod, proxy.namespace)
    *_, owner = owners_of(cluster, pod)
    return workload_target(owner)


def owners_of(cluster: Cluster, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the object, its controller, that one's controller, and so on."""
    yield found
    if owner := controller(found):
        yield from owners_of(cluster, cluster.get(owner["kind"], owner["name"], found["metadata"]["namespace"]))


def described(target: Target) -> str:
    """Return a target's name in a result."""
    return f"{target.workload_kind} {target}" if target.workload_kind else str(target)


def excused_by(cluster: Cluster, fault: Fault, target: Target) -> set[Excused]:
    """Return what a fault on the target may restart, by the model: the target's own container; every container of a
    pod, or of a workload's or a node's pods, where the fault takes them away; nothing by load alone. A pod takes those
    that it owns with it: its own waypoint.
    """
    match target.kind:
        case "workload":
            uids = {pod["metadata"]["uid"] for pod in pods_of(cluster, target)}
        case "node":
            uids = {pod["metadata"]["uid"] for pod in cluster.list("Pod") if pod["spec"].get("nodeName") == target.name}
        case _ if EXISTENCE in fault.aspects:
            uids = {target.uid}
        case _:
            return set() if fault.aspects <= {"load"} else {(target.uid, target.container or WHOLE_POD)}
    owned = {pod["metadata"]["uid"] for pod in cluster.list("Pod", target.namespace or None) if is_owned_by(pod, uids)}
    return {(uid, WHOLE_POD) for uid in uids | owned}
