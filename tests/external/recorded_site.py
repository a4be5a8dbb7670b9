"""Live clusters, as they were recorded, as object sets to predict from."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chaos.external.file import TargetSystem, parse_target
from chaos.external.placement import Site

Object = dict[str, Any]
FOLDER = Path(__file__).parent / "recorded"


@cache
def _documents(name: str) -> tuple[Object, ...]:
    found = [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one]
    return tuple(item for one in found for item in (one["items"] if one.get("kind") == "List" else [one]))


def recorded(name: str) -> list[Object]:
    """The objects of a file, fresh copies."""
    return copy.deepcopy(list(_documents(name)))


def text(name: str) -> str:
    return (FOLDER / name).read_text()


def table(name: str, *columns: str) -> list[dict[str, str]]:
    """The rows of a table that istioctl printed, by column; a workload without a node has none."""
    rows = []
    for line in text(name).splitlines()[1:]:
        values = line.split()
        if len(values) < len(columns):
            values.insert(columns.index("NODE"), "")
        rows.append(dict(zip(columns, values, strict=True)))
    return rows


# ---- Istio ambient: three nodes, a dozen namespaces, waypoints of every kind

WORKLOADS = "ambient/ztunnel-config.workloads.txt"
_COLUMNS = ("NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL")
SIDECARS = (
    "shop",
    "bank",
    "post",
    "spod",
)  # their pods were injected; the rest of the table's HBONE pods are ztunnel's
_KINDS = {"podw": "workload"}  # istio.io/waypoint-for of a namespace's waypoint; service elsewhere


def ambient_pods() -> list[Object]:
    """Every pod of ztunnel's table that is an application's, a waypoint or a ztunnel."""
    found: list[Object] = []
    for row in table(WORKLOADS, *_COLUMNS):
        name, namespace = row["POD NAME"], row["NAMESPACE"]
        if namespace in SIDECARS or not re.match(r"(client|server|waypoint|shared|ztunnel)-", name):
            continue
        if name.startswith("ztunnel"):
            found.append(_ztunnel(name, row["NODE"]))
        elif name.startswith(("waypoint", "shared")):
            found.append(_waypoint(row))
        else:
            found.append(_application(row))
    return found


def _named(pod: Object, row: dict[str, str]) -> Object:
    meta, name = pod["metadata"], row["POD NAME"]
    meta |= {"name": name, "namespace": row["NAMESPACE"], "uid": f"{row['NAMESPACE']}-{name}"}
    template = name.rpartition("-")[0]
    meta["ownerReferences"][0]["name"] = template
    meta["labels"]["pod-template-hash"] = template.rpartition("-")[2]
    pod["spec"]["nodeName"] = row["NODE"]
    pod["status"]["podIP"] = row["ADDRESS"]
    pod["status"]["podIPs"] = [{"ip": row["ADDRESS"]}]
    return pod


def _application(row: dict[str, str]) -> Object:
    pod = _named(recorded("ambient/pod-server.yaml")[0], row)
    kind = row["POD NAME"].partition("-")[0]
    pod["metadata"]["labels"]["app"] = pod["spec"]["serviceAccountName"] = kind
    if row["PROTOCOL"] != "HBONE":
        del pod["metadata"]["annotations"]["ambient.istio.io/redirection"]
    if row["WAYPOINT"] != "None":  # a pod's own label is all that gives a workload a waypoint
        pod["metadata"]["labels"]["istio.io/use-waypoint"] = row["WAYPOINT"]
    if row["NAMESPACE"] == "apod":
        pod["metadata"]["labels"]["istio.io/dataplane-mode"] = "ambient"
    return pod


def _waypoint(row: dict[str, str]) -> Object:
    pod = _named(recorded("ambient/waypoint-pod.yaml")[0], row)
    gateway = row["POD NAME"].partition("-")[0]
    labels = pod["metadata"]["labels"]
    labels["gateway.networking.k8s.io/gateway-name"] = pod["spec"]["serviceAccountName"] = gateway
    labels["istio.io/waypoint-for"] = _KINDS.get(row["NAMESPACE"], "service")
    return pod


def _ztunnel(name: str, node: str) -> Object:
    kept = {pod["metadata"]["name"]: pod for pod in recorded("ambient/ztunnel-pod.yaml")}
    if name in kept:
        return kept[name]
    pod = kept["ztunnel-xfs9h"]
    pod["metadata"] |= {"name": name, "uid": name}
    pod["spec"]["nodeName"] = node
    return pod


def ambient(changes: Iterable[Object] = ()) -> Site:
    """The cluster with ambient; `changes` replace objects of the same kind, namespace and name."""
    kept = {one["metadata"]["name"]: one for one in recorded("ambient/namespaces.yaml")}
    spaces = {row["NAMESPACE"] for row in table(WORKLOADS, *_COLUMNS)}
    namespaces = [kept.get(name) or _plain_namespace(name) for name in sorted(spaces)]
    return with_changes(Site(namespaces, ambient_pods(), _services()), changes)


def _plain_namespace(name: str) -> Object:
    """One of which the object was not kept: `wa` and `wb` were labelled as `nsw` is, the others as `ashop` is."""
    if name in ("wa", "wb"):
        labels = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    else:
        labels = {} if name in ("plain2", *SIDECARS) else {"istio.io/dataplane-mode": "ambient"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _services() -> list[Object]:
    """The Services of ztunnel's table; those that were kept whole are."""
    kept = {one["metadata"]["namespace"]: one for one in recorded("ambient/services.yaml")}
    found = []
    columns = ("NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS")
    for row in table("ambient/ztunnel-config.services.txt", *columns):
        if row["SERVICE NAME"] != "server":
            continue
        namespace = row["NAMESPACE"]
        if namespace in kept:
            found.append(kept[namespace])
            continue
        service = copy.deepcopy(kept["nsw"])
        service["metadata"] |= {"namespace": namespace, "uid": f"service-{namespace}"}
        service["spec"] |= {"clusterIP": row["SERVICE VIP"], "clusterIPs": [row["SERVICE VIP"]]}
        (condition,) = service["status"]["conditions"]
        where = "infra" if row["WAYPOINT"] == "shared" else namespace
        condition["message"] = f"Successfully attached to waypoint {where}/{row['WAYPOINT']}"
        if row["WAYPOINT"] == "None":
            del service["status"]["conditions"]
        found.append(service)
    return found


