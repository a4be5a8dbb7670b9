"""Lower a container's CPU limit through the `resize` subresource, and restore it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import NoEffect, NotReady, RecoveryFailed, TargetVanished
from chaos.faults import notes
from chaos.faults.activity import Activity
from chaos.faults.container import refuse_vanished, running_container
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status
from chaos.kube.quantity import millicores
from chaos.model.faulting import FaultShape
from chaos.names import ANNOTATION_BUDGET, ANNOTATION_BUDGET_HOLD


@dataclass(frozen=True, slots=True)
class Throttle:
    """Set a container's CPU limit, seen in the container's status; recover restores the old one.

    Args:
        millicores: the limit.
    """

    name: ClassVar[str] = "throttle"
    shape: ClassVar[FaultShape] = FaultShape.GRADUAL
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"cpu"})
    witness: ClassVar[Witness] = Witness.LIMIT
    needs: ClassVar[tuple[Need, ...]] = (Need.RESIZE,)
    activity: ClassVar[Activity] = Activity("throttle_proxy", "restore_proxy_cpu")
    millicores: int = 10

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        facts = running_container(cluster, target)
        pod = cluster.get("Pod", target.name, target.namespace)
        notes.refuse_noted(pod, target)
        facts["part"], spec = _container_spec(pod, target.container)
        facts["limit"] = spec.get("resources", {}).get("limits", {}).get("cpu")
        facts["request"] = spec.get("resources", {}).get("requests", {}).get("cpu")
        facts["budget"] = pod["metadata"].get("annotations", {}).get(ANNOTATION_BUDGET)
        if facts["limit"] is None:
            raise TargetVanished(
                f"{target} has no CPU limit: a cut limit could not be given back. Is its budget applied yet?"
            )
        return facts

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        at = time.time_ns()
        # The note and the mark go first: the control plane would give the proxy its budget back.
        _note(cluster, receipt, notes.patch_with(receipt), receipt.id)
        request = receipt.facts.get("request")  # none may exceed the limit
        if request is not None and millicores(request) > self.millicores:
            request = f"{self.millicores}m"
        _resize(cluster, receipt, f"{self.millicores}m", request)
        try:
            seen = cluster.wait("resized", lambda: _applied(cluster, receipt.target, f"{self.millicores}m"), seconds=10)
        except NotReady as error:
            raise NoEffect(f"{receipt.target}: the kubelet did not apply a limit of {self.millicores}m") from error
        return Evidence(at, seen)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target, limit = receipt.target, str(receipt.facts["limit"])
        pod = refuse_vanished(cluster, target)
        _resize(cluster, receipt, limit, receipt.facts.get("request"))
        _note(cluster, receipt, notes.patch_without(receipt, pod), None)
        try:
            seen = cluster.wait("resized back", lambda: _applied(cluster, target, limit), seconds=10)
        except NotReady as error:
            raise RecoveryFailed(f"{target}: its limit of {limit} was not applied again") from error
        return Evidence(time.time_ns(), seen)


def _container_spec(pod: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    for part in ("containers", "initContainers"):
        for spec in pod["spec"].get(part) or []:
            if spec["name"] == name:
                return part, spec
    raise TargetVanished(f"pod {pod['metadata']['name']} has no container {name}")


def _note(cluster: Cluster, receipt: Receipt, metadata: dict[str, Any], mark: str | None) -> None:
    """Note the receipt, or remove the note; also mark on a proxy's pod that its CPU limit belongs to a fault."""
    if receipt.facts["budget"] is not None:
        metadata = {**metadata, "annotations": {**metadata["annotations"], ANNOTATION_BUDGET_HOLD: mark}}
    cluster.patch("Pod", receipt.target.name, {"metadata": metadata}, receipt.target.namespace)


def _resize(cluster: Cluster, receipt: Receipt, limit: str, request: str | None) -> None:
    target = receipt.target
    resources = {"limits": {"cpu": limit}, **({"requests": {"cpu": request}} if request is not None else {})}
    patch = {"spec": {receipt.facts["part"]: [{"name": target.container, "resources": resources}]}}
    cluster.patch("Pod", target.name, patch, target.namespace, how="strategic", subresource="resize")


def _applied(cluster: Cluster, target: Target, limit: str) -> dict[str, Any]:
    pod = cluster.get("Pod", target.name, target.namespace)
    applied = container_status(pod, target.container).get("resources", {}).get("limits", {}).get("cpu")
    return {"limit": applied} if applied == limit else {}
