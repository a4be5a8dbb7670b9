"""ReplicaSet: keep a number of pods of one template running, and adopt matching orphans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chaos.embedded.api.errors import StatusError
from chaos.embedded.clock import parse_time, stamp
from chaos.embedded.controllers.base import (
    BURST,
    Controller,
    Source,
    available_in,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    its_controller_or_adopter,
    itself,
    key_of,
    phase,
    pod_from_template,
)
from chaos.embedded.objects import condition, turned_at
from chaos.embedded.resources import POD, REPLICA_SET, Object
from chaos.embedded.store import Key
from chaos.fields import whole_number

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """Pods to create (a count) or to delete (in this order)."""

    create: int = 0
    delete: tuple[Object, ...] = ()


def plan_replicas(wanted: int, pods: Sequence[Object], crowd: Mapping[str, int] | None = None) -> ReplicaPlan:
    """Plan how to reach `wanted` from the active pods; `crowd` counts related pods per node."""
    difference = wanted - len(pods)
    if difference >= 0:
        return ReplicaPlan(create=difference)
    return ReplicaPlan(delete=tuple(sorted(pods, key=lambda pod: _worth(pod, crowd or {}))[:-difference]))


def _worth(pod: Object, crowd: Mapping[str, int]) -> tuple[Any, ...]:
    """Sort key of pods to delete (ActivePodsWithRanks): unassigned, pending, unready, cheap, crowded, young, restarted
    first.
    """
    node = pod["spec"].get("nodeName", "")
    since = turned_at(condition(pod, "Ready") or {}) if is_ready(pod) else None
    young = -since.timestamp() if since is not None else -math.inf  # an unset time counts as the youngest (afterOrZero)
    restarts = max((c["restartCount"] for c in pod.get("status", {}).get("containerStatuses", ())), default=0)
    cost = whole_number(pod["metadata"].get("annotations", {}).get("controller.kubernetes.io/pod-deletion-cost")) or 0
    created = parse_time(pod["metadata"]["creationTimestamp"]).timestamp()
    return (
        bool(node),
        _PHASES.get(phase(pod), 0),
        is_ready(pod),
        cost,
        -crowd.get(node, 0),
        young,
        -restarts,
        -created,
    )


def replica_status(replica_set: Object, pods: Sequence[Object], now: datetime) -> tuple[dict[str, Any], float | None]:
    """(the status for all claimed pods, seconds until a pod becomes available)."""
    active = [pod for pod in pods if is_active(pod)]
    labels = replica_set["spec"]["template"]["metadata"].get("labels", {}).items()
    waits = [available_in(pod, replica_set["spec"].get("minReadySeconds", 0), now) for pod in active]
    status: dict[str, Any] = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels <= pod["metadata"].get("labels", {}).items() for pod in active),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(wait == 0 for wait in waits),
    }
    status = {name: number for name, number in status.items() if number or name == "replicas"}
    status["terminatingReplicas"] = sum(is_terminating(pod) and not is_finished(pod) for pod in pods)
    status["observedGeneration"] = replica_set["metadata"].get("generation", 1)
    return status, min((wait for wait in waits if wait), default=None)


class ReplicaSetController(Controller):
    name = "replicaset-controller"

    def sources(self) -> Sequence[Source]:
        return [(REPLICA_SET, itself), (POD, its_controller_or_adopter(self.store, REPLICA_SET))]

    def reconcile(self, key: Key) -> float | None:
        replica_set = self.store.find(REPLICA_SET, *key)
        if replica_set is None:
            return None
        pods = self.claim(REPLICA_SET, replica_set)
        again: float | None = None
        failure: StatusError | None = None
        if not is_terminating(replica_set):
            active = [pod for pod in pods if is_active(pod)]
            plan = plan_replicas(replica_set["spec"]["replicas"], active, self._crowd(replica_set))
            failure = self._create(replica_set, min(plan.create, BURST))
            for pod in plan.delete[:BURST]:
                self.delete(POD, pod)
                self.recorder.event(
                    replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}"
                )
            if plan.create > BURST or len(plan.delete) > BURST:
                again = 0.0
        status, wait = replica_status(replica_set, pods, self.clock.now())
        self._failure(replica_set, status, failure)
        self.set_status(REPLICA_SET, replica_set, status)
        if failure:
            raise failure
        return again if again is not None else wait

    def _create(self, replica_set: Object, number: int) -> StatusError | None:
        """Create pods; the first refusal, or None. A refusal ends the batch: the others would be refused too."""
        for _ in range(number):
            pod = pod_from_template(replica_set["spec"]["template"], owner_resource=REPLICA_SET, owner=replica_set)
            try:
                new = self.create(POD, pod)
            except StatusError as error:
                self.recorder.event(replica_set, "Warning", "FailedCreate", f"Error creating: {error}")
                return error
            self.recorder.event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {new['metadata']['name']}")
        return None

    def _failure(self, replica_set: Object, status: dict[str, Any], failure: StatusError | None) -> None:
        held = condition(replica_set, "ReplicaFailure")
        if failure and held is not None:
            status["conditions"] = [dict(held)]
        elif failure:
            status["conditions"] = [
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "reason": "FailedCreate",
                    "message": str(failure),
                    "lastTransitionTime": stamp(self.clock.now()),
                }
            ]

    def _crowd(self, replica_set: Object) -> dict[str, int]:
        """Active pods per node of all ReplicaSets of the same controller, so that a scale-down takes doubled-up ones
        first.
        """
        owner = controller_of(replica_set)
        related = {replica_set["metadata"]["uid"]}
        if owner is not None:
            related |= {
                other["metadata"]["uid"]
                for other in self.store.list(REPLICA_SET, replica_set["metadata"]["namespace"])
                if (controller_of(other) or {}).get("uid") == owner["uid"]
            }
        crowd: dict[str, int] = {}
        for pod in self.store.list(POD, key_of(replica_set)[0]):
            node = pod["spec"].get("nodeName")
            if node and is_active(pod) and (controller_of(pod) or {}).get("uid") in related:
                crowd[node] = crowd.get(node, 0) + 1
        return crowd
