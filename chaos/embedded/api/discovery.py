"""Discovery: /api, /apis (plain and aggregated), resource lists, OpenAPI version 3.

Pure; documents of built-in kinds alone are cached, those with custom kinds are built on request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.api import openapi2 as openapi2_form
from chaos.embedded.api import schema as schemas
from chaos.embedded.kinds import Kinds
from chaos.embedded.resources import AUTOSCALER_V1, EVENTS_EVENT, RESOURCES, Resource

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
    (one.group, one.version, one.plural): one for one in (*RESOURCES, EVENTS_EVENT, AUTOSCALER_V1, *_VIRTUAL)
}


@cache
def _published() -> list[dict[str, Any]]:
    """The groups, versions and resources that Kubernetes 1.36 serves by default, and metrics.k8s.io.

    `published.json` is k8s.io/kubernetes/api/discovery, the core group in the same form; stable versions only.
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
    """Resources that Kubernetes serves and this cluster only lists: always empty, never created."""
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


def find(kinds: Kinds, group: str, version: str, plural: str) -> Resource | None:
    """The kind that a path names: built-in, listed only, or custom; None when there is none."""
    key = (group, version, plural)
    return SERVED.get(key) or kinds.find_custom(*key) or listed().get(key)


def verbs_of(resource: Resource, subresource: str) -> tuple[str, ...]:
    """The verbs of a subresource."""
    if resource.custom is not None:
        return _SUBRESOURCE_VERBS if subresource in resource.subresources else ()
    return _verbs().get((resource.group, resource.version, resource.plural, subresource), ())


@cache
def _verbs() -> Mapping[tuple[str, str, str, str], tuple[str, ...]]:
    return {
        (group["name"], version["version"], one["resource"], sub["subresource"]): tuple(sub["verbs"])
        for group in _published()
        for version in group["versions"]
        for one in version["resources"]
        for sub in one.get("subresources", ())
    }


_SUBRESOURCE_VERBS: Final = ("get", "patch", "update")


def _priority(version: str) -> tuple[int, int, int, str]:
    """Sort key of versions by Kubernetes' preference: stable, beta, alpha, then the higher number, then the name."""
    found = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if found is None:
        return 1, 0, 0, version
    stage = {None: 2, "beta": 1, "alpha": 0}[found[2]]
    return 0, -stage, -(int(found[1]) * 1000 + int(found[3] or 0)), ""


def _groups(kinds: Kinds) -> list[dict[str, Any]]:
    """All groups as aggregated discovery: published ones and those of definitions."""
    custom = list(kinds.custom())
    if not custom:
        return _published()
    groups = {group["name"]: {**group, "versions": list(group["versions"])} for group in _published()}
    for name in sorted({one.group for one in custom}):
        group = groups.setdefault(name, {"name": name, "versions": []})
        for version in sorted({one.version for one in custom if one.group == name}, key=_priority):
            brought = [_entry(one) for one in custom if (one.group, one.version) == (name, version)]
            brought.sort(key=lambda entry: str(entry["resource"]))
            at = next((i for i, held in enumerate(group["versions"]) if held["version"] == version), None)
            if at is None:
                group["versions"].append({"version": version, "resources": brought})
            else:
                held = group["versions"][at]
                group["versions"][at] = {**held, "resources": [*held["resources"], *brought]}
    return list(groups.values())


def _entry(resource: Resource) -> dict[str, Any]:
    """A custom kind in aggregated discovery."""
    custom = resource.custom
    assert custom is not None
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": custom.singular,
        "verbs": list(resource.verbs),
    }
    for name, values in (("shortNames", resource.short_names), ("categories", custom.categories)):
        if values:
            entry[name] = list(values)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": kind
                if name == "status"
                else {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                "verbs": list(_SUBRESOURCE_VERBS),
            }
            for name in resource.subresources
        ]
    return entry


def group_versions(kinds: Kinds) -> list[tuple[str, str]]:
    """All (group, version), core first."""
    return [(group["name"], version["version"]) for group in _groups(kinds) for version in group["versions"]]


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    name = group["name"]
    versions = [{"groupVersion": f"{name}/{one['version']}", "version": one["version"]} for one in group["versions"]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def api_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_groups(kinds: Kinds) -> dict[str, Any]:
    groups = [_group(group) for group in _groups(kinds) if group["name"]]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(kinds: Kinds, name: str) -> dict[str, Any] | None:
    found = next((group for group in _groups(kinds) if group["name"] == name and name), None)
    return None if found is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(found)}


