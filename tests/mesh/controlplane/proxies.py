"""The pods that a mode's own manifests come to, as Kubernetes' controllers make them: genuine proxies for tests."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from chaos.mesh import inject, manifests
from chaos.mesh.budget import divide
from chaos.model.modes import ProxyMode
from chaos.names import LABEL_MODE, LABEL_RUN

Object = dict[str, Any]
RUN = "r1"


def values_of(mode: ProxyMode) -> dict[str, int]:
    """As the mesh's settings hold them."""
    return {
        f"{name.replace('-', '_')}_{part}": value
        for name, share in divide(mode).items()
        for part, value in (("cpu", share.cpu_millicores), ("memory", share.memory_mib))
    }


def running(obj: Object, *, node: str, ip: str, name: str = "", owner: Object | None = None) -> Object:
    """The pod of a workload (or the Pod itself), scheduled and ready, with all of its containers running."""
    template = inject.pod_template(obj)
    assert template is not None
    pod = copy.deepcopy(template)
    meta = pod.setdefault("metadata", {})
    namespace = obj["metadata"].get("namespace", "default")
    name = name or obj["metadata"]["name"]
    meta |= {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "resourceVersion": "1"}
    if owner is not None:
        meta["ownerReferences"] = [owner]
    pod |= {"kind": "Pod", "apiVersion": "v1"}
    pod["spec"] |= {"nodeName": node}
    states = {
        field: [
            {"name": one["name"], "ready": True, "containerID": f"{name}-{one['name']}", "state": {"running": {}}}
            for one in pod["spec"].get(part) or []
        ]
        for part, field in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses"))
    }
    conditions = [{"type": "Ready", "status": "True"}]
    pod["status"] = {"phase": "Running", "podIP": ip, "conditions": conditions, **states}
    return pod


def of_daemon_set(obj: Object, *, node: str, ip: str) -> Object:
    """A DaemonSet's pod."""
    owner = {"kind": "DaemonSet", "name": obj["metadata"]["name"], "uid": "uid-ds", "controller": True}
    return running(obj, node=node, ip=ip, name=f"{obj['metadata']['name']}-{node}", owner=owner)


def of_deployment(obj: Object, *, node: str, ip: str) -> Object:
    """A Deployment's pod, of its ReplicaSet."""
    name = f"{obj['metadata']['name']}-5d4f"
    owner = {"kind": "ReplicaSet", "name": name, "uid": "uid-rs", "controller": True}
    pod = running(obj, node=node, ip=ip, name=f"{name}-{node}", owner=owner)
    pod["metadata"].setdefault("labels", {})["pod-template-hash"] = "5d4f"
    return pod


def pods_of(objects: Iterable[Object], *, node: str, subnet: str) -> list[Object]:
    """The pods of the Deployments and DaemonSets among the objects, one each."""
    makers = {"Deployment": of_deployment, "DaemonSet": of_daemon_set}
    found = [obj for obj in objects if obj["kind"] in makers]
    return [makers[obj["kind"]](obj, node=node, ip=f"{subnet}.{n + 1}") for n, obj in enumerate(found)]


def applications(mode: ProxyMode, tenant: str, *, node: str, subnet: str) -> list[Object]:
    """A tenant's pods on a node, injected, with what its namespace holds of the mesh: client, server, waypoint."""
    objects = manifests.tenant(tenant, client_nodes=[node], server_nodes=[node])
    return pods_of(inject.inject(objects, mode, run=RUN, values=values_of(mode)), node=node, subnet=subnet)


def components(mode: ProxyMode, *, node: str, subnet: str) -> list[Object]:
    """The mode's own pods in the system namespace, on one node."""
    values = {**values_of(mode), "mode": mode.name, "run": RUN}
    objects = inject.stamp(manifests.load(f"modes/{mode.name}/components.yaml", values), RUN)
    return pods_of(objects, node=node, subnet=subnet)


def waypoint_of(mode: ProxyMode, server: Object, *, ip: str) -> list[Object]:
    """The waypoint of a server pod, where the mode has one per pod."""
    meta = server["metadata"]
    node = server["spec"]["nodeName"]
    told = {"pod_name": meta["name"], "pod_uid": meta["uid"], "namespace": meta["namespace"], "node": node}
    values = {**values_of(mode), "mode": mode.name, "run": RUN, **told}
    return [running(obj, node=node, ip=ip) for obj in manifests.load(f"modes/{mode.name}/waypoint.yaml", values)]


def forged(proxy: Object, *, namespace: str, account: str = "client", node: str = "n1", ip: str = "10.9.9.9") -> Object:
    """A tenant's pod with every label and annotation of the proxy, and with its containers: all but whose it is."""
    pod = copy.deepcopy(proxy)
    meta = pod["metadata"]
    meta |= {"namespace": namespace, "name": "forged", "uid": f"uid-{namespace}-forged"}
    meta["labels"] |= {LABEL_RUN: RUN, LABEL_MODE: meta["labels"].get(LABEL_MODE, "")}
    meta.pop("ownerReferences", None)
    pod["spec"] |= {"serviceAccountName": account, "nodeName": node}
    pod["status"]["podIP"] = ip
    return pod
