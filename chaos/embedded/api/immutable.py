"""Immutable fields: pods beyond a few fields, selectors, Job templates, Service addresses, role references.

Pure; called by admission with the stored and the new object, both with their defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api.custom import definitions
from chaos.embedded.api.errors import Cause, not_allowed, wrong
from chaos.embedded.api.validation import storage
from chaos.embedded.resources import Object
from chaos.embedded.store import copy

_POD_RULE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_FIXED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "Deployment": (("spec", "selector"),),
    "ReplicaSet": (("spec", "selector"),),
    "DaemonSet": (("spec", "selector"),),
    "EndpointSlice": (("addressType",),),
    "Secret": (("type",),),
    "PriorityClass": (("preemptionPolicy",),),
    "ControllerRevision": (("data",),),
    "StorageClass": (("parameters",), ("provisioner",), ("reclaimPolicy",), ("volumeBindingMode",)),
}
_SET_RULE: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_SET_FREE: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        obj = (obj or {}).get(part)
    return obj


def event_changes(old: Object, new: Object) -> Iterator[Cause]:
    """Changes of an Event in its own group, where only its series and labels change."""
    for name in _OF_EVENTS:
        if old.get(name) != new.get(name):
            yield wrong(name, new.get(name), "field is immutable")


_OF_EVENTS: Final = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type", "eventTime",
    "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip


def immutable_changes(kind: str, old: Object, new: Object) -> Iterator[Cause]:
    """Changes of immutable fields."""
    for path in _FIXED.get(kind, ()):
        if _at(old, path) != _at(new, path):
            yield wrong(".".join(path), _at(new, path), "field is immutable")
    if kind == "CustomResourceDefinition":
        yield from definitions.changes(old, new)
    elif kind == "Pod":
        yield from _pod(old, new)
    elif kind == "PersistentVolumeClaim":
        yield from storage.claim_changes(old, new)
    elif kind == "PersistentVolume":
        yield from storage.volume_changes(old, new)
    elif kind == "StatefulSet":
        left, right = ({k: v for k, v in obj["spec"].items() if k not in _SET_FREE} for obj in (old, new))
        if left != right:
            yield not_allowed("spec", _SET_RULE)
    elif kind == "Job":
        yield from _job(old, new)
    elif kind == "Service":
        yield from _service(old["spec"], new["spec"])
    elif kind in ("RoleBinding", "ClusterRoleBinding") and old.get("roleRef") != new.get("roleRef"):
        reference = new.get("roleRef") or {}
        shown = {name[0].upper() + name[1:]: reference.get(name, "") for name in ("kind", "name")}
        yield wrong("roleRef", {"APIGroup": reference.get("apiGroup", ""), **shown}, "cannot change roleRef")
    elif kind == "PriorityClass" and old.get("value", 0) != new.get("value", 0):
        yield not_allowed("value", "may not be changed in an update.")
    elif kind == "ResourceQuota":
        held, given = ((obj.get("spec") or {}).get("scopes") for obj in (old, new))
        if set(held or []) != set(given or []):
            yield wrong("spec.scopes", given, "field is immutable")
    elif kind in ("ConfigMap", "Secret") and old.get("immutable"):
        if not new.get("immutable"):
            yield not_allowed("immutable", "field is immutable when `immutable` is set")
        for name in ("data", "binaryData"):
            if old.get(name) != new.get(name):
                yield not_allowed(name, "field is immutable when `immutable` is set")


def _service(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Cause]:
    held, given = before.get("clusterIPs") or [], after.get("clusterIPs") or []
    if "ExternalName" in (before["type"], after["type"]) or held == given:
        return
    if not given:
        yield wrong("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")
    for index, (one, other) in enumerate(zip(held, given, strict=False)):
        if one != other:
            yield wrong(f"spec.clusterIPs[{index}]", given, "may not change once set")


def _pod(old: Object, new: Object) -> Iterator[Cause]:
    before, after = copy(old["spec"]), copy(new["spec"])
    for kind in ("containers", "initContainers"):
        if len(before.get(kind) or []) != len(after.get(kind) or []):
            yield not_allowed(f"spec.{kind}", "pod updates may not add or remove containers")
            return
    held, given = before.pop("activeDeadlineSeconds", None), after.pop("activeDeadlineSeconds", None)
    if given is not None and held is not None and given > held:
        yield wrong("spec.activeDeadlineSeconds", given, "must be less than or equal to previous value")
        return
    if given is None and held is not None:
        yield wrong("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    tolerated = [_bare(one) for one in after.pop("tolerations", [])]
    if any(_bare(one) not in tolerated for one in before.pop("tolerations", [])):
        yield not_allowed("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    gates = {one.get("name") for one in before.pop("schedulingGates", [])}
    for index, gate in enumerate(after.pop("schedulingGates", [])):
        if gate.get("name") not in gates:
            words = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            yield not_allowed(f"spec.schedulingGates[{index}].name", words)
    for spec in (before, after):
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind, []):
                container.pop("image", None)
    if before.get("terminationGracePeriodSeconds", 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        before["terminationGracePeriodSeconds"] = 1
    if gates:  # a gated pod may be told more narrowly where to run
        for spec in (before, after):
            spec.pop("nodeSelector", None)
            (spec.get("affinity") or {}).pop("nodeAffinity", None)
            if not spec.get("affinity"):
                spec.pop("affinity", None)
        wider = [key for key, value in (old["spec"].get("nodeSelector") or {}).items()
                 if (new["spec"].get("nodeSelector") or {}).get(key) != value]  # fmt: skip
        if wider:
            selector = new["spec"].get("nodeSelector") or {}
            yield wrong(
                "spec.nodeSelector",
                selector,
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            )
    if before != after:
        yield not_allowed("spec", _POD_RULE)


def _bare(toleration: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


_JOB_FIXED: Final = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")


def _job(old: Object, new: Object) -> Iterator[Cause]:
    before, after = copy(old["spec"]), copy(new["spec"])
    count = after.get("completions")
    if before.get("completions") != count:
        if after.get("completionMode") != "Indexed":
            yield wrong("spec.completions", count, "field is immutable")
        elif count is not None and count != after.get("parallelism"):
            yield wrong("spec.completions", count, "can only be modified in tandem with spec.parallelism")
    if before.get("selector") != after.get("selector"):
        yield wrong("spec.selector", after.get("selector"), "field is immutable")
    left, right = before["template"], after["template"]
    if before.get("suspend") and "startTime" not in old.get("status", {}):  # a suspended Job's scheduling may change
        for template in (left, right):
            for name in ("nodeSelector", "tolerations", "schedulingGates"):
                template["spec"].pop(name, None)
            (template["spec"].get("affinity") or {}).pop("nodeAffinity", None)
            if not template["spec"].get("affinity"):
                template["spec"].pop("affinity", None)
            for name in ("labels", "annotations"):
                template.get("metadata", {}).pop(name, None)
            for kind in ("containers", "initContainers"):
                for container in template["spec"].get(kind, []):
                    container.pop("resources", None)
    if left != right:
        yield wrong("spec.template", new["spec"]["template"], "field is immutable")
    for name in _JOB_FIXED:
        if before.get(name) != after.get(name):
            yield wrong(f"spec.{name}", after.get(name), "field is immutable")


def ephemeral_changes(old: Object, new: Object) -> Iterator[Cause]:
    """Invalid changes by `pods/ephemeralcontainers`: existing ones are immutable."""
    held = {one.get("name"): one for one in new["spec"].get("ephemeralContainers") or []}
    for one in old["spec"].get("ephemeralContainers") or []:
        fate = "removed" if one["name"] not in held else "changed" if held[one["name"]] != one else ""
        if fate:
            words = f'existing ephemeral containers "{one["name"]}" may not be {fate}\n'
            yield not_allowed("spec.ephemeralContainers", words)


def resize_changes(old: Object, new: Object) -> Iterator[Cause]:
    """Invalid changes by `pods/resize`: only containers' CPU and memory may change, and none may be removed."""
    stop = False
    for kind in ("containers", "initContainers"):
        before, after = old["spec"].get(kind) or [], new["spec"].get(kind) or []
        if len(before) != len(after):
            yield not_allowed(f"spec.{kind}", f"{kind} may not be added or removed on resize")
            stop = True
            continue
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            if one["name"] != other["name"]:
                words = f"{kind} may not be renamed or reordered on resize"
                yield not_allowed(f"spec.{kind}[{index}].name", words)
                stop = True
    if stop:
        return
    for kind in ("initContainers", "containers"):
        for index, (one, other) in enumerate(
            zip(old["spec"].get(kind) or [], new["spec"].get(kind) or [], strict=True)
        ):
            for part in ("requests", "limits"):
                held, given = ((c.get("resources") or {}).get(part) or {} for c in (one, other))
                if held.keys() - given.keys():
                    yield not_allowed(f"spec.{kind}[{index}].resources.{part}", f"resource {part} cannot be removed")
            if _beyond_compute(one) != _beyond_compute(other):
                yield (
                    not_allowed("spec", "only cpu and memory resources are mutable")
                    if kind == "containers"
                    else not_allowed(
                        f"spec.initContainers[{index}]",
                        "only cpu and memory resources for init or sidecar containers are mutable",
                    )
                )


def _beyond_compute(container: Mapping[str, Any]) -> dict[str, Any]:
    """The container without the amounts that a resize may change."""
    resources = container.get("resources") or {}
    kept = {
        part: {name: value for name, value in (resources.get(part) or {}).items() if name not in ("cpu", "memory")}
        for part in ("limits", "requests")
    }
    return {**container, "resources": {part: amounts for part, amounts in kept.items() if amounts}}
