"""Facts about a target container, read from the live cluster; shared by the faults that act on one."""

from __future__ import annotations

from typing import Any

from chaos.errors import TargetVanished
from chaos.faults.model import Facts, Target
from chaos.kube import objects
from chaos.kube.client import Cluster


def serving_endpoint(pod: dict[str, Any], container: str) -> str:
    """Return `PORT[/path]` of a container's readiness probe, which shows whether it serves; "" without a TCP or HTTP
    one.
    """
    spec = objects.container(pod, container)
    probe = spec.get("readinessProbe") or {}
    how = probe.get("httpGet") or probe.get("tcpSocket") or {}
    if how.get("scheme", "HTTP") != "HTTP" or how.get("host"):
        return ""
    named = {port.get("name"): port["containerPort"] for port in spec.get("ports") or []}
    port = named.get(how.get("port"), how.get("port"))
    return f"{port}{how.get('path', '')}" if isinstance(port, int) else ""


def running_container(cluster: Cluster, target: Target) -> Facts:
    """Return container ID and restart count of a running target; raises TargetVanished when it is another one or not
    running.
    """
    pod = cluster.find("Pod", target.name, target.namespace)
    if pod is None or pod["metadata"]["uid"] != target.uid:
        raise TargetVanished(f"{target}: no such pod any longer")
    status = objects.container_status(pod, target.container)
    if "running" not in status.get("state", {}):
        raise TargetVanished(f"{target}: its container does not run: {status.get('state')}")
    if status["containerID"] != target.container_id:
        raise TargetVanished(f"{target}: its container was replaced meanwhile: select it again")
    return {"container_id": status["containerID"], "restarts": status["restartCount"]}


def refuse_vanished(cluster: Cluster, target: Target) -> dict[str, Any]:
    """Return the target's pod; raises TargetVanished when it is gone, or a namesake has taken its place."""
    pod = cluster.find("Pod", target.name, target.namespace)
    if pod is None or pod["metadata"]["uid"] != target.uid:
        raise TargetVanished(f"{target}: its pod went while the fault was held")
    return pod


def replaced_and_ready(cluster: Cluster, target: Target, before: Facts) -> dict[str, Any]:
    """Return the new container's status once it runs and is ready, else an empty one."""
    status = objects.container_status(refuse_vanished(cluster, target), target.container)
    new = status.get("containerID") not in (None, before["container_id"])
    return status if new and status.get("ready") and "running" in status.get("state", {}) else {}
