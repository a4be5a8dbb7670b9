"""What an update may not change: pods beyond a few fields, selectors, Job templates, Service addresses, role
references.

Pure; called by admission with the stored object and the new one, both with their defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, not_allowed, wrong
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
    "Job": (("spec", "selector"), ("spec", "completionMode"), ("spec", "podFailurePolicy")),
    "RoleBinding": (("roleRef",),),
    "ClusterRoleBinding": (("roleRef",),),
    "EndpointSlice": (("addressType",),),
    "Secret": (("type",),),
    "PriorityClass": (("value",),),
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


def immutable_changes(kind: str, old: Object, new: Object) -> Iterator[Cause]:
    """What may not change and did."""
    for path in _FIXED.get(kind, ()):
        if _at(old, path) != _at(new, path):
            yield wrong(
                ".".join(path),
                _at(new, path),
                "field is immutable" if kind != "RoleBinding" else "cannot change roleRef",
            )
    if kind == "Pod":
        yield from _pod(old, new)
    elif kind == "StatefulSet":
        left, right = ({k: v for k, v in obj["spec"].items() if k not in _SET_FREE} for obj in (old, new))
        if left != right:
            yield not_allowed("spec", _SET_RULE)
    elif kind == "Job":
        yield from _job(old, new)
    elif kind == "Service":
        before, after = old["spec"], new["spec"]
        if (
            before.get("clusterIP")
            and after["type"] != "ExternalName"
            and before["clusterIP"] != after.get("clusterIP")
        ):
            yield wrong("spec.clusterIPs[0]", [after.get("clusterIP", "")], "may not change once set")
    elif kind in ("ConfigMap", "Secret") and old.get("immutable"):
        if not new.get("immutable"):
            yield not_allowed("immutable", "field is immutable when `immutable` is set")
        if any(old.get(name) != new.get(name) for name in ("data", "binaryData")):
            yield not_allowed("data", "field is immutable when `immutable` is set")


def _pod(old: Object, new: Object) -> Iterator[Cause]:
    before, after = copy(old["spec"]), copy(new["spec"])
    held, given = before.pop("tolerations", []), after.pop("tolerations", [])
    if any(one not in given for one in held):
        yield (
            not_allowed("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
            if not _only_seconds(held, given)
            else not_allowed("spec", _POD_RULE)
        )
    for spec in (before, after):
        spec.pop("activeDeadlineSeconds", None)
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind, []):
                container.pop("image", None)
    if before.get("terminationGracePeriodSeconds", 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        before["terminationGracePeriodSeconds"] = 1
    if before.get("schedulingGates") and len(after.get("schedulingGates", [])) < len(before["schedulingGates"]):
        before.pop("schedulingGates", None)
        after.pop("schedulingGates", None)
    if before != after:
        yield not_allowed("spec", _POD_RULE)


def _only_seconds(held: list[Any], given: list[Any]) -> bool:
    def bare(toleration: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    return all(bare(one) in [bare(other) for other in given] for one in held)


def _job(old: Object, new: Object) -> Iterator[Cause]:
    before, after = copy(old["spec"]), copy(new["spec"])
    if before.get("completions") != after.get("completions") and before.get("completionMode") != "Indexed":
        yield wrong("spec.completions", after.get("completions"), "field is immutable")
    left, right = before["template"], after["template"]
    if before.get("suspend") and "startTime" not in old.get("status", {}):  # a suspended Job's scheduling may change
        for template in (left, right):
            for name in ("nodeSelector", "tolerations", "affinity", "schedulingGates"):
                template["spec"].pop(name, None)
            for name in ("labels", "annotations"):
                template.get("metadata", {}).pop(name, None)
    if left != right:
        yield wrong("spec.template", "…", "field is immutable")


def resize_changes(old: Object, new: Object) -> Iterator[Cause]:
    """Of `pods/resize`: only CPU and memory of containers may change, none may go, and the QoS class stays."""
    before, after = copy(old["spec"]), copy(new["spec"])
    for spec in (before, after):
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind, []):
                container.pop("resources", None)
                container.pop("resizePolicy", None)
    if before != after:
        yield not_allowed("spec", "only cpu and memory resources are mutable")
        return
    for kind in ("containers", "initContainers"):
        for index, (one, other) in enumerate(zip(old["spec"].get(kind, []), new["spec"].get(kind, []), strict=True)):
            if one.get("resources") == other.get("resources"):
                continue
            where = f"spec.{kind}[{index}].resources"
            if kind == "initContainers" and other.get("restartPolicy") != "Always":
                yield not_allowed(where, "resources of non-sidecar init containers are immutable")
            for part in ("limits", "requests"):
                held, given = ((c.get("resources") or {}).get(part) or {} for c in (one, other))
                for name in held.keys() - given.keys():
                    yield not_allowed(f"{where}.{part}", f"resource {part} cannot be removed: {name}")
                for name in {n for n in held.keys() | given.keys() if held.get(n) != given.get(n)} - {"cpu", "memory"}:
                    yield not_allowed(f"{where}.{part}", f"only cpu and memory resources are mutable: {name}")
