"""Deployment: roll from one ReplicaSet to the next (rolling update or recreate), keep revisions, report progress.

The arithmetic (surge, unavailability, proportional scaling, conditions) is in pure functions above the controller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from chaos.embedded.clock import parse_time, stamp
from chaos.embedded.controllers.base import (
    Controller,
    Source,
    controller_of,
    is_finished,
    is_terminating,
    its_controller,
    its_controller_or_adopter,
    itself,
    key_of,
    owner_reference,
    safe_hash,
)
from chaos.embedded.objects import condition
from chaos.embedded.resources import DEPLOYMENT, POD, REPLICA_SET, Object
from chaos.embedded.store import Key, WatchEvent, copy
from chaos.fields import whole_number

HASH: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
REVISION_HISTORY: Final = "deployment.kubernetes.io/revision-history"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
MAXIMUM: Final = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED: Final = {
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
}


def resolve(value: int | str, total: int, *, up: bool) -> int:
    """Resolve a count, or a percentage of `total`, rounded up (surge) or down (unavailability)."""
    if isinstance(value, int):
        return value
    share = int(value.rstrip("%")) * total / 100
    return math.ceil(share) if up else math.floor(share)


def limits(deployment: Object) -> tuple[int, int]:
    """(max surge, max unavailable) in pods; when both resolve to 0, one pod may be unavailable."""
    spec = deployment["spec"]
    if spec.get("strategy", {}).get("type") == "Recreate":
        return 0, 0
    rolling = spec.get("strategy", {}).get("rollingUpdate") or {}
    surge = resolve(rolling.get("maxSurge", "25%"), spec["replicas"], up=True)
    unavailable = resolve(rolling.get("maxUnavailable", "25%"), spec["replicas"], up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, spec["replicas"])


def template_without_hash(template: Mapping[str, Any]) -> dict[str, Any]:
    plain = copy(template)
    plain.get("metadata", {}).get("labels", {}).pop(HASH, None)
    return plain


def find_new(deployment: Object, sets: Sequence[Object]) -> Object | None:
    """The oldest ReplicaSet with the Deployment's present template."""
    wanted = copy(deployment["spec"]["template"])
    for one in sorted(sets, key=_age):
        if template_without_hash(one["spec"]["template"]) == wanted:
            return one
    return None


def _age(one: Object) -> tuple[str, str]:
    return one["metadata"]["creationTimestamp"], one["metadata"]["name"]


def replicas(one: Object) -> int:
    return int(one["spec"]["replicas"])


def counted(one: Object, field: str) -> int:
    return int(one.get("status", {}).get(field, 0))


def plan_new(deployment: Object, new: Object, sets: Sequence[Object]) -> int:
    """The new ReplicaSet's replicas now, within the surge."""
    wanted = int(deployment["spec"]["replicas"])
    if deployment["spec"].get("strategy", {}).get("type") == "Recreate" or replicas(new) > wanted:
        return wanted
    room = wanted + limits(deployment)[0] - sum(replicas(one) for one in sets)
    return replicas(new) + max(0, min(room, wanted - replicas(new)))


def plan_old(deployment: Object, new: Object, old: Sequence[Object]) -> dict[str, int]:
    """Changed replicas of old ReplicaSets, by name: unhealthy pods go first, then as availability permits."""
    wanted, (_, unavailable) = deployment["spec"]["replicas"], limits(deployment)
    sets = [*old, new]
    minimum = wanted - unavailable
    may_go = sum(replicas(one) for one in sets) - minimum - (replicas(new) - counted(new, "availableReplicas"))
    if may_go <= 0 or not any(replicas(one) for one in old):
        return {}
    plan = {one["metadata"]["name"]: replicas(one) for one in old}
    before = dict(plan)
    cleaned = 0
    for one in sorted(old, key=_age):
        name = one["metadata"]["name"]
        unhealthy = min(max(0, plan[name] - counted(one, "availableReplicas")), may_go - cleaned)
        plan[name] -= unhealthy
        cleaned += unhealthy
    spare = sum(counted(one, "availableReplicas") for one in sets) - minimum
    for one in sorted(old, key=_age):
        name = one["metadata"]["name"]
        down = max(0, min(plan[name], spare))
        plan[name] -= down
        spare -= down
    return {name: number for name, number in plan.items() if number != before[name]}


