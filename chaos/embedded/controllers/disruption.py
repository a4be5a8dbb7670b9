"""PodDisruptionBudget: how many of the selected pods may be evicted now, for the eviction subresource."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chaos.embedded.clock import stamp
from chaos.embedded.controllers.base import Controller, Keys, Source, controller_of, is_active, is_ready, itself, key_of
from chaos.embedded.controllers.labels import matches
from chaos.embedded.objects import condition, is_true
from chaos.embedded.resources import DEPLOYMENT, JOB, POD, POD_DISRUPTION_BUDGET, REPLICA_SET, STATEFUL_SET, Object
from chaos.embedded.store import Key, Store, WatchEvent


def expected_pods(store: Store, pods: Sequence[Object]) -> int:
    """The replicas that the pods' owners want in total; a pod without a scalable owner counts as one."""
    owners: dict[str, int] = {}
    single = 0
    for pod in pods:
        ref = controller_of(pod)
        resource = next(
            (r for r in (REPLICA_SET, STATEFUL_SET, JOB) if ref is not None and r.kind == ref["kind"]), None
        )
        owner = (
            store.find(resource, pod["metadata"]["namespace"], ref["name"])
            if resource is not None and ref is not None
            else None
        )
        if owner is None:
            single += 1
            continue
        above = controller_of(owner)
        if above is not None and above["kind"] == "Deployment":
            owner = store.find(DEPLOYMENT, pod["metadata"]["namespace"], above["name"]) or owner
        owners[owner["metadata"]["uid"]] = owner["spec"].get("replicas", owner["spec"].get("parallelism", 1))
    return sum(owners.values()) + single


def budget_status(budget: Object, pods: Sequence[Object], expected: int) -> dict[str, Any]:
    """currentHealthy, desiredHealthy, expectedPods and disruptionsAllowed (percentages are rounded up)."""
    spec = budget["spec"]

    def number(value: int | str) -> int:
        return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * expected / 100)

    healthy = sum(is_ready(pod) for pod in pods)
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - number(spec["maxUnavailable"]))
    else:
        if isinstance(spec.get("minAvailable", 0), int):
            expected = len(pods)
        desired = number(spec.get("minAvailable", 0))
    allowed = max(0, healthy - desired) if expected > 0 else 0
    return {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "observedGeneration": budget["metadata"].get("generation", 1),
    }


class DisruptionController(Controller):
    name = "controllermanager"  # the component that upstream's Events of budgets name

    def sources(self) -> Sequence[Source]:
        return [(POD_DISRUPTION_BUDGET, itself), (POD, self._budgets)]

    def _budgets(self, event: WatchEvent) -> Keys:
        meta = event.object["metadata"]
        return [
            key_of(one)
            for one in self.store.list(POD_DISRUPTION_BUDGET, meta["namespace"])
            if matches(one["spec"].get("selector"), meta.get("labels"))
        ]

    def reconcile(self, key: Key) -> float | None:
        budget = self.store.find(POD_DISRUPTION_BUDGET, *key)
        if budget is None:
            return None
        pods = [
            pod
            for pod in self.store.list(POD, key[0])
            if is_active(pod) and matches(budget["spec"].get("selector"), pod["metadata"].get("labels"))
        ]
        status = budget_status(budget, pods, expected_pods(self.store, pods))
        held = budget.get("status", {})
        allowed = status["disruptionsAllowed"] > 0
        before = condition(budget, "DisruptionAllowed")
        kept = before is not None and is_true(budget, "DisruptionAllowed") == allowed
        since = before["lastTransitionTime"] if before is not None and kept else stamp(self.clock.now())
        status["conditions"] = [
            {
                "type": "DisruptionAllowed",
                "status": "True" if allowed else "False",
                "message": "",
                "reason": "SufficientPods" if allowed else "InsufficientPods",
                "lastTransitionTime": since,
                "observedGeneration": status["observedGeneration"],
            }
        ]
        if held.get("disruptedPods"):
            live = {pod["metadata"]["name"] for pod in pods}
            if kept := {name: at for name, at in held["disruptedPods"].items() if name in live}:
                status["disruptedPods"] = kept
        self.set_status(POD_DISRUPTION_BUDGET, budget, status)
        return None
