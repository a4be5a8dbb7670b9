"""PersistentVolumeClaims, PersistentVolumes and the matching of the two, for the API server, controllers, scheduler and
kubelets. Pure, but for look-ups in the given store.

A claim of a class whose provisioner is PROVISIONER is met by a directory of one node (`claims/NAME` of its kubelet),
which lives as long as the volume does and is visible to pods of that node alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS, Object
from chaos.embedded.store import Store

PROVISIONER: Final = "sharedfate.io/directory"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
DIRECTORIES: Final = "/var/lib/kubelet/claims"  # of a node, where volumes of PROVISIONER lie
IS_DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
PROVISIONER_OF_CLAIM: Final = (
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
)
CLAIM_PROTECTION: Final = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION: Final = "kubernetes.io/pv-protection"
PROVISIONER_FINALIZER: Final = "external-provisioner.volume.kubernetes.io/finalizer"
_BETA_CLASS: Final = "volume.beta.kubernetes.io/storage-class"


def annotations_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def has_class(claim: Object) -> bool:
    """Whether the claim sets a storage class, including the empty one."""
    return _BETA_CLASS in annotations_of(claim) or claim["spec"].get("storageClassName") is not None


def class_name(obj: Object) -> str:
    """The storage class of a claim or a volume, "" for none."""
    named = annotations_of(obj).get(_BETA_CLASS)
    return str(named if named is not None else obj["spec"].get("storageClassName") or "")


def default_class(store: Store) -> Object | None:
    """The default class, for claims that set none: the newest, then the first by name."""
    marked = [one for one in store.list(STORAGE_CLASS) if annotations_of(one).get(IS_DEFAULT) == "true"]
    newest = max((one["metadata"]["creationTimestamp"] for one in marked), default="")
    return next((one for one in marked if one["metadata"]["creationTimestamp"] == newest), None)


def waits_for_consumer(store: Store, claim: Object) -> bool:
    """Whether the claim's class binds only when a pod that uses it has a node."""
    held = store.find(STORAGE_CLASS, "", class_name(claim))
    return held is not None and held.get("volumeBindingMode") == "WaitForFirstConsumer"


def claims_of(pod: Object) -> Iterator[tuple[str, bool]]:
    """(name, whether it is an ephemeral volume's) of each claim that a pod's volumes use."""
    for volume in pod["spec"].get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"], False
        elif "ephemeral" in volume:
            yield ephemeral_name(pod, volume), True


def ephemeral_name(pod: Object, volume: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['name']}-{volume['name']}"


def not_its_own(pod: Object, claim: Object) -> str:
    """Why a claim of an ephemeral volume's name does not belong to the pod; "" when it does."""
    if any(one.get("controller") and one["uid"] == pod["metadata"]["uid"]
           for one in claim["metadata"].get("ownerReferences") or []):  # fmt: skip
        return ""
    where, meta = claim["metadata"], pod["metadata"]
    return (
        f"PVC {where['namespace']}/{where['name']} was not created for pod {meta['namespace']}/{meta['name']} "
        "(pod is not owner)"
    )


def asked(claim: Object) -> str:
    """The storage that a claim requests, as a quantity; "0" without one."""
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def is_bound(claim: Object) -> bool:
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def is_for(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef names this claim, with its UID or none."""
    reference = volume["spec"].get("claimRef")
    if reference is None:
        return False
    meta = claim["metadata"]
    same = (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"])
    return same and reference.get("uid", "") in ("", meta["uid"])


def mismatch(volume: Object, claim: Object) -> str:
    """Why a volume cannot satisfy a claim, "" when it can."""
    spec, wanted = volume["spec"], claim["spec"]
    if "deletionTimestamp" in volume["metadata"]:
        return f'the volume is marked for deletion "{volume["metadata"]["name"]}"'
    if parse_quantity(spec["capacity"]["storage"]) < parse_quantity(asked(claim)):
        return "requested PV is too small"
    if class_name(volume) != class_name(claim):
        return "storageClassName does not match"
    if spec.get("volumeAttributesClassName", "") != wanted.get("volumeAttributesClassName", ""):
        return "volumeAttributesClassName does not match"
    if spec.get("volumeMode", "Filesystem") != wanted.get("volumeMode", "Filesystem"):
        return "incompatible volumeMode"
    if not set(wanted.get("accessModes") or []) <= set(spec.get("accessModes") or []):
        return "incompatible accessMode"
    return ""


def best_match(volumes: Iterable[Object], claim: Object, *, reserved_only: bool) -> Object | None:
    """The volume reserved for the claim, else (unless `reserved_only`) the smallest free match."""
    from chaos.embedded.controllers.labels import matches

    free: list[Object] = []
    selector = claim["spec"].get("selector")
    for volume in volumes:
        if is_for(volume, claim):
            if not mismatch(volume, claim):
                return volume
        elif (
            not reserved_only
            and "claimRef" not in volume["spec"]
            and (volume.get("status") or {}).get("phase") == "Available"
            and not mismatch(volume, claim)
            and (not selector or matches(selector, volume["metadata"].get("labels")))
        ):
            free.append(volume)
    return min(free, key=lambda one: parse_quantity(one["spec"]["capacity"]["storage"]), default=None)


def reference_to(claim: Object) -> dict[str, Any]:
    """A volume's claimRef to its claim."""
    meta = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": PERSISTENT_VOLUME_CLAIM.kind,
        "name": meta["name"],
        "namespace": meta["namespace"],
        "resourceVersion": meta["resourceVersion"],
        "uid": meta["uid"],
    }


def plan_volume(claim: Object, storage: Object, node: str) -> dict[str, Any]:
    """The volume that PROVISIONER makes for a claim: a directory of that node, of the class `storage`."""
    name, policy = f"pvc-{claim['metadata']['uid']}", storage.get("reclaimPolicy", "Delete")
    spec: dict[str, Any] = {
        "accessModes": list(claim["spec"]["accessModes"]),
        "capacity": {"storage": asked(claim)},
        "claimRef": reference_to(claim),
        "hostPath": {"path": f"{DIRECTORIES}/{name}", "type": "DirectoryOrCreate"},
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
                ]
            }
        },
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": storage["metadata"]["name"],
        "volumeMode": "Filesystem",
    }
    finalizers = [PROVISIONER_FINALIZER] if policy == "Delete" else []
    return {
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: PROVISIONER, SELECTED_NODE: node},
            "finalizers": finalizers,
        },
        "spec": spec,
    }


def directory_of(volume: Object) -> str:
    """The name of a volume's directory below DIRECTORIES; "" for a volume that PROVISIONER did not make."""
    name = str(volume["metadata"]["name"])
    ours = annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER
    return name if ours and (volume["spec"].get("hostPath") or {}).get("path") == f"{DIRECTORIES}/{name}" else ""


def is_to_be_reclaimed(volume: Object) -> bool:
    """Whether a volume of PROVISIONER is released with policy Delete, so that it and its directory go."""
    phase = (volume.get("status") or {}).get("phase")
    over = phase in ("Released", "Failed") or ("deletionTimestamp" in volume["metadata"] and phase != "Bound")
    return bool(directory_of(volume)) and over and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