def with_changes(site: Site, changes: Iterable[Object]) -> Site:
    def key(obj: Mapping[str, Any]) -> tuple[str, str]:
        return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]

    by_kind: dict[str, dict[tuple[str, str], Object]] = {
        "Namespace": {key(one): dict(one) for one in site.namespaces},
        "Pod": {key(one): dict(one) for one in site.pods},
        "Service": {key(one): dict(one) for one in site.services},
    }
    for obj in changes:
        by_kind[obj["kind"]][key(obj)] = obj
    return Site(*(list(by_kind[kind].values()) for kind in ("Namespace", "Pod", "Service")))


def find(site: Site, kind: str, namespace: str, begin: str) -> Object:
    """The object of that kind whose name begins so, of a namespace."""
    objects: Sequence[Any] = {"Namespace": site.namespaces, "Pod": site.pods, "Service": site.services}[kind]
    return next(
        one
        for one in objects
        if one["metadata"].get("namespace", "") == namespace and one["metadata"]["name"].startswith(begin)
    )


# ---- sidecars


def sidecars() -> Site:
    """Istio with sidecars: the namespace `shop`, client on node-1 and server on node-2."""
    server = recorded("sidecar/pod-server.yaml")[0]
    client = copy.deepcopy(server)
    client["metadata"] |= {"name": "client-78d5c9c6b9-qnwsx", "uid": "shop-client"}
    client["metadata"]["labels"] |= {"app": "client", "pod-template-hash": "78d5c9c6b9"}
    client["metadata"]["ownerReferences"][0]["name"] = "client-78d5c9c6b9"
    client["spec"] |= {"nodeName": "node-1", "serviceAccountName": "client"}
    client["status"]["podIP"] = "10.244.1.183"
    services = [one for one in recorded("sidecar/app.yaml") if one["kind"] == "Service"]
    return Site(recorded("sidecar/namespaces.yaml"), [client, server], services)


def linkerd(kind: str) -> Site:
    """Linkerd, `classic` or `native`: frontend on node-1, backend on node-2, in the namespace `shop`."""
    pods = [one for name in ("frontend", "backend") for one in recorded(f"linkerd/pod-{kind}-{name}.yaml")]
    for pod in pods:
        pod["metadata"]["uid"] = pod["metadata"]["name"]
    native = "true" if kind == "native" else "false"
    namespaces = [
        one
        for one in recorded("linkerd/namespaces.yaml")
        if one["metadata"]["annotations"].get("config.linkerd.io/proxy-enable-native-sidecar") == native
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "backend", "namespace": "shop"},
        "spec": {
            "clusterIP": "10.96.161.175",
            "selector": {"app": "backend"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }
    return Site(namespaces, pods, [service])


def target(*calls: tuple[str, str, str] | tuple[str, str], mesh: str = "auto", **more: Any) -> TargetSystem:
    """A target file with those calls (client, server, and how the server is reached)."""
    spaces = dict.fromkeys(key.partition("/")[0] for call in calls for key in call[:2])
    return parse_target(
        {
            "version": 1,
            "tenants": [{"name": name, "namespaces": [name]} for name in spaces],
            "calls": [
                {"client": call[0], "server": call[1], **({"reach": call[2]} if len(call) > 2 else {}), **more}
                for call in calls
            ],
            "mesh": mesh,
        },
        source="t",
    )
