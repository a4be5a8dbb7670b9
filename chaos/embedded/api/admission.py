"""Built-in admission: defaults, the service account's token, addresses, generations, validation.

`admit_create` and `admit_update` are used by the API server and by the controllers alike, so that a pod made by a
ReplicaSet equals one made by hand. They return the object to store; nothing is written here.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

from chaos.embedded import claims
from chaos.embedded.api import limits, pod_security
from chaos.embedded.api.asked import Asked, Gate
from chaos.embedded.api.custom import definitions, objects
from chaos.embedded.api.defaults import apply_defaults, fresh_status
from chaos.embedded.api.errors import bad_request, forbidden, invalid, plain_failure, wrong
from chaos.embedded.api.immutable import ephemeral_changes, event_changes, immutable_changes, resize_changes
from chaos.embedded.api.plugins import admit_pod, check_namespace, taint_new_node, tolerate_short_absence
from chaos.embedded.api.service_addresses import allocate, drop_of_other_types, keep_address
from chaos.embedded.api.validation import validate
from chaos.embedded.api.validation.names import meta_changes
from chaos.embedded.api.validation.network import pod_addresses
from chaos.embedded.api.validation.pods import validate_new_pod
from chaos.embedded.api.validation.workloads import replicas_seen
from chaos.embedded.clock import stamp
from chaos.embedded.quantity import parse_quantity, pod_requests, qos_class
from chaos.embedded.resources import (
    CLUSTER_ROLE_BINDING,
    CUSTOM_RESOURCE_DEFINITION,
    EVENTS_EVENT,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    ROLE_BINDING,
    SERVICE,
    STORAGE_CLASS,
    Object,
    Resource,
)
from chaos.embedded.store import Store, copy, random_suffix

Json = dict[str, Any]

_COUNTED: Final = (
    "Pod",
    "Deployment",
    "ReplicaSet",
    "DaemonSet",
    "StatefulSet",
    "Job",
    "CronJob",
    "EndpointSlice",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "PriorityClass",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "CustomResourceDefinition",
)  # kinds with a generation
_GATED: Final = {
    "type": "PodScheduled",
    "status": "False",
    "lastProbeTime": None,
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}
_TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"


def admit_create(store: Store, resource: Resource, obj: Object) -> Json:
    """Admit a new object with the built-in plugins alone; return the object to store. Raises StatusError."""
    new = begin_create(store, resource, obj)
    finish_create(store, resource, new)
    check_quota(store, resource, new)
    return new


async def admit_create_asking(store: Store, gate: Gate, asked: Asked) -> Json:
    """As `admit_create`, with webhooks and policies; the caller checks the quota."""
    resource = asked.resource
    new = begin_create(store, resource, asked.object or {})
    new = await gate.mutate(replace(asked, object=new), lambda one: plug_in(store, resource, one)) or {}
    check_place(resource, asked.namespace, new)
    finish_create(store, resource, new)
    await gate.validate(replace(asked, object=new))
    return new


def begin_create(store: Store, resource: Resource, obj: Object, written: Callable[[Json], None] | None = None) -> Json:
    """Apply defaults and the built-in plugins' changes, as input of the mutating webhooks; `written` is given the
    object between the two, when it is its writer's own.
    """
    new = copy(obj)
    meta = new.setdefault("metadata", {})
    _drop_of_the_server(meta)
    new["apiVersion"], new["kind"] = resource.api_version, resource.kind
    if not resource.namespaced:
        meta.pop("namespace", None)
    _default(resource, new)
    if written is not None:
        written(new)
    plug_in(store, resource, new)
    return new


def _drop_of_the_server(meta: Json) -> None:
    """Drop what only the server may set on a new object."""
    for name in (
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
        "managedFields",
    ):
        meta.pop(name, None)


def check_place(resource: Resource, namespace: str, new: Object) -> None:
    """Raise StatusError 400 for an object that a webhook moved to another namespace."""
    if resource.namespaced and (new.get("metadata") or {}).get("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


_NAMED_BY_THE_SERVER: Final = ("LimitRange",)


def finish_create(
    store: Store, resource: Resource, new: Json, *, dry: bool = False, written: Resource | None = None
) -> None:
    """Name, validate and complete a new object in place, as input of the validating webhooks."""
    meta = new["metadata"]
    _drop_of_the_server(meta)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = _generated(store, resource, meta)
    elif not meta.get("name") and resource.kind in _NAMED_BY_THE_SERVER:
        meta["name"] = str(uuid.uuid4())
    if resource.custom is not None:
        if resource.namespaced:
            check_namespace(store, resource, meta)
        objects.admit_create(resource, new)
        return
    if resource.kind in _COUNTED:
        meta["generation"] = 1
    if resource.kind == "Job":
        _admit_job(new)
    causes = validate(resource, new, written=written)
    if resource is POD:
        causes += validate_new_pod(new)
    if causes:
        raise invalid(resource, meta.get("name", ""), causes)
    if resource.namespaced:
        check_namespace(store, resource, meta)
        limits.check_limits(store, resource, new)
    _enforce_pod_security(store, resource, None, new)
    if (status := fresh_status(resource.kind)) is not None:
        new["status"] = status
    if resource.kind == "Job" and not meta.get("labels"):  # as the template's, the server's own included
        meta["labels"] = dict(new["spec"]["template"]["metadata"].get("labels") or {})
    if resource is POD:
        new["status"] = {"phase": "Pending", "qosClass": qos_class(new)}
        if new["spec"].get("schedulingGates"):
            new["status"]["conditions"] = [_GATED | {"lastTransitionTime": stamp(datetime.now(UTC))}]
    elif resource is PERSISTENT_VOLUME:
        new["status"]["lastPhaseTransitionTime"] = stamp(datetime.now(UTC))
    elif resource is SERVICE:
        allocate(store, new, None, dry=dry)
    elif resource is CUSTOM_RESOURCE_DEFINITION:
        definitions.note_stored_version(new)


def check_quota(store: Store, resource: Resource, new: Object) -> None:
    """Refuse an object that exceeds its namespace's quota: the last check before the store."""
    if resource.namespaced:
        limits.check_quota(store, resource, new)


