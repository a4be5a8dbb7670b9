"""What is served, told to clients: /api, /apis (plain and aggregated), resource lists, OpenAPI version 3. Pure,
cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import orjson

from chaos.embedded.api import schema as schemas
from chaos.embedded.resources import EVENTS_EVENT, RESOURCES, Resource

VERSION: Final = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2+sharedfate",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-11-23T00:00:00Z",
    "goVersion": "none",
    "compiler": "embedded",
    "platform": "linux/amd64",
}

_CREATE: Final = ("create",)
_VIRTUAL: Final = (
    Resource("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", False, verbs=_CREATE),
    Resource("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=_CREATE),
    Resource("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", False, verbs=_CREATE),
    Resource(
        "authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", True, verbs=_CREATE
    ),
    Resource("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, verbs=_CREATE),
    Resource("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False, verbs=_CREATE),
    Resource("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", True, verbs=("get", "list")),
    Resource("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", False, verbs=("get", "list")),
)
SERVED: Final[Mapping[tuple[str, str, str], Resource]] = {
    (one.group, one.version, one.plural): one for one in (*RESOURCES, EVENTS_EVENT, *_VIRTUAL)
}

_IN_ALL: Final = ("Pod", "Service", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "CronJob")
_READ_WRITE: Final = ("get", "patch", "update")
_PROXY: Final = ("create", "delete", "get", "patch", "update")
# subresource -> (kind, its group and version when not the parent's, verbs)
_SUBRESOURCES: Final[Mapping[str, tuple[str, tuple[str, str] | None, tuple[str, ...]]]] = {
    "status": ("", None, _READ_WRITE),
    "finalize": ("", None, ("update",)),
    "resize": ("", None, _READ_WRITE),
    "ephemeralcontainers": ("", None, _READ_WRITE),
    "log": ("", None, ("get",)),
    "scale": ("Scale", ("autoscaling", "v1"), _READ_WRITE),
    "exec": ("PodExecOptions", None, ("create", "get")),
    "attach": ("PodAttachOptions", None, ("create", "get")),
    "portforward": ("PodPortForwardOptions", None, ("create", "get")),
    "eviction": ("Eviction", ("policy", "v1"), _CREATE),
    "binding": ("Binding", None, _CREATE),
    "token": ("TokenRequest", ("authentication.k8s.io", "v1"), _CREATE),
    "proxy": ("ProxyOptions", None, _PROXY),
}


def group_versions() -> list[tuple[str, str]]:
    """All (group, version), core first."""
    return list(dict.fromkeys((group, version) for group, version, _ in SERVED))


def _group(group: str, version: str) -> dict[str, Any]:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def api_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_groups() -> dict[str, Any]:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*gv) for gv in group_versions() if gv[0]]}


def api_group(group: str) -> dict[str, Any] | None:
    found = next((gv for gv in group_versions() if gv[0] == group and group), None)
    return None if found is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(*found)}


def resource_list(group: str, version: str) -> dict[str, Any] | None:
    """The APIResourceList of a group and version, None when it is not served."""
    found: list[dict[str, Any]] = []
    for resource in (one for one in SERVED.values() if (one.group, one.version) == (group, version)):
        entry: dict[str, Any] = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.kind in _IN_ALL:
            entry["categories"] = ["all"]
        found.append(entry)
        for name in resource.subresources:
            kind, gv, verbs = _SUBRESOURCES[name]
            sub: dict[str, Any] = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind or resource.kind,
                "verbs": list(verbs),
            }
            if gv is not None:
                sub |= {"group": gv[0], "version": gv[1]}
            found.append(sub)
    if not found:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": found,
    }


def aggregated(*, core: bool) -> dict[str, Any]:
    """APIGroupDiscoveryList: all of /api or /apis in one answer."""
    items = []
    for group, version in group_versions():
        if bool(group) == core:
            continue
        resources = []
        for resource in (one for one in SERVED.values() if (one.group, one.version) == (group, version)):
            entry: dict[str, Any] = {
                "resource": resource.plural,
                "responseKind": {"group": group, "version": version, "kind": resource.kind},
                "scope": "Namespaced" if resource.namespaced else "Cluster",
                "singularResource": resource.singular,
                "verbs": list(resource.verbs),
            }
            if resource.short_names:
                entry["shortNames"] = list(resource.short_names)
            if resource.kind in _IN_ALL:
                entry["categories"] = ["all"]
            if resource.subresources:
                entry["subresources"] = [_aggregated_subresource(resource, name) for name in resource.subresources]
            resources.append(entry)
        items.append(
            {
                "metadata": {"name": group, "creationTimestamp": None},
                "versions": [{"version": version, "resources": resources, "freshness": "Current"}],
            }
        )
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_subresource(resource: Resource, name: str) -> dict[str, Any]:
    kind, gv, verbs = _SUBRESOURCES[name]
    group, version = gv or (resource.group, resource.version)
    return {
        "subresource": name,
        "responseKind": {"group": group, "version": version, "kind": kind or resource.kind},
        "verbs": list(verbs),
    }


# OpenAPI version 3

_REFERENCE: Final = "#/components/schemas/"


def _convert(part: Any) -> Any:
    """A published JSON schema as OpenAPI 3.0 says it: no null types, references alone in allOf."""
    if isinstance(part, list):
        return [_convert(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    result: dict[str, Any] = {}
    for key, value in part.items():
        if key == "$ref":
            result["allOf"] = [{"$ref": _REFERENCE + value.removeprefix("#/$defs/")}]
        elif key == "type" and isinstance(value, list):
            result["type"] = next(one for one in value if one != "null")
        elif key == "properties" and isinstance(value, Mapping):
            result["properties"] = {name: _convert(one) for name, one in value.items()}
        elif key != "enum":
            result[key] = _convert(value)
    return result


def _operation(resource: Resource, action: str) -> dict[str, Any]:
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    operation: dict[str, Any] = {
        "operationId": f"{action}{resource.group}{resource.version}{resource.kind}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
        "responses": {"200": {"description": "OK"}},
    }
    if action in ("patch", "put", "post"):
        operation["parameters"] = [
            {"name": name, "in": "query", "schema": {"type": "string"}}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ]
    return operation


@cache
def openapi(group: str, version: str) -> bytes | None:
    """The OpenAPI document of a group and version."""
    resources = [one for one in SERVED.values() if (one.group, one.version) == (group, version)]
    names = [name for one in resources if (name := schemas.definition_name(group, version, one.kind))]
    if not resources:
        return None
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    paths: dict[str, Any] = {}
    for one in resources:
        base = f"{prefix}/namespaces/{{namespace}}/{one.plural}" if one.namespaced else f"{prefix}/{one.plural}"
        paths[base] = {"get": _operation(one, "list"), "post": _operation(one, "post")}
        paths[f"{base}/{{name}}"] = {
            "get": _operation(one, "get"),
            "put": _operation(one, "put"),
            "patch": _operation(one, "patch"),
            "delete": _operation(one, "delete"),
        }
    components = {name: _convert(schemas.definitions()[name]) for name in sorted(schemas.reachable(names))}
    return orjson.dumps(
        {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def openapi_index() -> dict[str, Any]:
    paths = {}
    for group, version in group_versions():
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(f"{path}{schemas.VERSION}{len(SERVED)}".encode()).hexdigest()[:16].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}
