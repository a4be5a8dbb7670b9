"""LimitRanges (defaults and bounds for each container and pod) and ResourceQuotas.

In the words of k8s.io/kubernetes/plugin/pkg/admission/limitranger and
k8s.io/apiserver/pkg/admission/plugin/resourcequota. Reads the store, changes only the given object. Called by
admission, and by the controller of quotas' status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from chaos.embedded.api.errors import forbidden
from chaos.embedded.claims import class_name
from chaos.embedded.quantity import canonical_quantity, parse_quantity, pod_limits, pod_requests
from chaos.embedded.resources import LIMIT_RANGE, PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_QUOTA, Object, Resource
from chaos.embedded.store import Store

Json = dict[str, Any]
Amounts = Mapping[str, Fraction]

_ANNOTATION: Final = "kubernetes.io/limit-ranger"
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_MUST_SPECIFY: Final = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
_OF_CLASS: Final = ".storageclass.storage.k8s.io/"
_COUNTED: Final = ("services", "secrets", "configmaps", "resourcequotas", "persistentvolumeclaims")


# LimitRanges


def default_limits(store: Store, pod: Json) -> None:
    """Set containers' limits and requests to the namespace's LimitRange defaults, with an annotation."""
    told: list[str] = []
    for limit_range in store.list(LIMIT_RANGE, pod["metadata"].get("namespace", "")):
        items = [one for one in (limit_range.get("spec") or {}).get("limits") or [] if one.get("type") == "Container"]
        for kind, words in (("containers", "container"), ("initContainers", "init container")):
            for container in pod["spec"].get(kind) or []:
                for item in items:
                    told += _merged(container, item, words)
    if told:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = f"LimitRanger plugin set: {'; '.join(told)}"


def _merged(container: Json, item: Mapping[str, Any], words: str) -> Iterator[str]:
    resources = container.setdefault("resources", {})
    fresh: dict[str, list[str]] = {}
    for part, source in (("limits", "default"), ("requests", "defaultRequest")):
        for name, value in (item.get(source) or {}).items():
            if name not in (resources.get(part) or {}):
                resources.setdefault(part, {})[name] = value
                fresh.setdefault(part, []).append(name)
    for part, word in (("requests", "request"), ("limits", "limit")):
        if part in fresh:
            yield f"{', '.join(sorted(fresh[part]))} {word} for {words} {container.get('name', '')}"


def check_limits(store: Store, resource: Resource, obj: Object) -> None:
    """Raise StatusError 403 for a pod or claim beyond its namespace's LimitRanges."""
    if resource is not POD and resource.kind != "PersistentVolumeClaim":
        return
    for limit_range in store.list(LIMIT_RANGE, obj["metadata"].get("namespace", "")):
        items = (limit_range.get("spec") or {}).get("limits") or []
        found = list(_beyond_pod(items, obj) if resource is POD else _beyond_claim(items, obj))
        if found:
            told = list(dict.fromkeys(found))
            why = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
            raise forbidden(resource, obj["metadata"].get("name", ""), why)


def _beyond_claim(items: list[Any], claim: Object) -> Iterator[str]:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    for item in items:
        if item.get("type") == "PersistentVolumeClaim":
            for name, bound in (item.get("min") or {}).items():
                yield from _least("PersistentVolumeClaim", name, bound, requests, {})
            for name, bound in (item.get("max") or {}).items():
                if name in requests and parse_quantity(requests[name]) > parse_quantity(bound):
                    yield (
                        f"maximum {name} usage per PersistentVolumeClaim is {bound}, but request is {requests[name]}"
                    )


def _beyond_pod(items: list[Any], pod: Object) -> Iterator[str]:
    containers = [*(pod["spec"].get("containers") or []), *(pod["spec"].get("initContainers") or [])]
    for item in items:
        kind = item.get("type")
        if kind == "Container":
            for container in containers:
                resources = container.get("resources") or {}
                yield from _beyond(kind, item, resources.get("requests") or {}, resources.get("limits") or {})
        elif kind == "Pod":
            yield from _beyond(kind, item, _written(pod_requests(pod)), _written(pod_limits(pod)))