def _enforce_pod_security(store: Store, resource: Resource, old: Object | None, new: Object) -> None:
    """Refuse a pod that violates its namespace's standard, and invalid labels of a namespace."""
    if resource is NAMESPACE:
        problems = pod_security.policy_of(new["metadata"].get("labels") or {})[1]
        before = [] if old is None else pod_security.policy_of(old["metadata"].get("labels") or {})[1]
        if problems and problems != before:
            causes = [wrong(f"metadata.labels[{label}]", value, why) for label, value, why in problems]
            raise invalid(NAMESPACE, new["metadata"]["name"], causes)
        return
    if resource is not POD or (old is not None and not pod_security.is_significant(old, new)):
        return
    found = pod_security.review(_labels_of_namespace(store, new), new["metadata"], new["spec"], enforce=True)
    if found.refused:
        raise forbidden(POD, new["metadata"]["name"], found.refused)


def _labels_of_namespace(store: Store, obj: Object) -> Mapping[str, str]:
    namespace = store.find(NAMESPACE, "", obj["metadata"].get("namespace", ""))
    return {} if namespace is None else namespace["metadata"].get("labels") or {}


def review_pod_security(
    store: Store, resource: Resource, old: Object | None, new: Object, subresource: str
) -> pod_security.Review:
    """Warnings and audit annotations of a write; admission has refused what must be refused."""
    if subresource not in ("", "resize", "ephemeralcontainers"):
        return pod_security.Review()
    if resource is NAMESPACE:
        asked = pod_security.policy_of(new["metadata"].get("labels") or {})[0].enforce
        held = pod_security.policy_of((old or {"metadata": {}})["metadata"].get("labels") or {})[0].enforce
        if (
            old is None
            or asked == held
            or not (asked.minor != held.minor or pod_security.stricter(asked.level, held.level))
        ):
            return pod_security.Review()
        name = new["metadata"]["name"]
        return pod_security.Review(
            warnings=tuple(pod_security.warnings_of_namespace(name, asked, store.list(POD, name)))
        )
    if resource is POD:
        if old is not None and not pod_security.is_significant(old, new):
            return pod_security.Review()
        template: tuple[Mapping[str, Any], Mapping[str, Any]] | None = new["metadata"], new["spec"]
    else:
        template = pod_security.template_of(new) if resource.group in ("apps", "batch") else None
    if template is None:
        return pod_security.Review()
    return pod_security.review(_labels_of_namespace(store, new), *template, enforce=False)


def _generated(store: Store, resource: Resource, meta: Mapping[str, Any]) -> str:
    base = str(meta["generateName"])[:58]
    namespace = meta.get("namespace", "") if resource.namespaced else ""
    while store.find(resource, namespace, name := base + random_suffix()) is not None:
        pass
    return name


def _default(resource: Resource, new: Json) -> None:
    """Apply defaults, before anything is checked."""
    if resource in (ROLE_BINDING, CLUSTER_ROLE_BINDING):
        kind = (new.get("roleRef") or {}).get("kind", "")
        if kind not in ("Role", "ClusterRole"):  # its rules are looked for before anything else is
            raise plain_failure(f'unsupported role reference kind: "{kind}"')
    if resource.custom is None:
        apply_defaults(resource.kind, new)
    if resource.kind == "DaemonSet":
        new["metadata"].setdefault("annotations", {})[_TEMPLATE_GENERATION] = "1"


