"""PersistentVolumeClaims and PersistentVolumes: bound, provisioned and reclaimed, as by Kubernetes' persistentvolume
controller, its protection controllers and the provisioner of the class `standard`.

A volume's directory belongs to its node, which makes it when a pod first needs it, and removes it (and then the volume)
once the volume is released.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.embedded import claims
from chaos.embedded.api.errors import StatusError
from chaos.embedded.clock import Clock, stamp
from chaos.embedded.controllers.base import (
    Controller,
    Keys,
    Source,
    is_ready,
    is_terminating,
    itself,
    key_of,
    owner_reference,
)
from chaos.embedded.events import EventRecorder
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, STORAGE_CLASS, Object
from chaos.embedded.store import Key, Store, WatchEvent

RESYNC: Final = 15.0  # seconds between looks at what is not bound (the controller's --pvclaimbinder-sync-period)


def users_of(store: Store, claim: Object) -> list[Object]:
    """The pods that use the claim."""
    meta = claim["metadata"]
    return [
        pod
        for pod in store.list(POD, meta["namespace"])
        if any(
            name == meta["name"] and not (own and claims.not_its_own(pod, claim)) for name, own in claims.claims_of(pod)
        )
    ]


def _claims_of(event: WatchEvent) -> Keys:
    """Map a pod's change to its claims."""
    pod = event.object
    return [(pod["metadata"]["namespace"], name) for name, _ in claims.claims_of(pod)]


