"""Asks the mesh's own control plane to inject failures; shared by the faults that do so.

The request is a key of the ConfigMap `mesh`, named after the receipt: it does not touch the mesh's settings, two faults
do not meet, and the undo is to take the key away. What the control plane makes of it is read from its /debug page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from chaos.errors import ApiError, EnvironmentUnfit, NoEffect, NotReady, RecoveryFailed
from chaos.faults import workload
from chaos.faults.model import Facts, Receipt, Target
from chaos.kube.client import Cluster
from chaos.kube.control_key import opened_http
from chaos.kube.objects import is_deleting
from chaos.names import CONTROL_PLANE, MESH_CONFIG, PORT_XDS_STATUS, SYSTEM_NAMESPACE

Page = Mapping[str, Any]


def plan(cluster: Cluster, target: Target) -> Facts:
    """Refuse a workload that is not our control plane: another mesh's injects nothing on request."""
    if (target.namespace, target.name) != (SYSTEM_NAMESPACE, CONTROL_PLANE):
        raise EnvironmentUnfit(
            f"{target} is not sharedfate's own control plane, and injects no failures on request: "
            "scale, pause, degrade or partition act on any"
        )
    workload.living(cluster, target)
    cluster.get("ConfigMap", MESH_CONFIG, SYSTEM_NAMESPACE)
    return {}


def page(cluster: Cluster) -> Page:
    """Fetch the control plane's /debug page; empty while none is ready to show it."""
    for pod in cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"app={CONTROL_PLANE}"):
        if not is_deleting(pod) and pod.get("status", {}).get("phase") == "Running":
            try:
                answer = opened_http(cluster, SYSTEM_NAMESPACE, pod["metadata"]["name"], PORT_XDS_STATUS, "/debug")
                return json.loads(answer)  # type: ignore[no-any-return]
            except ApiError:
                continue
    return {}


def request(
    cluster: Cluster, receipt: Receipt, trouble: Mapping[str, Any], seen: Callable[[Page], Facts], *, seconds: float
) -> Facts:
    """Ask for failures and wait until `seen` finds them on the page; raises NoEffect."""
    _put(cluster, receipt, json.dumps(dict(trouble)))
    try:
        return dict(
            cluster.wait(f"{receipt.fault}: seen by the control plane", lambda: seen(page(cluster)), seconds=seconds)
        )
    except NotReady as error:
        raise NoEffect(f"{receipt.target}: {error}") from error


def withdraw(cluster: Cluster, receipt: Receipt, seen: Callable[[Page], Facts], *, seconds: float) -> Facts:
    """Withdraw the request and wait until `seen` finds it gone; raises RecoveryFailed."""
    _put(cluster, receipt, None)
    try:
        return dict(cluster.wait(f"{receipt.fault}: over", lambda: seen(page(cluster)), seconds=seconds))
    except NotReady as error:
        raise RecoveryFailed(f"{receipt.target}: {error}") from error


def _put(cluster: Cluster, receipt: Receipt, text: str | None) -> None:
    cluster.patch("ConfigMap", MESH_CONFIG, {"data": {f"fault-{receipt.id}.json": text}}, SYSTEM_NAMESPACE)