def resource_list(kinds: Kinds, group: str, version: str) -> dict[str, Any] | None:
    """The APIResourceList of a group and version, None when it is not served."""
    resources = next(
        (
            one["resources"]
            for known in _groups(kinds)
            for one in known["versions"]
            if (known["name"], one["version"]) == (group, version)
        ),
        None,
    )
    if resources is None:
        return None
    found: list[dict[str, Any]] = []
    for resource in resources:
        kind, stored = resource["responseKind"]["kind"], "create" in resource["verbs"] and "get" in resource["verbs"]
        shown = {"storageVersionHash": _storage_hash(group, version, kind)} if stored else {}
        found.append(_plain(resource, resource, resource["resource"]) | shown)
        found += [
            _plain(sub, resource, f"{resource['resource']}/{sub['subresource']}")
            for sub in resource.get("subresources", ())
        ]
    head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    return head | {"groupVersion": f"{group}/{version}" if group else version, "resources": found}


def _plain(one: Mapping[str, Any], resource: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Convert a resource or subresource of aggregated discovery to an APIResource."""
    answered = one["responseKind"]
    entry = {
        "name": name,
        "singularName": one.get("singularResource", ""),
        "namespaced": resource["scope"] == "Namespaced",
        "kind": answered["kind"],
        "verbs": one["verbs"],
    }
    if answered["group"] and resource["responseKind"]["group"] != answered["group"]:  # a Scale is of another group
        entry |= {key: answered[key] for key in ("group", "version")}
    return entry | {key: one[key] for key in ("shortNames", "categories") if key in one}


_STORED_AS: Final = {  # of the kinds that are stored in another version than this, or another group
    ("events.k8s.io", "Event"): ("", "v1"),
    ("autoscaling", "HorizontalPodAutoscaler"): ("autoscaling", "v2"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): ("apiextensions.k8s.io", "v1beta1"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): ("admissionregistration.k8s.io", "v1beta1"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): ("admissionregistration.k8s.io", "v1beta1"),
}


def _storage_hash(group: str, version: str, kind: str) -> str:
    """By which clients tell that the stored version changed (k8s.io/apiserver/pkg/endpoints/discovery)."""
    group, version = _STORED_AS.get((group, kind), (group, version))
    return base64.b64encode(hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()[:8]).decode()


def aggregated(kinds: Kinds, *, core: bool) -> dict[str, Any]:
    """The APIGroupDiscoveryList of /api or /apis."""
    items = [
        {
            "metadata": {"name": group["name"]} if group["name"] else {},
            "versions": [one | {"freshness": "Current"} for one in group["versions"]],
        }
        for group in _groups(kinds)
        if bool(group["name"]) != core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


# OpenAPI version 3

_REFERENCE: Final = "#/components/schemas/"


def _convert(part: Any) -> Any:
    """Convert a published JSON schema to OpenAPI 3.0: no null types, references with something beside them in allOf."""
    if isinstance(part, list):
        return [_convert(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    result: dict[str, Any] = {}
    for key, value in part.items():
        if key == "$ref":
            target = {"$ref": _REFERENCE + value.removeprefix("#/$defs/")}
            result |= {"allOf": [target]} if len(part) > 1 else target
        elif key == "type" and isinstance(value, list):
            result["type"] = next(one for one in value if one != "null")
        elif key == "properties" and isinstance(value, Mapping):
            result["properties"] = {name: _convert(one) for name, one in value.items()}
        else:
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


def definition_name(resource: Resource) -> str | None:
    """The name of a kind's schema in OpenAPI documents; a custom kind's begins with its group, reversed."""
    if resource.custom is None:
        return schemas.definition_name(resource.group, resource.version, resource.kind)
    return f"{'.'.join(reversed(resource.group.split('.')))}.{resource.version}.{resource.kind}"


def _paths(resources: Iterable[Resource], prefix: str) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for one in resources:
        base = f"{prefix}/namespaces/{{namespace}}/{one.plural}" if one.namespaced else f"{prefix}/{one.plural}"
        paths[base] = {"get": _operation(one, "list"), "post": _operation(one, "post")}
        paths[f"{base}/{{name}}"] = {action: _operation(one, action) for action in ("get", "put", "patch", "delete")}
    return paths


def _custom_schema(resource: Resource) -> dict[str, Any]:
    """A custom kind's schema as an OpenAPI definition, before conversion."""
    assert resource.custom is not None
    head = {
        name: {"type": "string", "description": schemas.described("io.k8s.api.core.v1.ConfigMap", name)}
        for name in ("apiVersion", "kind")
    }
    meta = {
        "description": schemas.described("io.k8s.api.core.v1.ConfigMap", "metadata"),
        **schemas.named(f"{schemas.META}.ObjectMeta"),
    }
    schema = resource.custom.schema
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {
        **schema,
        "properties": {**(schema.get("properties") or {}), **head, "metadata": meta},
        "x-kubernetes-group-version-kind": [gvk],
    }


def openapi(kinds: Kinds, group: str, version: str) -> bytes | None:
    """The OpenAPI document of a group and version."""
    custom = [one for one in kinds.custom() if (one.group, one.version) == (group, version)]
    return _document(group, version) if not custom else _documented(group, version, custom)


@cache
def _document(group: str, version: str) -> bytes | None:
    """The OpenAPI document of a group and version without custom kinds."""
    return _documented(group, version, ())


def _documented(group: str, version: str, custom: Sequence[Resource]) -> bytes | None:
    known = (*SERVED.values(), *listed().values())
    resources = [*(one for one in known if (one.group, one.version) == (group, version)), *custom]
    if not resources:
        return None
    names = _named_in(group, version, [one for one in resources if one.custom is None])
    if custom:
        names.append(f"{schemas.META}.ObjectMeta")
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    components = {name: _convert(schemas.published(name)) for name in sorted(schemas.reachable(names))}
    components |= {str(definition_name(one)): _convert(_custom_schema(one)) for one in custom}
    return orjson.dumps(
        {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
            "paths": _paths(resources, prefix),
            "components": {"schemas": components},
        }
    )


_OF_REQUESTS: Final = ("DeleteOptions", "Patch", "Status", "WatchEvent")


def _named_in(group: str, version: str, resources: Sequence[Resource]) -> list[str]:
    """The definitions that the paths of a group and version name: of kinds, lists, subresources, requests."""
    known = schemas.definitions()
    kinds = [name for one in resources if (name := definition_name(one))]
    lists = [f"{name}List" for name in kinds if f"{name}List" in known]
    meta = ["APIResourceList", *(_OF_REQUESTS if lists else ())]
    subresources = [
        name
        for served in _published()
        if served["name"] == group
        for one in (*served["versions"],)
        if one["version"] == version
        for resource in one["resources"]
        for sub in resource.get("subresources", ())
        if (name := schemas.definition_name(*_kind_of(sub["responseKind"], group, version)))
    ]
    return [*kinds, *lists, *subresources, *(f"{schemas.META}.{one}" for one in meta)]


def _kind_of(answered: Mapping[str, str], group: str, version: str) -> tuple[str, str, str]:
    return answered["group"] or group, answered["version"] or version, answered["kind"]


def openapi_index(kinds: Kinds) -> dict[str, Any]:
    paths = {}
    for group, version in group_versions(kinds):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        brought = sorted(
            f"{one.plural} {one.custom.since}"
            for one in kinds.custom()
            if one.custom is not None and (one.group, one.version) == (group, version)
        )
        digest = hashlib.sha256(f"{path}{schemas.VERSION}{len(SERVED)}{brought}".encode()).hexdigest()[:16].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    digest = hashlib.sha256(schemas.VERSION.encode()).hexdigest()[:16].upper()
    paths["version"] = {"serverRelativeURL": f"/openapi/v3/version?hash={digest}"}
    return {"paths": paths}


# OpenAPI version 2


def openapi2(kinds: Kinds) -> dict[str, Any]:
    """The OpenAPI version 2 document of all groups."""
    paths: dict[str, Any] = {}
    names: list[str] = []
    custom = list(kinds.custom())
    for one in (*SERVED.values(), *listed().values(), *custom):
        prefix = f"/apis/{one.group}/{one.version}" if one.group else f"/api/{one.version}"
        paths |= _paths([one], prefix)
        if one.custom is None and (name := definition_name(one)):
            names.append(name)
    names.append(f"{schemas.META}.ObjectMeta")
    definitions = {
        name: openapi2_form.schema(schemas.published(name, defaults=False)) for name in sorted(schemas.reachable(names))
    }
    definitions |= {str(definition_name(one)): openapi2_form.schema(_custom_schema(one)) for one in custom}
    return openapi2_form.document(VERSION["gitVersion"], paths, definitions)