class VolumeController(Controller):
    """Binds claims and volumes. A key without a namespace is a volume's."""

    name = "persistentvolume-controller"
    account = "persistent-volume-binder"

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._provisioner = EventRecorder(store, claims.PROVISIONER, clock=clock)

    def sources(self) -> Sequence[Source]:
        return [
            (PERSISTENT_VOLUME_CLAIM, self._claim),
            (PERSISTENT_VOLUME, self._volume),
            (STORAGE_CLASS, self._of_class),
        ]

    def _claim(self, event: WatchEvent) -> Keys:
        keys = [key_of(event.object)]
        if (named := event.object["spec"].get("volumeName")) is not None:
            keys.append(("", named))
        return keys

    def _volume(self, event: WatchEvent) -> Keys:
        keys = [key_of(event.object)]
        reference = event.object["spec"].get("claimRef")
        if reference is not None:
            keys.append((reference.get("namespace", ""), reference.get("name", "")))
        elif event.type != "DELETED":
            keys += [key_of(one) for one in self.store.list(PERSISTENT_VOLUME_CLAIM) if not claims.is_bound(one)]
        return keys

    def _of_class(self, event: WatchEvent) -> Keys:
        return [key_of(one) for one in self.store.list(PERSISTENT_VOLUME_CLAIM) if not claims.is_bound(one)]

    def reconcile(self, key: Key) -> float | None:
        if not key[0]:
            volume = self.store.find(PERSISTENT_VOLUME, *key)
            if volume is not None:
                self._reconcile_volume(volume)
            return None
        claim = self.store.find(PERSISTENT_VOLUME_CLAIM, *key)
        if claim is None:
            return None
        if claims.is_bound(claim) or claims.BIND_COMPLETED in claims.annotations_of(claim):
            self._keep(claim)
            return None
        return self._find(claim)

    # ---- claims

    def _keep(self, claim: Object) -> None:
        """Check that a bound claim still has its volume, or mark it Lost."""
        named = claim["spec"].get("volumeName")
        volume = self.store.find(PERSISTENT_VOLUME, "", named) if named else None
        if not named:
            words = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            self._lose(claim, "ClaimLost", words)
        elif volume is None:
            self._lose(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        elif (reference := volume["spec"].get("claimRef")) is None or reference.get("uid") == claim["metadata"]["uid"]:
            self._bind(volume, claim)
        else:
            words = "Two claims are bound to the same volume, this one is bound incorrectly"
            self._lose(claim, "ClaimMisbound", words)

    def _lose(self, claim: Object, reason: str, words: str) -> None:
        if (claim.get("status") or {}).get("phase") != "Lost":
            self.set_status(PERSISTENT_VOLUME_CLAIM, claim, {"phase": "Lost"})
            self.recorder.event(claim, "Warning", reason, words)

    def _find(self, claim: Object) -> float | None:
        """Bind an unbound claim, or have a volume provisioned."""
        named = claim["spec"].get("volumeName")
        if named:
            return self._take(claim, named)
        waits = claims.waits_for_consumer(self.store, claim)
        volume = claims.best_match(self.store.list(PERSISTENT_VOLUME), claim, reserved_only=waits)
        if volume is not None:
            self._bind(volume, claim)
            return None
        if not claims.has_class(claim) and (default := claims.default_class(self.store)) is not None:
            name = default["metadata"]["name"]
            self._patch(PERSISTENT_VOLUME_CLAIM, claim, lambda new: new["spec"].update(storageClassName=name))
            return None
        if waits and claims.SELECTED_NODE not in claims.annotations_of(claim):
            return self._await(claim)
        if claims.class_name(claim):
            return None if is_terminating(claim) else self._provide(claim)
        words = "no persistent volumes available for this claim and no storage class is set"
        self.recorder.event(claim, "Normal", "FailedBinding", words)
        return RESYNC

    def _take(self, claim: Object, named: str) -> float | None:
        """Bind the volume that the claim names."""
        volume = self.store.find(PERSISTENT_VOLUME, "", named)
        if volume is None:
            return RESYNC
        if claims.is_for(volume, claim):
            self._bind(volume, claim)
            return None
        if "claimRef" in volume["spec"]:
            words = f'volume "{named}" already bound to a different claim.'
            self.recorder.event(claim, "Warning", "FailedBinding", words)
            return RESYNC
        if why := claims.mismatch(volume, claim):
            words = f'Cannot bind to requested volume "{named}": {why}'
            self.recorder.event(claim, "Warning", "VolumeMismatch", words)
            return RESYNC
        self._bind(volume, claim)
        return None

    def _await(self, claim: Object) -> float:
        """Record that a claim waits for its first consumer."""
        waiting = [pod["metadata"]["name"] for pod in users_of(self.store, claim) if not pod["spec"].get("nodeName")]
        if waiting:
            pods = "pod" if len(waiting) == 1 else "pods"
            words = f"waiting for {pods} {','.join(waiting)} to be scheduled"
            self.recorder.event(claim, "Normal", "WaitForPodScheduled", words)
        else:
            words = "waiting for first consumer to be created before binding"
            self.recorder.event(claim, "Normal", "WaitForFirstConsumer", words)
        return RESYNC

    # ---- making volumes

    def _provide(self, claim: Object) -> float | None:
        name = claims.class_name(claim)
        storage = self.store.find(STORAGE_CLASS, "", name)
        if storage is None:
            words = f'storageclass.storage.k8s.io "{name}" not found'
            self.recorder.event(claim, "Warning", "ProvisioningFailed", words)
            return RESYNC
        provisioner = str(storage["provisioner"])
        if any(claims.annotations_of(claim).get(one) != provisioner for one in claims.PROVISIONER_OF_CLAIM):
            marks = dict.fromkeys(claims.PROVISIONER_OF_CLAIM, provisioner)
            claim = self._patch(
                PERSISTENT_VOLUME_CLAIM, claim, lambda new: new["metadata"].setdefault("annotations", {}).update(marks)
            )
        words = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self.recorder.event(claim, "Normal", "ExternalProvisioning", words)
        return RESYNC if provisioner != claims.PROVISIONER else self._provision(claim, storage)

    def _provision(self, claim: Object, storage: Object) -> float | None:
        meta, spec = claim["metadata"], claim["spec"]
        words = f'External provisioner is provisioning volume for claim "{meta["namespace"]}/{meta["name"]}"'
        self._provisioner.event(claim, "Normal", "Provisioning", words)
        node = claims.annotations_of(claim).get(claims.SELECTED_NODE) or self._any_node()
        why = ""
        if spec.get("selector"):
            why = "claim.Spec.Selector is not supported"
        elif spec.get("volumeMode") == "Block":
            why = "block volumes are not supported: use volumeMode Filesystem"
        elif spec.get("dataSource") or spec.get("dataSourceRef"):
            why = "dataSource is not supported: volumes are created empty"
        elif not node:
            why = "no node is ready"
        if why:
            words = f'failed to provision volume with StorageClass "{storage["metadata"]["name"]}": {why}'
            self._provisioner.event(claim, "Warning", "ProvisioningFailed", words)
            return RESYNC
        planned = claims.plan_volume(claim, storage, node)
        if storage.get("mountOptions"):
            planned["spec"]["mountOptions"] = storage["mountOptions"]
        self.create(PERSISTENT_VOLUME, planned)
        words = f"Successfully provisioned volume {planned['metadata']['name']}"
        self._provisioner.event(claim, "Normal", "ProvisioningSucceeded", words)
        return None

    def _any_node(self) -> str:
        """The ready node with the fewest volumes, for a class that binds at once."""
        ready = [node["metadata"]["name"] for node in self.store.list(NODE) if is_ready(node)]
        held = [claims.annotations_of(one).get(claims.SELECTED_NODE) for one in self.store.list(PERSISTENT_VOLUME)]
        return str(min(ready, key=lambda name: (held.count(name), name), default=""))

    # ---- binding

    def _bind(self, volume: Object, claim: Object) -> None:
        """Make claim and volume refer to each other, both Bound."""

        def of_volume(new: dict[str, Any]) -> None:
            if "claimRef" not in new["spec"]:
                new["metadata"].setdefault("annotations", {})[claims.BOUND_BY_CONTROLLER] = "yes"
            if (new["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
                new["spec"]["claimRef"] = claims.reference_to(claim)
            self._turn(new, "Bound")

        volume = self._patch(PERSISTENT_VOLUME, volume, of_volume)
        grown = parse_quantity(claims.asked(claim)) > parse_quantity(volume["spec"]["capacity"]["storage"])
        if grown and claims.directory_of(volume):  # amounts are not enforced, so that a volume grows by its number
            amount = {"storage": claims.asked(claim)}
            volume = self._patch(PERSISTENT_VOLUME, volume, lambda new: new["spec"].update(capacity=amount))

        def of_claim(new: dict[str, Any]) -> None:
            annotations = new["metadata"].setdefault("annotations", {})
            if not new["spec"].get("volumeName"):
                new["spec"]["volumeName"] = volume["metadata"]["name"]
                annotations[claims.BOUND_BY_CONTROLLER] = "yes"
            annotations[claims.BIND_COMPLETED] = "yes"
            status = new.setdefault("status", {})
            status["phase"] = "Bound"
            status["accessModes"] = volume["spec"]["accessModes"]
            status["capacity"] = volume["spec"]["capacity"]

        self._patch(PERSISTENT_VOLUME_CLAIM, claim, of_claim)

    def _turn(self, volume: dict[str, Any], phase: str, message: str = "") -> None:
        status = volume.setdefault("status", {})
        if status.get("phase") != phase:
            status["phase"] = phase
            status["lastPhaseTransitionTime"] = stamp(self.clock.now())
        if message:
            status["message"] = message
        else:
            status.pop("message", None)

    # ---- volumes

    def _reconcile_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            self._patch(PERSISTENT_VOLUME, volume, lambda new: self._turn(new, "Available"))
            return
        claim = self.store.find(PERSISTENT_VOLUME_CLAIM, reference.get("namespace", ""), reference.get("name", ""))
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            self._release(volume)
        elif claim["spec"].get("volumeName") == volume["metadata"]["name"]:
            self._patch(PERSISTENT_VOLUME, volume, lambda new: self._turn(new, "Bound"))
        elif claim["spec"].get("volumeName"):  # it has another
            if claims.PROVISIONED_BY in claims.annotations_of(volume):
                self._release(volume)
            else:
                self._patch(PERSISTENT_VOLUME, volume, _unbind)

    def _release(self, volume: Object) -> None:
        """Release a volume whose claim is gone: retain it, or leave it to its provisioner."""
        policy = volume["spec"].get("persistentVolumeReclaimPolicy", "Retain")
        if (volume.get("status") or {}).get("phase") == "Failed":
            return
        volume = self._patch(PERSISTENT_VOLUME, volume, lambda new: self._turn(new, "Released"))
        if policy == "Retain" or claims.PROVISIONED_BY in claims.annotations_of(volume):
            return
        name = volume["metadata"]["name"]
        if policy == "Recycle":
            reason, words = "VolumeFailedRecycle", "No recycler plugin found for the volume!"
        else:
            words = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
            reason = "VolumeFailedDelete"
        self._patch(PERSISTENT_VOLUME, volume, lambda new: self._turn(new, "Failed", words))
        self.recorder.event(volume, "Warning", reason, words)


def _unbind(volume: dict[str, Any]) -> None:
    annotations = volume["metadata"].get("annotations", {})
    if annotations.pop(claims.BOUND_BY_CONTROLLER, None) is not None:
        volume["spec"].pop("claimRef", None)
    else:
        volume["spec"]["claimRef"].pop("uid", None)
        volume["spec"]["claimRef"].pop("resourceVersion", None)


class ClaimProtection(Controller):
    """Keeps a claim that is being deleted while a pod on a node uses it."""

    name = "pvc-protection-controller"

    def sources(self) -> Sequence[Source]:
        return [(PERSISTENT_VOLUME_CLAIM, itself), (POD, _claims_of)]

    def reconcile(self, key: Key) -> float | None:
        claim = self.store.find(PERSISTENT_VOLUME_CLAIM, *key)
        if claim is None:
            return None
        used = any(pod["spec"].get("nodeName") for pod in users_of(self.store, claim))
        _protect(self, PERSISTENT_VOLUME_CLAIM, claim, claims.CLAIM_PROTECTION, used=used)
        return None


class VolumeProtection(Controller):
    """Keeps a volume that is being deleted while it is bound."""

    name = "pv-protection-controller"

    def sources(self) -> Sequence[Source]:
        return [(PERSISTENT_VOLUME, itself)]

    def reconcile(self, key: Key) -> float | None:
        volume = self.store.find(PERSISTENT_VOLUME, *key)
        if volume is not None:
            used = (volume.get("status") or {}).get("phase") == "Bound"
            _protect(self, PERSISTENT_VOLUME, volume, claims.VOLUME_PROTECTION, used=used)
        return None


def _protect(controller: Controller, resource: Any, obj: Object, finalizer: str, *, used: bool) -> None:
    """Remove the finalizer from an unused object that is being deleted; add it to others that lack it."""
    held = list(obj["metadata"].get("finalizers") or [])
    if is_terminating(obj):
        wanted = held if used else [one for one in held if one != finalizer]
    else:
        wanted = held if finalizer in held else [*held, finalizer]
    if wanted != held:
        meta = obj["metadata"]
        controller.store.mutate(
            resource,
            meta.get("namespace", ""),
            meta["name"],
            lambda new: new["metadata"].update(finalizers=wanted),
            uid=meta["uid"],
        )


class EphemeralClaims(Controller):
    """Makes the claims of pods' ephemeral volumes; their pods own them."""

    name = "ephemeral_volume"
    account = "ephemeral-volume-controller"

    def sources(self) -> Sequence[Source]:
        return [(POD, self._pod), (PERSISTENT_VOLUME_CLAIM, self._owner)]

    def _pod(self, event: WatchEvent) -> Keys:
        has = any("ephemeral" in volume for volume in event.object["spec"].get("volumes") or [])
        return [key_of(event.object)] if has and event.type != "DELETED" else []

    def _owner(self, event: WatchEvent) -> Iterator[Key]:
        if event.type == "DELETED":
            for one in event.object["metadata"].get("ownerReferences") or []:
                if one["kind"] == "Pod":
                    yield event.object["metadata"]["namespace"], one["name"]

    def reconcile(self, key: Key) -> float | None:
        pod = self.store.find(POD, *key)
        if pod is None or is_terminating(pod):
            return None
        for volume in pod["spec"].get("volumes") or []:
            if "ephemeral" in volume:
                self._provide(pod, volume)
        return None

    def _provide(self, pod: Object, volume: Mapping[str, Any]) -> None:
        namespace, name = pod["metadata"]["namespace"], claims.ephemeral_name(pod, volume)
        held = self.store.find(PERSISTENT_VOLUME_CLAIM, namespace, name)
        template = volume["ephemeral"]["volumeClaimTemplate"]
        try:
            if held is None:
                meta = template.get("metadata") or {}
                marks = {part: meta[part] for part in ("labels", "annotations") if meta.get(part)}
                owner = owner_reference(POD, pod)
                self.create(
                    PERSISTENT_VOLUME_CLAIM,
                    {
                        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [owner], **marks},
                        "spec": template["spec"],
                    },
                )
            elif why := claims.not_its_own(pod, held):
                self.recorder.event(pod, "Warning", "FailedBinding", f"ephemeral volume {volume['name']}: {why}")
        except StatusError as error:
            words = f"ephemeral volume {volume['name']}: create PVC {name}: {error}"
            self.recorder.event(pod, "Warning", "FailedBinding", words)
            raise