def plan_scaling(deployment: Object, sets: Sequence[Object]) -> dict[str, int]:
    """Replicas by name when the Deployment is scaled in mid-rollout: in proportion, largest first."""
    active = [one for one in sets if replicas(one) > 0]
    wanted = deployment["spec"]["replicas"]
    if len(active) <= 1:
        one = active[0] if active else max(sets, key=_age, default=None)
        return {} if one is None or replicas(one) == wanted else {one["metadata"]["name"]: wanted}
    total = sum(replicas(one) for one in active)
    allowed = wanted + limits(deployment)[0] if wanted else 0
    to_add = allowed - total
    plan: dict[str, int] = {}
    added = 0
    ordered = sorted(sorted(active, key=_age, reverse=to_add > 0), key=replicas, reverse=True)
    for one in ordered:
        maximum = _noted(one, MAXIMUM) or total
        share = round(replicas(one) * allowed / maximum) - replicas(one) if wanted else -replicas(one)
        left = to_add - added
        share = max(0, min(share, left)) if to_add > 0 else min(0, max(share, left))
        plan[one["metadata"]["name"]] = replicas(one) + share
        added += share
    first = ordered[0]["metadata"]["name"]
    plan[first] = max(0, plan[first] + to_add - added)
    return {
        name: number
        for name, number in plan.items()
        if number != replicas(next(s for s in active if s["metadata"]["name"] == name))
    }


def is_complete(deployment: Object, status: Mapping[str, Any]) -> bool:
    wanted = deployment["spec"]["replicas"]
    return all(
        status.get(field, 0) == wanted for field in ("updatedReplicas", "replicas", "availableReplicas")
    ) and int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 1))


