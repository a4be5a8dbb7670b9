"""Subresources that are answered in JSON: binding, eviction, scale, token. Called by the server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from chaos.embedded.api import decode, managed, options, tables
from chaos.embedded.api.admission import admit_update
from chaos.embedded.api.calls import APPLY, Call, Reply, inward, outward
from chaos.embedded.api.custom import objects as custom
from chaos.embedded.api.errors import (
    Cause,
    StatusError,
    bad_request,
    conflict,
    invalid,
    joined,
    method_not_allowed,
    not_found,
    plain_failure,
    required,
    unsupported,
    wrong,
)
from chaos.embedded.api.patching import decoded_patch, patched_object, refuse_other_type, refuse_undeclared
from chaos.embedded.api.rest import PATCH_TYPES, Rest, check_preconditions, wants_table
from chaos.embedded.api.selectors import selector_text
from chaos.embedded.api.tokens import TokenIssuer
from chaos.embedded.clock import stamp
from chaos.embedded.controllers.base import is_ready
from chaos.embedded.controllers.labels import matches
from chaos.embedded.deletion import delete
from chaos.embedded.objects import condition, is_true
from chaos.embedded.resources import NODE, POD, POD_DISRUPTION_BUDGET, SECRET, SERVICE_ACCOUNT, Object, Resource
from chaos.embedded.store import Conflict, copy, now

_SUCCESS: Final = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_SCALE: Final = Resource("autoscaling", "v1", "Scale", "scales")
_BOUND: Final = Resource("", "v1", "Pod", "pods/binding")  # as the messages about a binding name it
_BINDING: Final = Resource("", "v1", "Binding", "bindings")
_EVICTION: Final = Resource("policy", "v1", "Eviction", "evictions")
_TOKEN_REQUEST: Final = Resource("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests")
_DAY: Final = 86400


def _body(call: Call, resource: Resource) -> dict[str, Any]:
    if resource is not _EVICTION:
        return decode.body_object(resource, call.body or b"{}", call.content_type).object
    value = decode.parse(call.body or b"{}", call.content_type)
    if isinstance(value, dict) and value.get("apiVersion") == "policy/v1beta1":
        value["apiVersion"] = "policy/v1"
    return decode.as_object(resource, value).object


async def _asked(rest: Rest, call: Call, kind: Resource, body: dict[str, Any], *, dry: bool) -> dict[str, Any]:
    """Admit the body that creates a subresource."""
    about = call.asked("CREATE", body, dry=dry, kind=(kind.group, kind.version, kind.kind))
    if not rest.gate.concerns(about):
        return body
    new = await rest.gate.mutate(about, lambda _: None) or body
    await rest.gate.validate(replace(about, object=new))
    return new


async def bind(rest: Rest, call: Call) -> Reply:
    """POST pods/binding, or bindings: bind the pod to a node."""
    body = _body(call, _BINDING)
    if not call.subresource:
        call = replace(call, resource=POD, name=body["metadata"].get("name", ""))
    body = await _asked(rest, call, _BINDING, body, dry=call.options().dry)
    if body["metadata"].get("name", "") != call.name:
        raise bad_request("name in URL does not match name in Binding object")
    target = body.get("target") or {}
    node = target.get("name", "")
    causes = []
    if target.get("kind", "Node") not in ("", "Node"):
        causes.append(unsupported("target.kind", target["kind"], ("Node", "<empty>")))
    if not node:
        causes.append(required("target.name"))
    if causes:
        raise plain_failure(joined(causes))
    pod = rest.find(call)
    if pod["spec"].get("nodeName"):
        raise conflict(_BOUND, call.name, f'pod {call.name} is already assigned to node "{pod["spec"]["nodeName"]}"')
    if "deletionTimestamp" in pod["metadata"]:
        raise conflict(_BOUND, call.name, f"pod {call.name} is being deleted, cannot be assigned to a host")

    def change(new: dict[str, Any]) -> None:
        new["spec"]["nodeName"] = node
        conditions = new.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [c for c in conditions if c["type"] != "PodScheduled"]
        conditions.append(
            {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
        )

    if not call.options().dry:
        rest.store.mutate(POD, call.namespace, call.name, change)
    return Reply(_SUCCESS, 201)


async def evict(rest: Rest, call: Call) -> Reply:
    """POST pods/eviction: delete the pod unless a disruption budget forbids it (429)."""
    dry = call.options().dry
    body = _body(call, _EVICTION)
    if body["metadata"].get("name") != call.name:
        raise bad_request("name in URL does not match name in Eviction object")
    body = await _asked(rest, call, _EVICTION, body, dry=dry)
    asked = options.options_of_delete(body.get("deleteOptions") or {})
    pod = rest.find(call)
    check_preconditions(POD, pod, asked)
    dry = dry or asked.dry
    ended = (
        pod.get("status", {}).get("phase") in ("Succeeded", "Failed", "Pending")
        or "deletionTimestamp" in pod["metadata"]
    )
    budgets = (
        []
        if ended
        else [
            one
            for one in rest.store.list(POD_DISRUPTION_BUDGET, call.namespace)
            if matches(one.get("spec", {}).get("selector"), pod["metadata"].get("labels"))
        ]
    )
    if len(budgets) > 1:
        raise plain_failure(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    for budget in budgets:
        if not _is_lost_anyway(pod, budget):
            _spend(rest, call, budget, dry=dry)
    if not dry:
        rest.store.mutate(POD, call.namespace, call.name, _mark_evicted)
        delete(rest.store, POD, call.namespace, call.name, grace=asked.grace, clock=rest.clock)
    return Reply(_SUCCESS, 201)


def _is_lost_anyway(pod: Object, budget: Object) -> bool:
    """Whether an unready pod may be evicted regardless of the budget (`unhealthyPodEvictionPolicy`)."""
    if is_ready(pod):
        return False
    status = budget.get("status") or {}
    enough = status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0
    return (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow" or enough


def _mark_evicted(pod: dict[str, Any]) -> None:
    """Set the DisruptionTarget condition, by which a Job's podFailurePolicy tells evictions from failures."""
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    held = condition(pod, "DisruptionTarget")
    since = held["lastTransitionTime"] if held is not None and is_true(pod, "DisruptionTarget") else now()
    new = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": since,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    conditions[:] = [new if one is held else one for one in conditions] if held else [*conditions, new]


