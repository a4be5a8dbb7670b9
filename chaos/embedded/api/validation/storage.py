"""Validation of PersistentVolumes and StorageClasses, and of changes of claims and volumes.

Rules and words are those of k8s.io/kubernetes/pkg/apis/core/validation and .../storage/validation.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api.errors import Cause, duplicate, not_allowed, required, too_long, unsupported, wrong
from chaos.embedded.api.validation import claims, mounts, placement
from chaos.embedded.api.validation.names import Causes, each, qualified, validate_label_name
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

_BINDING: Final = ("Immediate", "WaitForFirstConsumer")
_PARAMETERS, _PARAMETER_BYTES = 512, 256 * 1024
_NO_SOURCE: Final = (
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
    "storageClassName", "volumeAttributesClassName", "volumeMode",
)  # fmt: skip
# of a volume's spec: what is not the kind of its storage
_CLAIM_RULE: Final = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
)


def volume(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    if not spec.get("accessModes"):
        yield required("spec.accessModes")
    yield from claims.access_modes(spec.get("accessModes") or [], "spec.accessModes")
    capacity = spec.get("capacity") or {}
    if not capacity:
        yield required("spec.capacity")
    if capacity.keys() != {"storage"}:
        yield unsupported("spec.capacity", spec.get("capacity") and dict(sorted(capacity.items())), ("storage",))
    for name, amount in sorted(capacity.items()):
        if (number := parse_quantity(amount)) < 0:
            yield wrong(f"spec.capacity[{name}]", int(number), "must be a valid resource quantity")
        if number <= 0:
            yield wrong(f"spec.capacity[{name}]", str(amount), "must be greater than zero")
    policy = spec.get("persistentVolumeReclaimPolicy", "Retain")
    if policy not in ("Delete", "Recycle", "Retain"):
        yield unsupported("spec.persistentVolumeReclaimPolicy", policy, ("Delete", "Recycle", "Retain"))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if (needed := affinity.get("required")) is None:
            yield required("spec.nodeAffinity.required", "must specify required node constraints")
        else:
            yield from placement.node_selector(needed, "spec.nodeAffinity.required")
    yield from _source(spec)
    if policy == "Recycle" and posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") == "/":
        yield not_allowed("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")
    yield from claims.class_name(spec.get("storageClassName"), "spec.storageClassName")
    yield from claims.volume_mode(spec, "spec")
    if (attributes := spec.get("volumeAttributesClassName")) is not None:
        if not attributes:
            yield required("spec.volumeAttributesClassName", "an empty string is disallowed")
        yield from claims.class_name(attributes, "spec.volumeAttributesClassName")
        if "csi" not in spec:
            yield required("spec.csi", "has to be specified when using volumeAttributesClassName")


def _source(spec: Mapping[str, Any]) -> Causes:
    kinds = [kind for kind in spec if kind not in _NO_SOURCE]
    if not kinds:
        yield required("spec", "must specify a volume type")
    for kind in kinds[1:]:
        yield not_allowed(f"spec.{kind}", "may not specify more than 1 volume type")
    for kind in kinds[:1]:
        if kind == "local":
            yield from _local(spec)
        else:
            yield from mounts.volume_source({kind: spec[kind]}, "spec", of_pod=False)


def _local(spec: Mapping[str, Any]) -> Causes:
    path = spec["local"].get("path") or ""
    if not path:
        yield required("spec.local.path")
    else:
        yield from mounts.no_backsteps(path, "spec.local.path")
    if spec.get("nodeAffinity") is None:
        yield required("spec.nodeAffinity", "Local volume requires node affinity")


def storage_class(obj: Object) -> Causes:
    provisioner = obj.get("provisioner") or ""
    if not provisioner:
        yield required("provisioner")
    else:
        lower = provisioner.lower()  # which is what is checked, and shown
        yield from each("provisioner", lower, qualified(lower))
    parameters = obj.get("parameters") or {}
    if len(parameters) > _PARAMETERS:
        yield too_long("parameters", _PARAMETERS)
    elif sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > _PARAMETER_BYTES:
        yield too_long("parameters", _PARAMETER_BYTES)
    if "" in parameters:
        yield wrong("parameters", "", "field can not be empty.")
    if obj.get("reclaimPolicy", "Delete") not in ("Delete", "Retain"):
        yield unsupported("reclaimPolicy", obj["reclaimPolicy"], ("Delete", "Retain"))
    if obj.get("volumeBindingMode", "Immediate") not in _BINDING:
        yield unsupported("volumeBindingMode", obj["volumeBindingMode"], _BINDING)
    yield from _topologies(obj.get("allowedTopologies") or [])


def _topologies(terms: Sequence[Mapping[str, Any]]) -> Iterator[Cause]:
    seen: list[Any] = [[] for _ in terms]  # Kubernetes compares with as many empty terms as there are
    for index, term in enumerate(terms):
        where, rules = f"allowedTopologies[{index}].matchLabelExpressions", term.get("matchLabelExpressions") or []
        keys: list[str] = []
        for number, rule in enumerate(rules):
            at, key, values = f"{where}[{number}]", rule.get("key", ""), rule.get("values") or []
            if not values:
                yield required(f"{at}.values")
            for place, value in enumerate(values):
                if value in values[:place]:
                    yield duplicate(f"{at}.values[{place}]", value)
            yield from validate_label_name(key, f"{at}.key")
            if key in keys:
                yield duplicate(f"{at}.key", key)
            keys.append(key)
        shape = sorted((rule.get("key", ""), tuple(sorted(rule.get("values") or []))) for rule in rules)
        for _ in range(seen.count(shape)):
            yield duplicate(where, "")
        seen.append(shape)


# ---- updates


def claim_changes(old: Object, new: Object) -> Iterator[Cause]:
    """Validate a claim's update: the volume's name may be set once, and a bound claim may request more."""
    before, after = dict(old["spec"]), dict(new["spec"])
    if not before.get("volumeName"):
        before.pop("volumeName", None)
        after.pop("volumeName", None)
    sizes = [parse_quantity(((spec.get("resources") or {}).get("requests") or {}).get("storage", "0"))
             for spec in (before, after)]  # fmt: skip
    if (new.get("status") or {}).get("phase") == "Bound":
        for spec in (before, after):
            spec["resources"] = {**spec.get("resources", {}), "requests": {}}
            spec.pop("volumeAttributesClassName", None)
    if before != after:
        yield not_allowed("spec", _CLAIM_RULE)
    has = parse_quantity(((old.get("status") or {}).get("capacity") or {}).get("storage", "0"))
    if sizes[1] < sizes[0] and sizes[1] <= has:
        yield not_allowed("spec.resources.requests.storage", "field can not be less than status.capacity")


def volume_changes(old: Object, new: Object) -> Iterator[Cause]:
    before, after = old["spec"], new["spec"]
    held, given = ({key: value for key, value in spec.items() if key not in _NO_SOURCE} for spec in (before, after))
    if held != given:
        words = "spec.persistentvolumesource is immutable after creation\n"
        yield not_allowed("spec.persistentvolumesource", words)
    if before.get("volumeMode") != after.get("volumeMode"):
        yield wrong("volumeMode", after.get("volumeMode"), "field is immutable")
    if before.get("nodeAffinity") is not None and before["nodeAffinity"] != after.get("nodeAffinity"):
        words = "field is immutable, except for updating from beta label to GA"
        yield wrong("nodeAffinity", after.get("nodeAffinity"), words)