def progressed(deployment: Object, status: Mapping[str, Any]) -> bool:
    """Whether the rollout advanced since the last status: more updated, ready or available pods, or fewer old ones."""
    before = deployment.get("status", {})

    def old_pods(one: Mapping[str, Any]) -> int:
        return int(one.get("replicas", 0)) - int(one.get("updatedReplicas", 0))

    grown = any(
        status.get(field, 0) > before.get(field, 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return grown or old_pods(status) < old_pods(before)


def set_condition(
    conditions: list[dict[str, Any]],
    type: str,
    status: str,
    reason: str,
    message: str,
    now: datetime,
    *,
    always: bool = False,
) -> None:
    """Move a condition to the end, as Kubernetes does; the same status and reason change nothing unless `always`."""
    held = next((entry for entry in conditions if entry["type"] == type), None)
    if held is not None and held["status"] == status and held.get("reason") == reason and not always:
        return
    since = (held.get("lastTransitionTime") if held is not None and held["status"] == status else None) or stamp(now)
    new = {
        "type": type,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp(now),
        "lastTransitionTime": since,
    }
    conditions[:] = [entry for entry in conditions if entry["type"] != type] + [new]


def deployment_status(deployment: Object, new: Object | None, sets: Sequence[Object], now: datetime) -> dict[str, Any]:
    """Counters and the Available condition; Progressing is left as it is (see `progress`)."""
    total = sum(replicas(one) for one in sets)
    available = sum(counted(one, "availableReplicas") for one in sets)
    status: dict[str, Any] = {
        "replicas": sum(counted(one, "replicas") for one in sets),
        "updatedReplicas": counted(new, "replicas") if new else 0,
        "readyReplicas": sum(counted(one, "readyReplicas") for one in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
    }
    status = {name: number for name, number in status.items() if number}
    status["terminatingReplicas"] = sum(counted(one, "terminatingReplicas") for one in sets)
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    if "collisionCount" in deployment.get("status", {}):
        status["collisionCount"] = deployment["status"]["collisionCount"]
    conditions = [dict(entry) for entry in deployment.get("status", {}).get("conditions", [])]
    if available >= deployment["spec"]["replicas"] - limits(deployment)[1]:
        set_condition(
            conditions, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now
        )
    else:
        set_condition(
            conditions,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    status["conditions"] = conditions
    return status


def progress(
    deployment: Object, status: dict[str, Any], new: Object | None, sets: Sequence[Object], now: datetime
) -> float | None:
    """Set the Progressing and ReplicaFailure conditions; seconds until the progress deadline is due."""
    conditions = status["conditions"]
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    held = condition(deployment, "Progressing")
    of = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    again: float | None = None
    done_before = (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and held is not None
        and held["reason"] == "NewReplicaSetAvailable"
    )
    # A paused Deployment keeps the condition that says so: settling it here would undo `_pause_condition`, for ever.
    paused = bool(deployment["spec"].get("paused"))
    if deadline < 2**31 - 1 and not done_before and not paused:
        if is_complete(deployment, status):
            set_condition(
                conditions, "Progressing", "True", "NewReplicaSetAvailable", f"{of} has successfully progressed.", now
            )
        elif progressed(deployment, status):
            set_condition(
                conditions, "Progressing", "True", "ReplicaSetUpdated", f"{of} is progressing.", now, always=True
            )
        elif held is not None:
            left = deadline - (now - parse_time(held["lastUpdateTime"])).total_seconds()
            if held["reason"] == "ProgressDeadlineExceeded" or left <= 0:
                set_condition(
                    conditions,
                    "Progressing",
                    "False",
                    "ProgressDeadlineExceeded",
                    f"{of} has timed out progressing.",
                    now,
                )
            else:
                again = left + 1
    failure = next((entry for one in sets if (entry := condition(one, "ReplicaFailure")) is not None), None)
    conditions[:] = [entry for entry in conditions if entry["type"] != "ReplicaFailure"]
    if failure is not None:
        set_condition(conditions, "ReplicaFailure", failure["status"], failure["reason"], failure["message"], now)
    return again


class DeploymentController(Controller):
    name = "deployment-controller"

    def sources(self) -> Sequence[Source]:
        return [
            (DEPLOYMENT, itself),
            (REPLICA_SET, its_controller_or_adopter(self.store, DEPLOYMENT)),
            (POD, self._pod_gone),
        ]

    def _pod_gone(self, event: WatchEvent) -> Sequence[Key]:
        """Map a finished pod to its Deployment: a Recreate rollout may wait for it."""
        ref = controller_of(event.object)
        if ref is None or ref["kind"] != "ReplicaSet" or not (event.type == "DELETED" or is_finished(event.object)):
            return []
        owner = self.store.find(REPLICA_SET, event.object["metadata"]["namespace"], ref["name"])
        if owner is None:
            return []
        return list(its_controller("Deployment")(WatchEvent("MODIFIED", owner, 0)))

    def reconcile(self, key: Key) -> float | None:
        deployment = self.store.find(DEPLOYMENT, *key)
        if deployment is None:
            return None
        sets = self.claim(DEPLOYMENT, deployment, REPLICA_SET)
        if is_terminating(deployment):
            return self._status(deployment, find_new(deployment, sets), sets)
        deployment = self._pause_condition(deployment)
        if deployment["spec"].get("paused") or self._scaled(deployment, sets):
            new = self._new_set(deployment, sets, make=False)
            for name, number in plan_scaling(deployment, sets).items():
                self._scale(deployment, next(one for one in sets if one["metadata"]["name"] == name), number)
            sets = self._fresh(sets)
            for one in sets:
                self._sizes(deployment, one)
        elif deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            new = self._recreate(deployment, sets)
        else:
            new = self._roll(deployment, sets)
        sets = self._fresh(
            sets
            if new is None or any(one["metadata"]["uid"] == new["metadata"]["uid"] for one in sets)
            else [*sets, new]
        )
        deployment = self.store.get(DEPLOYMENT, *key)
        new = find_new(deployment, sets)
        if new is not None and is_complete(deployment, deployment_status(deployment, new, sets, self.clock.now())):
            self._clean(deployment, new, sets)
        return self._status(deployment, new, sets)

    # ---- steps

    def _scaled(self, deployment: Object, sets: Sequence[Object]) -> bool:
        """Whether the Deployment's replicas changed since its active ReplicaSets were annotated."""
        wanted = str(deployment["spec"]["replicas"])
        return any(
            replicas(one) and one["metadata"].get("annotations", {}).get(DESIRED, wanted) != wanted for one in sets
        )

    def _roll(self, deployment: Object, sets: Sequence[Object]) -> Object:
        new = self._new_set(deployment, sets)
        assert new is not None
        old = [one for one in sets if one["metadata"]["uid"] != new["metadata"]["uid"]]
        size = plan_new(deployment, new, [*old, new])
        if size != replicas(new):
            return self._scale(deployment, new, size)
        for name, number in plan_old(deployment, new, old).items():
            self._scale(deployment, next(one for one in old if one["metadata"]["name"] == name), number)
        return new

    def _recreate(self, deployment: Object, sets: Sequence[Object]) -> Object | None:
        new = self._new_set(deployment, sets, make=False)
        old = [one for one in sets if new is None or one["metadata"]["uid"] != new["metadata"]["uid"]]
        for one in old:
            if replicas(one):
                self._scale(deployment, one, 0)
        uids = {one["metadata"]["uid"] for one in old}
        for pod in self.store.list(POD, deployment["metadata"]["namespace"]):
            if not is_finished(pod) and (controller_of(pod) or {}).get("uid") in uids:
                return new
        new = self._new_set(deployment, sets)
        assert new is not None
        return self._scale(deployment, new, deployment["spec"]["replicas"])

    def _new_set(self, deployment: Object, sets: Sequence[Object], *, make: bool = True) -> Object | None:
        """The ReplicaSet of the present template, with the newest revision; made if missing (and `make`)."""
        new = find_new(deployment, sets)
        others = [one for one in sets if new is None or one["metadata"]["uid"] != new["metadata"]["uid"]]
        revision = max((_revision(one) for one in others), default=0) + 1
        now = self.clock.now()
        if new is not None:
            revision = max(revision, _revision(new))
            new = self.store.mutate(REPLICA_SET, *key_of(new), lambda one: _annotate(one, deployment, revision))
            self._note_revision(
                deployment,
                revision,
                None
                if condition(deployment, "Progressing")
                else ("FoundNewReplicaSet", f'Found new replica set "{new["metadata"]["name"]}"'),
                now,
            )
            return new
        if not make:
            return None
        new = self._make(deployment, others, revision)
        self._note_revision(
            deployment, revision, ("NewReplicaSetCreated", f'Created new replica set "{new["metadata"]["name"]}"'), now
        )
        return new

    def _make(self, deployment: Object, others: Sequence[Object], revision: int) -> Object:
        meta, spec = deployment["metadata"], deployment["spec"]
        template = copy(spec["template"])
        collisions = deployment.get("status", {}).get("collisionCount", 0)
        digest = safe_hash(template, collisions)
        while self.store.find(REPLICA_SET, meta["namespace"], f"{meta['name']}-{digest}") is not None:
            collisions += 1
            digest = safe_hash(template, collisions)
        template.setdefault("metadata", {}).setdefault("labels", {})[HASH] = digest
        selector = copy(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH] = digest
        new: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "namespace": meta["namespace"],
                "labels": template["metadata"]["labels"],
                "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
            "status": {"replicas": 0},
        }
        if spec.get("minReadySeconds"):
            new["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        new["spec"]["replicas"] = (
            plan_new(deployment, new, [*others, new])
            if spec.get("strategy", {}).get("type") != "Recreate"
            else spec["replicas"]
        )
        _annotate(new, deployment, revision)
        created = self.create(REPLICA_SET, new)
        if replicas(created):
            self.recorder.event(
                deployment,
                "Normal",
                "ScalingReplicaSet",
                f"Scaled up replica set {created['metadata']['name']} from 0 to {replicas(created)}",
            )
        return created

    def _note_revision(self, deployment: Object, revision: int, found: tuple[str, str] | None, now: datetime) -> None:
        def change(new: dict[str, Any]) -> None:
            new["metadata"].setdefault("annotations", {})[REVISION] = str(revision)
            if found is not None and new["spec"].get("progressDeadlineSeconds", 600) < 2**31 - 1:
                conditions = [dict(entry) for entry in new.get("status", {}).get("conditions", [])]
                set_condition(conditions, "Progressing", "True", *found, now)
                new.setdefault("status", {})["conditions"] = conditions

        self.store.mutate(DEPLOYMENT, *key_of(deployment), change, uid=deployment["metadata"]["uid"])

    def _pause_condition(self, deployment: Object) -> Object:
        held = condition(deployment, "Progressing")
        paused = bool(deployment["spec"].get("paused"))
        if paused and (held is None or held["reason"] != "DeploymentPaused"):
            found = ("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not paused and held is not None and held["reason"] == "DeploymentPaused":
            found = ("Unknown", "DeploymentResumed", "Deployment is resumed")
        else:
            return deployment

        def change(new: dict[str, Any]) -> None:
            conditions = [dict(entry) for entry in new.get("status", {}).get("conditions", [])]
            set_condition(conditions, "Progressing", *found, self.clock.now())
            new.setdefault("status", {})["conditions"] = conditions

        return self.store.mutate(DEPLOYMENT, *key_of(deployment), change)

    def _scale(self, deployment: Object, one: Object, number: int) -> Object:
        before = replicas(one)
        if before == number:
            return self._sizes(deployment, one)

        def change(new: dict[str, Any]) -> None:
            new["spec"]["replicas"] = number
            new["metadata"]["generation"] = new["metadata"].get("generation", 1) + 1
            _annotate_sizes(new, deployment)

        scaled = self.store.mutate(REPLICA_SET, *key_of(one), change, uid=one["metadata"]["uid"])
        way = "up" if number > before else "down"
        self.recorder.event(
            deployment,
            "Normal",
            "ScalingReplicaSet",
            f"Scaled {way} replica set {one['metadata']['name']} from {before} to {number}",
        )
        return scaled

    def _sizes(self, deployment: Object, one: Object) -> Object:
        return self.store.mutate(REPLICA_SET, *key_of(one), lambda new: _annotate_sizes(new, deployment))

    def _fresh(self, sets: Sequence[Object]) -> list[Object]:
        found = (self.store.find(REPLICA_SET, *key_of(one)) for one in sets)
        return [one for one in found if one is not None]

    def _clean(self, deployment: Object, new: Object, sets: Sequence[Object]) -> None:
        """Delete the oldest empty ReplicaSets beyond the history limit."""
        old = [one for one in sets if one["metadata"]["uid"] != new["metadata"]["uid"] and not is_terminating(one)]
        excess = len(old) - deployment["spec"].get("revisionHistoryLimit", 10)
        for one in sorted(old, key=_revision)[: max(0, excess)]:
            if not replicas(one) and not counted(one, "replicas"):
                self.delete(REPLICA_SET, one)

    def _status(self, deployment: Object, new: Object | None, sets: Sequence[Object]) -> float | None:
        now = self.clock.now()
        status = deployment_status(deployment, new, sets, now)
        again = progress(deployment, status, new, sets, now)
        self.set_status(DEPLOYMENT, deployment, status)
        return again


def _revision(one: Object) -> int:
    return _noted(one, REVISION)


def _noted(one: Object, annotation: str) -> int:
    """A number of ours in an annotation, which anybody may write; 0 for anything else."""
    return whole_number(one["metadata"].get("annotations", {}).get(annotation)) or 0


def _annotate(one: dict[str, Any], deployment: Object, revision: int) -> None:
    """Annotate with the Deployment's annotations, the revision (and the earlier ones of a returning template) and
    sizes.
    """
    held = one["metadata"].setdefault("annotations", {})
    for name, value in deployment["metadata"].get("annotations", {}).items():
        if name not in _NOT_COPIED:
            held[name] = value
    before = held.get(REVISION)
    if before is None or (whole_number(before) or 0) < revision:
        if before is not None:
            held[REVISION_HISTORY] = ",".join([*filter(None, [held.get(REVISION_HISTORY)]), before])
        held[REVISION] = str(revision)
    _annotate_sizes(one, deployment)


def _annotate_sizes(one: dict[str, Any], deployment: Object) -> None:
    wanted = deployment["spec"]["replicas"]
    one["metadata"].setdefault("annotations", {}).update(
        {DESIRED: str(wanted), MAXIMUM: str(wanted + limits(deployment)[0])}
    )
