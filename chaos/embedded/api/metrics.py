"""metrics.k8s.io: containers' usage, from the kubelets' figures. Pure; called by the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chaos.embedded.api.calls import Call, Reply
from chaos.embedded.api.errors import not_found
from chaos.embedded.api.selectors import label_selector
from chaos.embedded.node_api import ContainerUsage, Kubelet
from chaos.embedded.resources import NODE, POD, Object
from chaos.embedded.store import Store

WINDOW = "1s"


def _usage(cpu: int, memory: int) -> dict[str, str]:
    return {"cpu": f"{cpu}n", "memory": f"{memory // 1024}Ki"}


def pod_metrics(pod: Object, usage: Iterable[ContainerUsage]) -> dict[str, Any] | None:
    """PodMetrics of a pod; None while it has no figures."""
    found = list(usage)
    if not found:
        return None
    meta = pod["metadata"]
    return {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "timestamp": found[0].at,
        "window": WINDOW,
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "creationTimestamp": found[0].at,
            **({"labels": meta["labels"]} if meta.get("labels") else {}),
        },
        "containers": [{"name": one.container, "usage": _usage(one.cpu_nanocores, one.memory_bytes)} for one in found],
    }


def metrics(store: Store, kubelets: Mapping[str, Kubelet], call: Call) -> Reply:
    """The answer to a get or list."""
    kind = call.resource.kind
    items = _pods(store, kubelets, call) if kind == "PodMetrics" else _nodes(store, kubelets)
    if call.name:
        found = next((one for one in items if one["metadata"]["name"] == call.name), None)
        if found is None:
            raise not_found(call.resource, call.name)
        return Reply(found)
    chosen = label_selector(call.query.get("labelSelector", ""))
    return Reply(
        {
            "kind": f"{kind}List",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"resourceVersion": str(store.version)},
            "items": [one for one in items if chosen is None or chosen(one)],
        }
    )


def _pods(store: Store, kubelets: Mapping[str, Kubelet], call: Call) -> list[dict[str, Any]]:
    usage: dict[tuple[str, str], list[ContainerUsage]] = {}
    for kubelet in kubelets.values():
        for one in kubelet.usage():
            usage.setdefault((one.namespace, one.pod), []).append(one)
    pods = store.list(POD, call.namespace or None)
    found = (pod_metrics(pod, usage.get((pod["metadata"]["namespace"], pod["metadata"]["name"]), [])) for pod in pods)
    return [one for one in found if one is not None]


def _nodes(store: Store, kubelets: Mapping[str, Kubelet]) -> list[dict[str, Any]]:
    items = []
    for node in store.list(NODE):
        name = node["metadata"]["name"]
        kubelet = kubelets.get(name)
        usage = kubelet.usage() if kubelet is not None else []
        if not usage:
            continue
        items.append(
            {
                "kind": "NodeMetrics",
                "apiVersion": "metrics.k8s.io/v1beta1",
                "timestamp": usage[0].at,
                "window": WINDOW,
                "metadata": {
                    "name": name,
                    "creationTimestamp": usage[0].at,
                    "labels": node["metadata"].get("labels", {}),
                },
                "usage": _usage(sum(one.cpu_nanocores for one in usage), sum(one.memory_bytes for one in usage)),
            }
        )
    return items
