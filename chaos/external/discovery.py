"""Writes a target file from what is in the namespaces: workloads, the Services that select them, the mesh, and
calls.

Who calls whom is taken from the proxies' own statistics where they say it; else every workload that no Service leads to
is taken for a client of every one that a Service does, in a comment, for the user to choose from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import urllib3
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chaos.errors import Misuse, SharedfateError
from chaos.external.description import MeshDescription
from chaos.external.detection import why_it_is
from chaos.external.file import TargetSystem
from chaos.external.parsing import descriptions
from chaos.external.placement import read_proxy_pods
from chaos.external.reaching import selects
from chaos.external.reading import read_page
from chaos.external.routes import running_beside
from chaos.kube.client import Cluster
from chaos.kube.objects import is_live, workload_name
from chaos.model.placement import Proxy

Object = Mapping[str, Any]
Observed = tuple[str, str]  # client and server, `namespace/workload`
_MOST: Final = 32  # proxies whose statistics are read
_HEADER: Final = (
    "# Written from what is in the namespaces: look it through. A call with `reach` is loaded at `rate` requests a\n"
    "# second (200), and its path is broken in trials: take one that changes nothing, such as a health check.\n"
)


def discover_target(cluster: Cluster, namespaces: Sequence[str]) -> str:
    """The YAML of a target file; raises Misuse when a namespace is not there, or none has a workload."""
    spaces = []
    for name in namespaces:
        if (found := cluster.find("Namespace", name)) is None:
            raise Misuse(f"namespace {name} does not exist in {cluster.name}")
        spaces.append(found)
    target = TargetSystem({name: (name,) for name in namespaces}, (), None)
    proxies = read_proxy_pods(cluster, target)
    apart = {pod["metadata"]["uid"] for pod in proxies}
    pods = [pod for name in namespaces for pod in cluster.list("Pod", name) if is_live(pod)]
    pods = [pod for pod in pods if pod["metadata"]["uid"] not in apart]
    services = [one for name in namespaces for one in cluster.list("Service", name)]
    everyone = [*pods, *proxies]
    meshes = [one for one in descriptions().values() if why_it_is(one, spaces, everyone)]
    observed = observed_calls(_statistics(cluster, meshes[0], pods), pods) if len(meshes) == 1 else []
    return target_text(namespaces, pods, services, [mesh.name for mesh in meshes], observed)


def target_text(
    namespaces: Sequence[str],
    pods: Sequence[Object],
    services: Sequence[Object],
    meshes: Sequence[str],
    observed: Sequence[Observed] = (),
) -> str:
    """Return the file's text. Pure."""
    workloads: dict[str, Object] = {f"{pod['metadata']['namespace']}/{workload_name(pod)}": pod for pod in pods}
    reach = {key: way for key, pod in workloads.items() if (way := _reach(pod, services))}
    if not workloads:
        raise Misuse(f"no live pod in {', '.join(namespaces)}: there is nothing to write down")
    clients = [key for key in workloads if key not in reach]
    calls = [pair for pair in dict.fromkeys(observed) if pair[1] in reach]
    guessed = not calls
    if guessed:
        calls = [(client, server) for client in clients for server in reach]
    document = {
        "version": 1,
        "tenants": [{"name": name, "namespaces": [name]} for name in namespaces],
        "mesh": meshes[0] if len(meshes) == 1 else "auto" if meshes else "none",
        "calls": [{"client": one, "server": to, "reach": reach[to], "path": "/"} for one, to in calls],
    }
    said = "# calls: as the proxies' statistics saw them.\n"
    if guessed:
        said = "# calls: not observed. Each client could call each server: keep those that it does.\n"
    if not calls:
        said = f"# calls: none found ({len(clients)} clients, {len(reach)} servers behind a Service): write yours.\n"
    return _HEADER + said + yaml.safe_dump(document, sort_keys=False, width=120)


def _reach(pod: Object, services: Sequence[Object]) -> str:
    """HOST:PORT of the first Service that selects the pod; "" without one."""
    for service in services:
        ports = service["spec"].get("ports") or []
        if ports and selects(service, pod):
            first = next((one for one in ports if str(one.get("name", "")).startswith("http")), ports[0])
            return f"{service['metadata']['name']}.{service['metadata']['namespace']}:{first['port']}"
    return ""


def observed_calls(pages: Sequence[tuple[str, str]], pods: Sequence[Object]) -> list[Observed]:
    """Return the calls in the proxies' statistics, by (server workload, page of its proxy). Pure.

    Istio counts by `source_workload`, `source_workload_namespace` and `destination_*`; Linkerd's inbound counts name
    the client's service account, which is a workload's when just one runs under it.
    """
    by_account: dict[tuple[str, str], set[str]] = {}
    for pod in pods:
        space = pod["metadata"]["namespace"]
        account = pod["spec"].get("serviceAccountName", "default")
        by_account.setdefault((space, account), set()).add(f"{space}/{workload_name(pod)}")
    found: dict[Observed, None] = {}
    for server, page in pages:
        for family in text_string_to_metric_families(page if page.endswith("\n") else f"{page}\n"):
            for sample in family.samples:
                if not sample.value:
                    continue
                labels = sample.labels
                if "source_workload" in labels and "destination_workload" in labels:
                    ends = [f"{labels.get(f'{end}_workload_namespace')}/{labels[f'{end}_workload']}" for end in _ENDS]
                    found[ends[0], ends[1]] = None
                elif client := labels.get("client_id"):
                    account, _, rest = client.partition(".")
                    names = by_account.get((rest.partition(".")[0], account), set())
                    if len(names) == 1:
                        found[next(iter(names)), server] = None
    known = {f"{pod['metadata']['namespace']}/{workload_name(pod)}" for pod in pods}
    return [call for call in found if set(call) <= known and call[0] != call[1]]


_ENDS: Final = ("source", "destination")


def _statistics(cluster: Cluster, mesh: MeshDescription, pods: Sequence[Object]) -> list[tuple[str, str]]:
    """(server workload, page) of the proxies in the pods that can be read."""
    found = []
    for pod in pods[:_MOST]:
        for rule in mesh.rules:
            read = rule.reads.get("statistics")
            if not rule.in_pod or read is None or running_beside(pod, rule.container) is None:
                continue
            meta = pod["metadata"]
            proxy = Proxy(
                meta["namespace"],
                meta["name"],
                rule.container,
                meta["uid"],
                "",
                rule.layers,
                rule.scope,
                meta["uid"],
                "",
            )
            try:
                found.append((f"{meta['namespace']}/{workload_name(pod)}", read_page(cluster, proxy, read)))
            except (SharedfateError, urllib3.exceptions.HTTPError):
                continue
    return found