def _written(amounts: Amounts) -> dict[str, str]:
    return {name: written(value) for name, value in amounts.items()}


def written(value: Fraction, form: str = "") -> str:
    """Format a sum as a canonical quantity; `form` "Ki" for bytes."""
    if form and value.denominator == 1 and value % 1024 == 0:
        return canonical_quantity(f"{value.numerator // 1024}Ki")
    return canonical_quantity(f"{-(-value * 1000 // 1)}m")


def _beyond(
    kind: str, item: Mapping[str, Any], requests: Mapping[str, str], limits: Mapping[str, str]
) -> Iterator[str]:
    for name, bound in (item.get("min") or {}).items():
        yield from _least(kind, name, bound, requests, limits)
    for name, bound in (item.get("max") or {}).items():
        yield from _most(kind, name, bound, requests, limits)
    for name, bound in (item.get("maxLimitRequestRatio") or {}).items():
        yield from _ratio(kind, name, bound, requests, limits)


def _least(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    words, least = f"minimum {name} usage per {kind} is {bound}", parse_quantity(bound)
    if name not in requests:
        yield f"{words}.  No request is specified"
    elif parse_quantity(requests[name]) < least:
        yield f"{words}, but request is {requests[name]}"
    elif name in limits and parse_quantity(limits[name]) < least:
        yield f"{words}, but limit is {limits[name]}"


def _most(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    words, most = f"maximum {name} usage per {kind} is {bound}", parse_quantity(bound)
    if name not in limits:
        yield f"{words}.  No limit is specified"
    elif parse_quantity(limits[name]) > most:
        yield f"{words}, but limit is {limits[name]}"
    elif name in requests and parse_quantity(requests[name]) > most:
        yield f"{words}, but request is {requests[name]}"


def _ratio(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    words = f"{name} max limit to request ratio per {kind} is {bound}, but"
    request, limit = (parse_quantity(amounts.get(name, "0")) for amounts in (requests, limits))
    if not request:
        yield f"{words} no request is specified or request is 0"
    elif not limit:
        yield f"{words} no limit is specified or limit is 0"
    elif limit / request > parse_quantity(bound):
        yield f"{words} provided ratio is {float(limit / request):f}"


# ResourceQuotas


def check_quota(store: Store, resource: Resource, obj: Object) -> None:
    """Raise StatusError 403 when creating the object would exceed a ResourceQuota of its namespace."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"].get("name", "")
    for quota in store.list(RESOURCE_QUOTA, namespace):
        spec = quota.get("spec") or {}
        hard = spec.get("hard") or {}
        if not _in_scope(spec, resource, obj):
            continue
        asked = {key: value for key, value in usage(resource, obj).items() if key in hard}
        if resource is POD and (missing := _unspecified(obj, hard)):
            why = f"failed quota: {quota['metadata']['name']}: must specify {missing}"
            raise forbidden(resource, name, why)
        if not asked:
            continue
        used = used_of(store, quota)
        over = {key for key in asked if asked[key] and used[key] + asked[key] > parse_quantity(hard[key])}
        if over:
            why = (
                f"exceeded quota: {quota['metadata']['name']}, requested: {_pairs(over, asked)}, "
                f"used: {_pairs(over, used)}, limited: {','.join(f'{key}={hard[key]}' for key in sorted(over))}"
            )
            raise forbidden(resource, name, why)


def _pairs(keys: set[str], amounts: Amounts) -> str:
    return ",".join(f"{key}={written(amounts[key], form_of(key))}" for key in sorted(keys))


def form_of(name: str) -> str:
    """The form of a resource's amounts: binary units for bytes."""
    return "Ki" if name.endswith(("memory", "storage")) else ""


def _unspecified(pod: Object, hard: Mapping[str, Any]) -> str:
    """Containers without an amount that a quota on CPU or memory requires."""
    missing: dict[str, set[str]] = {}
    for kind in ("containers", "initContainers"):
        for container in pod["spec"].get(kind) or []:
            resources = container.get("resources") or {}
            for key in set(hard) & set(_MUST_SPECIFY):
                part, _, name = key.rpartition(".")
                if name not in (resources.get(part or "requests") or {}):
                    missing.setdefault(key, set()).add(container.get("name", ""))
    return "; ".join(f"{key} for: {','.join(sorted(names))}" for key, names in sorted(missing.items()))


def used_of(store: Store, quota: Object) -> dict[str, Fraction]:
    """The namespace's usage of each amount in the quota."""
    spec, namespace = quota.get("spec") or {}, quota["metadata"].get("namespace", "")
    total = {key: Fraction(0) for key in spec.get("hard") or {}}
    for resource in store.kinds.stored():
        if not resource.namespaced or not any(_concerns(key, resource) for key in total):
            continue
        for obj in store.list(resource, namespace):
            if _in_scope(spec, resource, obj):
                for key, value in usage(resource, obj).items():
                    if key in total:
                        total[key] += value
    return total


def _concerns(key: str, resource: Resource) -> bool:
    if resource is POD:
        return key == "pods" or key == "count/pods" or not key.startswith("count/")
    if key.startswith("count/") or resource.custom is not None:
        return key == _count(resource)
    of_storage = key == "requests.storage" or _OF_CLASS in key
    return key.partition(".")[0] == resource.plural or (of_storage and resource is PERSISTENT_VOLUME_CLAIM)


def _count(resource: Resource) -> str:
    return f"count/{resource.plural}.{resource.group}" if resource.group else f"count/{resource.plural}"


def usage(resource: Resource, obj: Object) -> dict[str, Fraction]:
    """One object's usage of every amount that a quota may bound."""
    one = Fraction(1)
    taken = {_count(resource): one}
    if resource.custom is not None:
        return taken
    if resource.plural in _COUNTED:
        taken[resource.plural] = one
    if resource.plural == "services":
        spec, ports = obj.get("spec") or {}, len((obj.get("spec") or {}).get("ports") or [])
        kind = spec.get("type")
        opened = kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True))
        taken["services.nodeports"] = Fraction(ports if opened else 0)
        taken["services.loadbalancers"] = Fraction(kind == "LoadBalancer")
    elif resource.plural == "persistentvolumeclaims":
        requests = ((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}
        taken["requests.storage"] = parse_quantity(requests.get("storage", "0"))
        if chosen := class_name(obj):
            for name in ("persistentvolumeclaims", "requests.storage"):
                taken[f"{chosen}{_OF_CLASS}{name}"] = taken[name]
    elif resource is POD and (obj.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        taken["pods"] = one
        for name, value in pod_requests(obj).items():
            taken[f"requests.{name}"] = value
            if name in _COMPUTE:
                taken[name] = value
        for name, value in pod_limits(obj).items():
            taken[f"limits.{name}"] = value
    return taken


def _in_scope(spec: Mapping[str, Any], resource: Resource, obj: Object) -> bool:
    """Whether the quota's scopes include the object; scopes select pods."""
    scopes = [(one, "Exists", ()) for one in spec.get("scopes") or []]
    scopes += [
        (one.get("scopeName", ""), one.get("operator", ""), tuple(one.get("values") or ()))
        for one in (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    ]
    if not scopes:
        return True
    return resource is POD and all(_of_scope(obj, *scope) for scope in scopes)


def _of_scope(pod: Object, scope: str, operator: str, values: tuple[str, ...]) -> bool:
    spec = pod["spec"]
    if scope == "PriorityClass":
        held = spec.get("priorityClassName", "")
        found: Mapping[str, Callable[[], bool]] = {
            "In": lambda: held in values,
            "NotIn": lambda: held not in values,
            "Exists": lambda: bool(held),
            "DoesNotExist": lambda: not held,
        }
        return found[operator]()
    if scope in ("BestEffort", "NotBestEffort"):
        amounts = [*pod_requests(pod).values(), *pod_limits(pod).values()]
        return any(amounts) == (scope == "NotBestEffort")
    if scope in ("Terminating", "NotTerminating"):
        return ("activeDeadlineSeconds" in spec) == (scope == "Terminating")
    affinity = spec.get("affinity") or {}
    return any(
        term.get("namespaces") or term.get("namespaceSelector") is not None
        for kind in ("podAffinity", "podAntiAffinity")
        for term in (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []
    )