def _spend(rest: Rest, call: Call, budget: Object, *, dry: bool) -> None:
    name, status = budget["metadata"]["name"], budget.get("status", {})
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        why = f"The disruption budget {name} is still being processed by the server."
        raise StatusError(
            429,
            "Cannot evict pod as it would violate the pod's disruption budget.",
            retry_after=10,
            details={"causes": [{"reason": "DisruptionBudget", "message": why}], "retryAfterSeconds": 10},
        )
    if status.get("disruptionsAllowed", 0) <= 0:
        why = (
            f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has "
            f"{status.get('currentHealthy', 0)} currently"
        )
        raise StatusError(
            429,
            "Cannot evict pod as it would violate the pod's disruption budget.",
            details={"causes": [{"reason": "DisruptionBudget", "message": why}]},
        )

    def change(new: dict[str, Any]) -> None:
        new["status"]["disruptionsAllowed"] -= 1
        new["status"].setdefault("disruptedPods", {})[call.name] = stamp(rest.clock.now())

    if not dry:
        rest.store.mutate(POD_DISRUPTION_BUDGET, call.namespace, name, change)


def _scale_of(resource: Resource, obj: Object) -> dict[str, Any]:
    if resource.custom is not None:
        return custom.scale_of(resource, obj)
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status", {})
    text = selector_text(spec.get("selector") or {})
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            key: meta[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in meta
        },
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas", 1) else {},
        "status": {"replicas": status.get("replicas", 0), **({"selector": text} if text else {})},
    }