def plug_in(store: Store, resource: Resource, new: Json) -> None:
    """Apply the built-in plugins' changes in place; idempotent, as it runs again after a webhook's change."""
    if resource is POD:
        apply_defaults("Pod", new)  # limits become requests before a LimitRange's default request is looked for
        limits.default_limits(store, new)
        admit_pod(store, new)
    elif resource is PERSISTENT_VOLUME_CLAIM:
        if not claims.has_class(new) and (chosen := claims.default_class(store)) is not None:
            new["spec"]["storageClassName"] = chosen["metadata"]["name"]
        _protect(new, claims.CLAIM_PROTECTION)
    elif resource is PERSISTENT_VOLUME:
        _protect(new, claims.VOLUME_PROTECTION)
    elif resource is NODE:
        taint_new_node(new)


def _protect(obj: Json, finalizer: str) -> None:
    """Add a protection finalizer."""
    held = obj["metadata"].setdefault("finalizers", [])
    if finalizer not in held:
        held.append(finalizer)


def _check_growth(store: Store, old: Object, new: Object) -> None:
    """Refuse a claim that requests more storage than its class permits to grow to."""
    if parse_quantity(claims.asked(new)) <= parse_quantity(claims.asked(old)):
        return
    name = old["metadata"]["name"]
    if (old.get("status") or {}).get("phase") != "Bound":
        raise forbidden(PERSISTENT_VOLUME_CLAIM, name, "Only bound persistent volume claims can be expanded")
    chosen = store.find(STORAGE_CLASS, "", claims.class_name(new))
    if chosen is None or not chosen.get("allowVolumeExpansion"):
        why = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support "
            "resize"
        )
        raise forbidden(PERSISTENT_VOLUME_CLAIM, name, why)


def _admit_job(job: Json) -> None:
    """Set a Job's UID, and the labels and selector that carry it."""
    spec, meta = job["spec"], job["metadata"]
    template = spec["template"].setdefault("metadata", {})
    if spec.get("manualSelector"):
        return
    meta["uid"] = str(uuid.uuid4())
    own = {
        "batch.kubernetes.io/controller-uid": meta["uid"],
        "batch.kubernetes.io/job-name": meta.get("name", ""),
        "controller-uid": meta["uid"],
        "job-name": meta.get("name", ""),
    }
    template["labels"] = (template.get("labels") or {}) | own
    selector = spec.setdefault("selector", {})
    selector["matchLabels"] = (selector.get("matchLabels") or {}) | {"batch.kubernetes.io/controller-uid": meta["uid"]}


# Updates


def _fits_its_node(store: Store, pod: Object) -> None:
    """Refuse a resize beyond the node's capacity; the kubelet defers one beyond what is free."""
    node = store.find(NODE, "", pod["spec"].get("nodeName", ""))
    allocatable = {} if node is None else node.get("status", {}).get("allocatable", {})
    for name, scale in (("cpu", 1000), ("memory", 1)):
        if name not in allocatable:
            continue
        asked, held = pod_requests(pod).get(name, Fraction(0)), parse_quantity(allocatable[name])
        if asked > held:
            raise forbidden(
                POD,
                pod["metadata"]["name"],
                f"node didn't have enough allocatable resources: {name}, requested: {math.ceil(asked * scale)}, "
                f"allocatable: {math.ceil(held * scale)}",
            )


def admit_update(
    store: Store,
    resource: Resource,
    old: Object,
    obj: Object,
    subresource: str = "",
    *,
    dry: bool = False,
    written: Resource | None = None,
) -> Json:
    """Admit a change of `old`; return the object to store. Raises StatusError.

    A plain update keeps the status of a kind with a status subresource; `status` keeps all but the status (and labels,
    annotations); `resize` and `ephemeralcontainers` keep all but the fields that they are for.
    """
    new = copy(obj)
    meta, held = new["metadata"], old["metadata"]
    new["apiVersion"], new["kind"] = resource.api_version, resource.kind
    for name in (
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "creationTimestamp",
        "selfLink",
    ):
        meta.pop(name, None)
        if name in held:
            meta[name] = held[name]
    if resource.custom is not None:
        custom = objects.admit_status if subresource == "status" else objects.admit_update
        return custom(resource, old, new)
    if subresource == "status":
        return _status_update(resource, old, new)
    if subresource in ("resize", "ephemeralcontainers"):
        return _pod_part_update(store, old, new, subresource)
    if "status" in resource.subresources or resource.kind == "ResourceQuota":
        new.pop("status", None)
        if "status" in old:
            new["status"] = copy(old["status"])
    if resource is CUSTOM_RESOURCE_DEFINITION:
        definitions.note_stored_version(new)
    if resource is PERSISTENT_VOLUME_CLAIM:
        _check_growth(store, old, new)
    if resource.kind == "Service":
        keep_address(old["spec"], new.setdefault("spec", {}))
    _defaults_of_update(resource, old, new)
    causes = [
        *meta_changes(held, meta),
        *validate(resource, new, written=written),
        *immutable_changes(resource.kind, old, new),
        *(event_changes(old, new) if written is EVENTS_EVENT else ()),
    ]
    if causes:
        raise invalid(resource, held["name"], causes)
    if resource is SERVICE:
        allocate(store, new, old, dry=dry)
    if resource.kind in _COUNTED and _counts(resource.kind, old, new):
        meta["generation"] = held.get("generation", 0) + 1
    _enforce_pod_security(store, resource, old, new)
    return new


