"""What is served, told to clients: /api, /apis (plain and aggregated), resource lists, OpenAPI version 3. Pure,
cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.api import schema as schemas
from chaos.embedded.resources import EVENTS_EVENT, RESOURCES, Resource

VERSION: Final = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
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


@cache
def _published() -> list[dict[str, Any]]:
    """The groups, versions and resources that Kubernetes 1.36 serves unless told otherwise, and then metrics.k8s.io.

    `published.json` is k8s.io/kubernetes/api/discovery, the core group in the same form; of versions the stable ones.
    """
    groups: list[dict[str, Any]] = orjson.loads(Path(__file__).with_name("published.json").read_bytes())
    groups.append({"name": "metrics.k8s.io", "versions": [{"version": "v1beta1", "resources": _metrics()}]})
    return groups


def _metrics() -> list[dict[str, Any]]:
    return [
        {
            "resource": one.plural,
            "responseKind": {"group": "", "version": "", "kind": one.kind},
            "scope": "Namespaced" if one.namespaced else "Cluster",
            "singularResource": "",
            "verbs": list(one.verbs),
        }
        for one in _VIRTUAL
        if one.group == "metrics.k8s.io"
    ]


@cache
def listed() -> Mapping[tuple[str, str, str], Resource]:
    """The resources that Kubernetes serves and this cluster only lists: there are none, and none can be created."""
    found: dict[tuple[str, str, str], Resource] = {}
    for group in _published():
        for version in group["versions"]:
            for one in version["resources"]:
                key = (group["name"], version["version"], one["resource"])
                if key not in SERVED:
                    found[key] = Resource(
                        *key[:2],
                        one["responseKind"]["kind"],
                        one["resource"],
                        one["scope"] == "Namespaced",
                        tuple(one.get("shortNames", ())),
                        tuple(sub["subresource"] for sub in one.get("subresources", ())),
                        tuple(one["verbs"]),
                    )
    return found


def verbs_of(group: str, version: str, plural: str, subresource: str) -> tuple[str, ...]:
    """What can be done with a subresource."""
    return _verbs().get((group, version, plural, subresource), ())


@cache
def _verbs() -> Mapping[tuple[str, str, str, str], tuple[str, ...]]:
    return {
        (group["name"], version["version"], one["resource"], sub["subresource"]): tuple(sub["verbs"])
        for group in _published()
        for version in group["versions"]
        for one in version["resources"]
        for sub in one.get("subresources", ())
    }


def group_versions() -> list[tuple[str, str]]:
    """All (group, version), core first."""
    return [(group["name"], version["version"]) for group in _published() for version in group["versions"]]


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    name = group["name"]
    versions = [{"groupVersion": f"{name}/{one['version']}", "version": one["version"]} for one in group["versions"]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def api_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_groups() -> dict[str, Any]:
    groups = [_group(group) for group in _published() if group["name"]]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(name: str) -> dict[str, Any] | None:
    found = next((group for group in _published() if group["name"] == name and name), None)
    return None if found is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(found)}


def resource_list(group: str, version: str) -> dict[str, Any] | None:
    """The APIResourceList of a group and version, None when it is not served."""
    resources = next(
        (
            one["resources"]
            for published in _published()
            for one in published["versions"]
            if (published["name"], one["version"]) == (group, version)
        ),
        None,
    )
    if resources is None:
        return None
    found: list[dict[str, Any]] = []
    for resource in resources:
        found.append(_plain(resource, resource, resource["resource"]))
        found += [
            _plain(sub, resource, f"{resource['resource']}/{sub['subresource']}")
            for sub in resource.get("subresources", ())
        ]
    head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    return head | {"groupVersion": f"{group}/{version}" if group else version, "resources": found}


def _plain(one: Mapping[str, Any], resource: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A resource or subresource of aggregated discovery as an APIResource."""
    answered = one["responseKind"]
    entry = {
        "name": name,
        "singularName": one.get("singularResource", ""),
        "namespaced": resource["scope"] == "Namespaced",
        "kind": answered["kind"],
        "verbs": one["verbs"],
    }
    entry |= {key: answered[key] for key in ("group", "version") if answered[key]}
    return entry | {key: one[key] for key in ("shortNames", "categories") if key in one}


def aggregated(*, core: bool) -> dict[str, Any]:
    """APIGroupDiscoveryList: all of /api or /apis in one answer."""
    items = [
        {
            "metadata": {"name": group["name"]} if group["name"] else {},
            "versions": [one | {"freshness": "Current"} for one in group["versions"]],
        }
        for group in _published()
        if bool(group["name"]) != core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


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
    known = (*SERVED.values(), *listed().values())
    resources = [one for one in known if (one.group, one.version) == (group, version)]
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
    digest = hashlib.sha256(schemas.VERSION.encode()).hexdigest()[:16].upper()
    paths["version"] = {"serverRelativeURL": f"/openapi/v3/version?hash={digest}"}
    return {"paths": paths}
