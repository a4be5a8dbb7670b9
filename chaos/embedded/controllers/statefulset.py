"""StatefulSet: pods with an ordinal and a stable name, started and replaced in order.

Each pod has claims of its own for the set's volumeClaimTemplates, which outlive it and which its successor uses
again; the retention policy decides what owns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from chaos.embedded.api.errors import StatusError
from chaos.embedded.controllers.base import (
    Controller,
    Source,
    available_in,
    is_finished,
    is_ready,
    is_terminating,
    its_controller_or_adopter,
    itself,
    key_of,
    owner_reference,
    phase,
    pod_from_template,
)
from chaos.embedded.controllers.revisions import REVISION_HASH, current_revision, revisions_of
from chaos.embedded.resources import PERSISTENT_VOLUME_CLAIM, POD, STATEFUL_SET, Object
from chaos.embedded.store import Conflict, Key, copy
from chaos.fields import whole_number

INDEX: Final = "apps.kubernetes.io/pod-index"
POD_NAME: Final = "statefulset.kubernetes.io/pod-name"


def ordinal(stateful_set: Object, pod: Object) -> int | None:
    """The pod's ordinal; None when its name is not one of this set's."""
    prefix, _, number = pod["metadata"]["name"].rpartition("-")
    return whole_number(number) if prefix == stateful_set["metadata"]["name"] else None


def stateful_pod(stateful_set: Object, number: int, template: dict[str, Any], revision: str) -> dict[str, Any]:
    """The pod of this ordinal, from the template of this revision."""
    pod = pod_from_template(template, owner_resource=STATEFUL_SET, owner=stateful_set)
    name = f"{stateful_set['metadata']['name']}-{number}"
    pod["metadata"]["name"] = name
    pod["metadata"].setdefault("labels", {}).update({POD_NAME: name, INDEX: str(number), REVISION_HASH: revision})
    pod["spec"]["hostname"] = name
    if stateful_set["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = stateful_set["spec"]["serviceName"]
    held = {volume: claim["metadata"]["name"] for volume, claim in plan_claims(stateful_set, number).items()}
    if held:
        own = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in held.items()]
        pod["spec"]["volumes"] = own + [one for one in pod["spec"].get("volumes") or [] if one["name"] not in held]
    return pod


def plan_claims(stateful_set: Object, number: int) -> dict[str, dict[str, Any]]:
    """The claims of the pod of this ordinal, by volume name."""
    found: dict[str, dict[str, Any]] = {}
    meta, spec = stateful_set["metadata"], stateful_set["spec"]
    for template in spec.get("volumeClaimTemplates") or []:
        claim = copy(template)
        claim.pop("status", None)
        volume = claim["metadata"]["name"]
        labels = {**(claim["metadata"].get("labels") or {}), **(spec["selector"].get("matchLabels") or {})}
        claim["metadata"] |= {"name": f"{volume}-{meta['name']}-{number}", "namespace": meta["namespace"]}
        if labels:
            claim["metadata"]["labels"] = labels
        found[volume] = claim
    return found


def plan_owners(stateful_set: Object, pod: Object | None, held: Sequence[Object]) -> list[Any]:
    """A claim's ownerReferences by the set's retention policy; `pod` is its pod when that is surplus. Other owners
    stay, and a claim with another controller is left alone.
    """
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    with_set = policy.get("whenDeleted") == "Delete" and (pod is None or policy.get("whenScaled") != "Delete")
    with_pod = policy.get("whenScaled") == "Delete" and pod is not None
    prefix = stateful_set["metadata"]["name"]
    others = [
        one
        for one in held
        if not (one["kind"] == "StatefulSet" and one["name"] == prefix)
        and not (one["kind"] == "Pod" and one["name"].rpartition("-")[0] == prefix)
    ]
    if any(one.get("controller") for one in others):
        return others
    own = [owner_reference(STATEFUL_SET, stateful_set)] if with_set else []
    own += [owner_reference(POD, pod)] if with_pod and pod is not None else []
    return [*others, *own]


class StatefulSetController(Controller):
    name = "statefulset-controller"

    def sources(self) -> Sequence[Source]:
        return [(STATEFUL_SET, itself), (POD, its_controller_or_adopter(self.store, STATEFUL_SET))]

    def reconcile(self, key: Key) -> float | None:
        stateful_set = self.store.find(STATEFUL_SET, *key)
        if stateful_set is None:
            return None
        pods = {
            number: pod
            for pod in self.claim(STATEFUL_SET, stateful_set)
            if (number := ordinal(stateful_set, pod)) is not None
        }
        newest = current_revision(self.store, STATEFUL_SET, stateful_set)
        update = newest["metadata"]["name"]
        current = self._current(stateful_set, update)
        again: float | None = None
        if not is_terminating(stateful_set):
            self._keep_claims(stateful_set, pods)
            again = self._step(stateful_set, pods, current, newest)
        self._status(stateful_set, current, update)
        return again

    def _current(self, stateful_set: Object, update: str) -> str:
        """The revision of pods below the partition: the last one rolled out completely."""
        held = stateful_set.get("status", {}).get("currentRevision")
        known = {one["metadata"]["name"] for one in revisions_of(self.store, stateful_set)}
        return str(held) if held in known else update

    def _step(self, stateful_set: Object, pods: dict[int, Object], current: str, newest: Object) -> float | None:
        """Make one move, in order; in parallel mode all moves at once. Seconds until availability may change."""
        spec = stateful_set["spec"]
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + spec["replicas"])
        parallel = spec.get("podManagementPolicy") == "Parallel"
        now = self.clock.now()
        waits = [wait for pod in pods.values() if (wait := available_in(pod, spec.get("minReadySeconds", 0), now))]
        again = min(waits, default=None)
        for number in wanted:
            pod = pods.get(number)
            if pod is None:
                self._create(stateful_set, number, self._revision_for(stateful_set, number, current, newest))
                if not parallel:
                    return again
            elif is_finished(pod) and not is_terminating(pod):
                self._replace(stateful_set, pod)
                if not parallel:
                    return again
            elif (is_terminating(pod) or available_in(pod, spec.get("minReadySeconds", 0), now) != 0) and not parallel:
                return again
        for number in sorted((n for n in pods if n not in wanted), reverse=True):
            pod = pods[number]
            if not is_terminating(pod):
                self._delete(stateful_set, pod)
            if not parallel:
                return again
        self._roll(stateful_set, pods, wanted, newest)
        return again

    def _revision_for(self, stateful_set: Object, number: int, current: str, newest: Object) -> Object:
        """The current revision below the partition, the newest above it."""
        rolling = stateful_set["spec"].get("updateStrategy", {})
        partition = (rolling.get("rollingUpdate") or {}).get("partition", 0)
        if (
            rolling.get("type", "RollingUpdate") != "RollingUpdate"
            or number >= partition
            or current == newest["metadata"]["name"]
        ):
            return newest
        return next(one for one in revisions_of(self.store, stateful_set) if one["metadata"]["name"] == current)

    def _roll(self, stateful_set: Object, pods: dict[int, Object], wanted: range, newest: Object) -> None:
        """Delete the highest outdated pod at or above the partition, when all above it are healthy."""
        strategy = stateful_set["spec"].get("updateStrategy", {})
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        for number in sorted(wanted, reverse=True):
            pod = pods.get(number)
            if number < partition or pod is None:
                return
            if pod["metadata"]["labels"].get(REVISION_HASH) != newest["metadata"]["name"]:
                if not is_terminating(pod):
                    self._delete(stateful_set, pod)
                return
            if not is_ready(pod) or is_terminating(pod):
                return

    def _replace(self, stateful_set: Object, pod: Object) -> None:
        reason, text = (
            ("RecreatingFailedPod", "failed") if phase(pod) == "Failed" else ("RecreatingTerminatedPod", "terminated")
        )
        self.recorder.event(
            stateful_set,
            "Warning" if phase(pod) == "Failed" else "Normal",
            reason,
            f"StatefulSet {'/'.join(key_of(stateful_set))} is recreating {text} Pod {pod['metadata']['name']}",
        )
        self._delete(stateful_set, pod)

    def _create(self, stateful_set: Object, number: int, revision: Object) -> None:
        template = {name: value for name, value in revision["data"]["spec"]["template"].items() if name != "$patch"}
        pod = stateful_pod(stateful_set, number, template, revision["metadata"]["name"])
        what = f"Pod {pod['metadata']['name']} in StatefulSet {stateful_set['metadata']['name']}"
        self._create_claims(stateful_set, number, pod["metadata"]["name"])
        try:
            self.create(POD, pod)
        except StatusError as error:
            self.recorder.event(stateful_set, "Warning", "FailedCreate", f"create {what} failed error: {error}")
            raise
        self.recorder.event(stateful_set, "Normal", "SuccessfulCreate", f"Create {what} successful")

    def _create_claims(self, stateful_set: Object, number: int, pod: str) -> None:
        """Create the pod's missing claims. Raises Conflict while one is being deleted."""
        for claim in plan_claims(stateful_set, number).values():
            meta = claim["metadata"]
            held = self.store.find(PERSISTENT_VOLUME_CLAIM, meta["namespace"], meta["name"])
            what = f"Claim {meta['name']}"
            of = f"Pod {pod} in StatefulSet {stateful_set['metadata']['name']}"
            if held is None:
                if owners := plan_owners(stateful_set, None, []):
                    meta["ownerReferences"] = owners
                try:
                    self.create(PERSISTENT_VOLUME_CLAIM, claim)
                except StatusError as error:
                    words = f"Create {what} for {of} failed error: {error}"
                    self.recorder.event(stateful_set, "Warning", "FailedCreate", words)
                    raise
                self.recorder.event(stateful_set, "Normal", "SuccessfulCreate", f"Create {what} {of} success")
            elif is_terminating(held):
                raise Conflict(f"pvc {meta['name']} is being deleted")

    def _keep_claims(self, stateful_set: Object, pods: dict[int, Object]) -> None:
        """Set the claims' owners by the retention policy."""
        spec = stateful_set["spec"]
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + spec["replicas"])
        for number, pod in pods.items():
            for planned in plan_claims(stateful_set, number).values():
                claim = self.store.find(PERSISTENT_VOLUME_CLAIM, *key_of(planned))
                if claim is None:
                    continue
                held = claim["metadata"].get("ownerReferences") or []
                owners = plan_owners(stateful_set, None if number in wanted else pod, held)
                if owners != held:

                    def own(new: dict[str, Any], owners: list[Any] = owners) -> None:
                        new["metadata"]["ownerReferences"] = owners

                    self._patch(PERSISTENT_VOLUME_CLAIM, claim, own)

    def _delete(self, stateful_set: Object, pod: Object) -> None:
        self.delete(POD, pod)
        self.recorder.event(
            stateful_set,
            "Normal",
            "SuccessfulDelete",
            f"Delete Pod {pod['metadata']['name']} in StatefulSet {stateful_set['metadata']['name']} successful",
        )

    def _status(self, stateful_set: Object, current: str, update: str) -> None:
        """Count the pods; when all are updated, the update revision becomes current."""
        pods = [pod for pod in self.claim(STATEFUL_SET, stateful_set) if ordinal(stateful_set, pod) is not None]
        now, seconds = self.clock.now(), stateful_set["spec"].get("minReadySeconds", 0)
        live = [pod for pod in pods if not is_terminating(pod)]

        def at(revision: str) -> int:
            return sum(pod["metadata"]["labels"].get(REVISION_HASH) == revision for pod in live)

        wanted = stateful_set["spec"]["replicas"]
        ready = sum(is_ready(pod) for pod in pods)
        if current != update and at(update) == wanted == ready == len(live):
            current = update
        status: dict[str, Any] = {
            "replicas": len(pods),
            "availableReplicas": sum(available_in(pod, seconds, now) == 0 for pod in pods),
            "collisionCount": 0,
            "currentRevision": current,
            "updateRevision": update,
            "observedGeneration": stateful_set["metadata"].get("generation", 1),
        }
        for name, number in (
            ("readyReplicas", ready),
            ("currentReplicas", at(current)),
            ("updatedReplicas", at(update)),
        ):
            if number:
                status[name] = number
        self.set_status(STATEFUL_SET, stateful_set, status)
