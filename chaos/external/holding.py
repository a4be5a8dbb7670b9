"""Holds proxies that others share to their part of the budget, on clusters of our own, until a run is over.

A limit that is set in place cannot be removed in place (Kubernetes refuses it), so what was held is made anew by its
own controller, as it was installed. On anybody else's cluster that would cost others their connections: there the
mesh's own command does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from chaos.errors import EnvironmentUnfit
from chaos.external.description import MeshDescription, ModeRule
from chaos.kube.client import Cluster
from chaos.kube.objects import container, container_status, is_ready_pod
from chaos.kube.quantity import millicores
from chaos.mesh.budget import Share
from chaos.model.modes import Scope, layer_name
from chaos.model.placement import Proxy

APPLIED_SECONDS: Final = 20.0
READY_SECONDS: Final = 90.0


def refuse_unowned(cluster: Cluster, mesh: MeshDescription, mode: ModeRule, shares: Mapping[str, Share]) -> None:
    """Raise EnvironmentUnfit for a mode that holds shared proxies, on a cluster that is not ours."""
    if cluster.owned or not mode.holds_shared:
        return
    rules = [mesh.rule(name) for name, _ in mode.path if mesh.rule(name).scope is Scope.NODE]
    commands = {
        rule.held_by.replace("${cpu}", str(shares[layer_name(rule.layers)].cpu_millicores))
        for rule in rules
        if rule.held_by
    }
    raise EnvironmentUnfit(
        f"mode {mode.name}: it limits proxies that serve others too, which is done on clusters of our own alone. Here: "
        f"{' && '.join(sorted(commands)) or 'the values of the mesh itself'}, and the mode without that ending"
    )


def hold(cluster: Cluster, proxies: Sequence[Proxy], shares: Mapping[str, Share]) -> list[Proxy]:
    """Give each its share of CPU, seen in its status; return those that had another limit."""
    held = []
    for proxy in proxies:
        limit = shares[layer_name(proxy.layers)].cpu_millicores
        if proxy.cpu_millicores == limit:
            continue
        pod = cluster.get("Pod", proxy.pod, proxy.namespace)
        asked = (container(pod, proxy.container).get("resources") or {}).get("requests", {}).get("cpu")
        resources = {"limits": {"cpu": f"{limit}m"}}
        if asked is not None and millicores(asked) > limit:
            resources["requests"] = {"cpu": f"{limit}m"}
        change = {"spec": {"containers": [{"name": proxy.container, "resources": resources}]}}
        cluster.patch("Pod", proxy.pod, change, proxy.namespace, how="strategic", subresource="resize")
        held.append(proxy)
    for proxy in held:
        limit = shares[layer_name(proxy.layers)].cpu_millicores
        cluster.wait(f"{proxy} with {limit}m", partial(_has, cluster, proxy, limit), seconds=APPLIED_SECONDS)
    return held


def _has(cluster: Cluster, proxy: Proxy, limit: int) -> bool:
    status = container_status(cluster.get("Pod", proxy.pod, proxy.namespace), proxy.container)
    seen = (status.get("resources") or {}).get("limits", {}).get("cpu")
    return seen is not None and millicores(seen) == limit


def release(cluster: Cluster, held: Sequence[Proxy]) -> None:
    """Have those that are still there made anew, and wait until each node's is ready again. Safe to repeat."""
    there = [
        proxy
        for proxy in held
        if (pod := cluster.find("Pod", proxy.pod, proxy.namespace)) and pod["metadata"]["uid"] == proxy.uid
    ]
    for proxy in there:
        cluster.delete("Pod", proxy.pod, proxy.namespace)
    for proxy in there:
        cluster.wait(f"a successor of {proxy}", partial(_succeeded, cluster, proxy), seconds=READY_SECONDS)


def _succeeded(cluster: Cluster, proxy: Proxy) -> bool:
    pods = cluster.list("Pod", proxy.namespace)
    return any(
        pod["spec"].get("nodeName") == proxy.node
        and pod["metadata"]["uid"] != proxy.uid
        and container(pod, proxy.container)
        and is_ready_pod(pod)
        for pod in pods
    )
