"""Volume binding for the scheduler: which nodes a pod's volumes permit, and what to reserve on the chosen node.

The rules and words of kube-scheduler's VolumeBinding: a bound claim restricts the pod to its volume's nodes; one that
waits for its consumer is met by a free volume of the node, or by a new one where its class provisions volumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded import claims
from chaos.embedded.controllers.placement import NodeInfo, selector_fits
from chaos.embedded.resources import NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS, Object
from chaos.embedded.store import Store

NODE_CONFLICT: Final = "node(s) didn't match PersistentVolume's node affinity"
BIND_CONFLICT: Final = "node(s) didn't find available persistent volumes to bind"
GONE: Final = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


def fits_node(volume: Object, node: Object) -> bool:
    """Whether the volume is accessible from the node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or selector_fits(required, node)


class PodVolumes:
    """The claims of one pod, in one scheduling pass."""

    def __init__(self, store: Store, pod: Object) -> None:
        self._store = store
        self._bound: list[Object] = []
        self._waiting: list[Object] = []
        self.problem = self._sort(pod)  # why it can run nowhere, or ""

    def _sort(self, pod: Object) -> str:
        immediate = False
        for name, own in claims.claims_of(pod):
            claim = self._store.find(PERSISTENT_VOLUME_CLAIM, pod["metadata"]["namespace"], name)
            if claim is None:
                if own:
                    return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
                return f'persistentvolumeclaim "{name}" not found'
            if (claim.get("status") or {}).get("phase") == "Lost":
                volume = claim["spec"].get("volumeName", "")
                return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
            if "deletionTimestamp" in claim["metadata"]:
                return f'persistentvolumeclaim "{name}" is being deleted'
            if own and (why := claims.not_its_own(pod, claim)):
                return why
            if claims.is_bound(claim):
                self._bound.append(claim)
            elif claims.waits_for_consumer(self._store, claim) and not claim["spec"].get("volumeName"):
                self._waiting.append(claim)
            else:
                immediate = True
        return "pod has unbound immediate PersistentVolumeClaims" if immediate else ""

    @property
    def any(self) -> bool:
        return bool(self._bound or self._waiting or self.problem)

    def against(self, info: NodeInfo) -> str | None:
        """Why the pod's volumes rule a node out, or None."""
        for claim in self._bound:
            volume = self._store.find(PERSISTENT_VOLUME, "", claim["spec"]["volumeName"])
            if volume is None:
                return GONE
            if not fits_node(volume, info.node):
                return NODE_CONFLICT
        taken: set[str] = set()
        for claim in self._waiting:
            found = self._free(claim, info.node, taken)
            if found is not None:
                taken.add(found["metadata"]["name"])
            elif not self._can_be_made(claim, info.name):
                return BIND_CONFLICT
        return None

    def _free(self, claim: Object, node: Object, taken: set[str]) -> Object | None:
        """A free volume of the node for a claim; a reserved one alone while a new one is being provisioned."""
        there = [
            one
            for one in self._store.list(PERSISTENT_VOLUME)
            if one["metadata"]["name"] not in taken and fits_node(one, node)
        ]
        making = claims.SELECTED_NODE in claims.annotations_of(claim)
        return claims.best_match(there, claim, reserved_only=making)

    def _can_be_made(self, claim: Object, node: str) -> bool:
        if claims.annotations_of(claim).get(claims.SELECTED_NODE, node) != node:
            return False
        storage = self._store.find(STORAGE_CLASS, "", claims.class_name(claim))
        if storage is None or storage["provisioner"] == claims.NO_PROVISIONER:
            return False
        topologies = storage.get("allowedTopologies") or []
        found = self._store.find(NODE, "", node)
        labels: Mapping[str, str] = {} if found is None else found["metadata"].get("labels") or {}
        return not topologies or any(
            all(labels.get(one["key"]) in one["values"] for one in term.get("matchLabelExpressions") or [])
            for term in topologies
        )

    def reserve(self, node: Object) -> bool:
        """Reserve or request what the pod lacks there; whether all of its claims are bound."""
        for claim in self._waiting:
            found = self._free(claim, node, set())
            meta = claim["metadata"]
            if found is not None:
                reference = claims.reference_to(claim)

                def take(new: dict[str, Any], reference: dict[str, Any] = reference) -> None:
                    if "claimRef" not in new["spec"]:
                        new["metadata"].setdefault("annotations", {})[claims.BOUND_BY_CONTROLLER] = "yes"
                        new["spec"]["claimRef"] = reference

                self._store.mutate(PERSISTENT_VOLUME, "", found["metadata"]["name"], take)
            elif claims.SELECTED_NODE not in claims.annotations_of(claim):
                mark = {claims.SELECTED_NODE: node["metadata"]["name"]}

                def ask(new: dict[str, Any], mark: dict[str, str] = mark) -> None:
                    new["metadata"].setdefault("annotations", {}).update(mark)

                self._store.mutate(PERSISTENT_VOLUME_CLAIM, meta["namespace"], meta["name"], ask, uid=meta["uid"])
        return not self._waiting