def _defaults_of_update(resource: Resource, old: Object, new: Json) -> None:
    apply_defaults(resource.kind, new)
    if resource.kind == "Namespace":
        new["spec"] = copy(old.get("spec", {}))
    elif resource.kind == "DaemonSet":
        annotations = new["metadata"].setdefault("annotations", {})
        number = int(old["metadata"].get("annotations", {}).get(_TEMPLATE_GENERATION, "1"))
        changed = old["spec"]["template"] != new["spec"]["template"]
        annotations[_TEMPLATE_GENERATION] = str(number + changed)
    elif resource.kind == "Pod":
        for name in ("priority", "preemptionPolicy", "nodeName", "serviceAccountName", "serviceAccount"):
            if name in old["spec"]:
                new["spec"].setdefault(name, old["spec"][name])
        tolerate_short_absence(new["spec"])
    elif resource.kind == "Service":
        drop_of_other_types(old, new)


def _counts(kind: str, old: Object, new: Object) -> bool:
    """Whether the change increments the generation: of desired state, not of status or metadata."""
    if kind == "EndpointSlice":
        return any(old.get(name) != new.get(name) for name in ("endpoints", "ports"))
    if kind.endswith("WebhookConfiguration"):
        return bool(old.get("webhooks") != new.get("webhooks"))
    if kind == "Deployment" and old["metadata"].get("annotations", {}) != new["metadata"].get("annotations", {}):
        return True
    return bool(old.get("spec") != new.get("spec"))


def _status_update(resource: Resource, old: Object, new: Json) -> Json:
    result = copy(old)
    for name in ("resourceVersion", "uid"):  # preconditions
        if name in new["metadata"]:
            result["metadata"][name] = new["metadata"][name]
    for name in ("labels", "annotations"):
        if name in new["metadata"] and resource.kind in ("Node", "Pod"):
            result["metadata"][name] = new["metadata"][name]
    result["status"] = new.get("status", {})
    found = pod_addresses(result["status"]) if resource is POD else replicas_seen(resource.kind, result["status"])
    if causes := list(found):
        raise invalid(resource, old["metadata"]["name"], causes)
    return result


def _resized(old: Object, new: Object) -> Json:
    """The fields of a pod's spec that a resize may change; the spec as given when containers were added, removed or
    renamed.
    """
    spec = copy(old)
    for kind in ("containers", "initContainers"):
        before, after = spec.get(kind) or [], new.get(kind) or []
        if [one.get("name") for one in before] != [one.get("name") for one in after]:
            return copy(new)
        for one, other in zip(before, after, strict=True):
            for name in ("resources", "resizePolicy"):
                one.pop(name, None)
                if name in other:
                    one[name] = other[name]
    return spec


def _pod_part_update(store: Store, old: Object, new: Json, subresource: str) -> Json:
    apply_defaults("Pod", new)
    spec = copy(old["spec"])
    result = copy(old)
    if subresource == "ephemeralcontainers":
        spec["ephemeralContainers"] = new["spec"].get("ephemeralContainers", [])
        result["spec"] = spec
        changes = ephemeral_changes(old, new)
    else:
        new["spec"] = _resized(old["spec"], new["spec"])
        result["spec"] = new["spec"]
        changes = resize_changes(old, new)
    for name in ("resourceVersion", "uid"):
        if name in new["metadata"]:
            result["metadata"][name] = new["metadata"][name]
    causes = [*validate(POD, result), *changes]
    if not causes and qos_class(result) != qos_class(old):
        causes = [wrong("spec", qos_class(old), "Pod QOS Class may not change as a result of resizing")]
    if causes:
        raise invalid(POD, old["metadata"]["name"], causes)
    if subresource == "resize":
        _fits_its_node(store, new)
    _enforce_pod_security(store, POD, old, result)
    if result["spec"] != old["spec"]:
        result["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return result