def _replicas_path(resource: Resource) -> tuple[str, ...]:
    """The number of replicas as a path of managedFields."""
    path = ("spec", "replicas") if resource.custom is None else custom.path_of_replicas(resource)
    return tuple(f"f:{name}" for name in path)


def _applied_scale(call: Call, old: Object) -> dict[str, Any]:
    """The Scale after a server-side apply, with its managedFields; StatusError 409 on conflicts."""
    asked, about = call.options(applying=True), replace(call, resource=_SCALE)
    config = decode.parse(call.body, "application/yaml")
    if isinstance(config, dict):
        refuse_other_type(_SCALE, config)
    given = decode.as_object(_SCALE, config, strictness="Ignore").object
    refuse_undeclared(about, config)
    if given["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    held = _scale_of(call.resource, old)
    owners = old["metadata"].get("managedFields") or []
    held["metadata"]["managedFields"] = managed.of_scale(owners, _replicas_path(call.resource), _SCALE.api_version)
    writer = about.writer(asked.manager, managed.APPLIED)
    return managed.applied(_SCALE, held, given, writer=writer, force=asked.force, at=now())


async def scale(rest: Rest, call: Call) -> Reply:
    """GET, PUT, PATCH of the scale subresource."""
    old = outward(call, rest.find(call))
    if call.verb == "get":
        found = _scale_of(call.resource, old)
        if wants_table(call.accept):
            meta = {"resourceVersion": found["metadata"]["resourceVersion"]}
            return Reply(
                tables.table(
                    _SCALE,
                    [found],
                    rest.clock.now(),
                    tables.included(call.query),
                    meta,
                    form=tables.version(call.accept),
                )
            )
        return Reply(found)
    kind = call.content_type.partition(";")[0].strip().lower()
    applying = call.verb == "patch" and kind == APPLY
    dry = call.options(applying=applying).dry
    if call.verb == "update":
        wanted = _body(call, _SCALE)
    elif applying:
        wanted = _applied_scale(call, old)
    else:
        if kind not in PATCH_TYPES:
            raise bad_request(f"scale cannot be patched with Content-Type {kind or 'none'}")
        value = patched_object(_SCALE, _scale_of(call.resource, old), kind, decode.parse(call.body, "application/json"))
        wanted = decoded_patch(_SCALE, value, call.options().strictness).object
    if wanted["metadata"].get("name", call.name) != call.name:
        raise bad_request(
            f"the name of the object ({wanted['metadata']['name']}) does not match the name on the URL ({call.name})"
        )
    about = call.asked("UPDATE", wanted, _scale_of(call.resource, old), dry=dry, kind=("autoscaling", "v1", "Scale"))
    if rest.gate.concerns(about):
        wanted = await rest.gate.mutate(about, lambda _: None) or wanted
        await rest.gate.validate(replace(about, object=wanted))
        old = outward(call, rest.find(call))
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        raise invalid(_SCALE, call.name, [wrong("spec.replicas", replicas, "must be greater than or equal to 0")])
    if call.resource.custom is not None:
        new = custom.with_replicas(call.resource, old, replicas)
    else:
        new = copy(old)
        new["spec"]["replicas"] = replicas
    meta = wanted.get("metadata") or {}
    if meta.get("resourceVersion"):
        new["metadata"]["resourceVersion"] = meta["resourceVersion"]
    if applying:
        held = old["metadata"].get("managedFields") or []
        path, version = _replicas_path(call.resource), call.resource.api_version
        owned: Any = managed.with_scale(held, meta.get("managedFields") or [], path, version)
    else:
        owned = managed.updated(call.resource, old, new, call.writer(call.options().manager), now())
    if owned:
        new["metadata"]["managedFields"] = owned
    admitted = admit_update(rest.store, call.stored, old, new)
    if dry:
        return Reply(_scale_of(call.resource, admitted))
    try:
        stored = rest.store.update(call.stored, inward(call, admitted))
        return Reply(_scale_of(call.resource, outward(call, stored)))
    except Conflict:
        raise conflict(call.resource, call.name) from None


async def token(rest: Rest, issuer: TokenIssuer, call: Call) -> Reply:
    """POST serviceaccounts/token: TokenRequest."""
    body = _body(call, _TOKEN_REQUEST)
    spec = body.setdefault("spec", {})
    account = rest.store.find(SERVICE_ACCOUNT, call.namespace, call.name)
    if account is None:
        raise not_found(SERVICE_ACCOUNT, call.name)
    spec = (await _asked(rest, call, _TOKEN_REQUEST, body, dry=call.options().dry)).setdefault("spec", {})
    seconds = spec.get("expirationSeconds", 3600)
    causes: list[Cause] = []
    if seconds < 600:
        causes.append(wrong("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds > 1 << 32:
        causes.append(wrong("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"))
    if causes:
        raise invalid(_TOKEN_REQUEST, "", causes)
    if (named := (body.get("metadata") or {}).get("name", "")) not in ("", call.name):
        why = wrong("metadata.name", named, "must match the service account name if specified")
        raise invalid(_TOKEN_REQUEST, call.name, [why])
    pod = None
    if bound := spec.get("boundObjectRef"):
        if bound.get("kind") == "Node" and rest.store.find(NODE, "", bound.get("name", "")) is None:
            raise not_found(NODE, bound.get("name", ""))
        if bound.get("kind") not in ("Pod", "Node", "Secret"):
            group, _, version = str(bound.get("apiVersion") or "").rpartition("/")
            shown = f"{group}/{version}, Kind={bound.get('kind', '')}"
            raise bad_request(f"cannot bind token to object of type {shown}")
        if bound.get("kind") == "Secret" and rest.store.find(SECRET, call.namespace, bound.get("name", "")) is None:
            raise not_found(SECRET, bound.get("name", ""))
        if bound.get("kind") != "Pod":
            raise bad_request(f"cannot bind token to object of kind {bound.get('kind')!r}: only Pod is supported")
        pod = rest.store.find(POD, call.namespace, bound.get("name", ""))
        if pod is None:
            raise not_found(POD, bound.get("name", ""))
        if bound.get("uid") not in (None, "", pod["metadata"]["uid"]):
            raise conflict(
                POD,
                bound["name"],
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if pod["spec"].get("serviceAccountName") != call.name:
            raise bad_request(
                f"cannot bind token for serviceaccount {call.name!r} to pod running with different serviceaccount name."
            )
    text, end = issuer.issue(
        call.namespace, call.name, audiences=spec.get("audiences") or (), seconds=min(seconds, _DAY), pod=pod
    )
    from datetime import UTC, datetime

    spec["expirationSeconds"] = min(seconds, _DAY)
    spec.setdefault("boundObjectRef", None)
    return Reply(
        {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": call.name,
                "namespace": call.namespace,
                "uid": account["metadata"]["uid"],
                "creationTimestamp": now(),
            },
            "spec": spec,
            "status": {"token": text, "expirationTimestamp": stamp(datetime.fromtimestamp(end, UTC))},
        },
        201,
    )


async def dispatch(rest: Rest, issuer: TokenIssuer, call: Call) -> Reply | None:
    """Answer one of these subresources; None for another."""
    if call.subresource == "scale":
        return await scale(rest, call)
    if call.resource.plural == "bindings":
        return await bind(rest, call)
    table = {
        "binding": lambda: bind(rest, call),
        "eviction": lambda: evict(rest, call),
        "token": lambda: token(rest, issuer, call),
    }
    if call.subresource not in table:
        return None
    if call.verb != "create":
        raise method_not_allowed()
    return await table[call.subresource]()


__all__ = ["dispatch"]
