"""CustomResourceDefinitions: defaults, validation, and the rows of kinds that they define.

Pure (k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1/defaults.go, .../validation, .../controller/status).
Called by admission; the controller of established definitions calls `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api.custom import fits, structural
from chaos.embedded.api.custom.values import additional
from chaos.embedded.api.errors import Cause, duplicate, not_allowed, required, too_many, unsupported, wrong
from chaos.embedded.api.validation.names import dns_1035, dns_subdomain
from chaos.embedded.objects import is_true
from chaos.embedded.resources import Custom, Object, Resource

Json = dict[str, Any]
Causes = Iterator[Cause]
VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MOST_SELECTABLE: Final = 8
_APPROVED: Final = "api-approved.kubernetes.io"
NO_WEBHOOK: Final = "conversion by webhook is not served by the embedded cluster: use the strategy None"


def apply_defaults(obj: Json) -> None:
    """Set default names, conversion and stored versions."""
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("listKind", f"{names['kind']}List")
        names.setdefault("singular", names["kind"].lower())
    spec.setdefault("conversion", {"strategy": "None"})
    for version in spec.get("versions") or []:
        for name in ("served", "storage"):
            version.setdefault(name, False)
        for column in version.get("additionalPrinterColumns") or []:
            if not column.get("priority", 1):
                del column["priority"]  # Kubernetes omits it


def note_stored_version(obj: Json) -> None:
    """Add the storage version to `storedVersions`."""
    status = obj.setdefault("status", {})
    held = status.setdefault("storedVersions", [])
    for version in obj["spec"].get("versions") or []:
        if version.get("storage"):
            if version.get("name") not in held:
                held.append(version.get("name"))
            return


def fresh_status() -> Json:
    """The initial status of a definition."""
    return {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []}


def validate(obj: Object) -> Causes:
    """Validate a definition that has its defaults."""
    spec, meta = obj.get("spec") or {}, obj["metadata"]
    names = spec.get("names") or {}
    if meta.get("name") and meta["name"] != f"{names.get('plural', '')}.{spec.get('group', '')}":
        yield wrong("metadata.name", meta["name"], 'must be spec.names.plural+"."+spec.group')
    group = spec.get("group", "")
    if not group:
        yield required("spec.group")
    elif faults := dns_subdomain(group):
        yield wrong("spec.group", group, ",".join(faults))
    elif "." not in group:
        yield wrong("spec.group", group, "should be a domain with at least one dot")
    scope = spec.get("scope", "")
    if not scope:
        yield required("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield unsupported("spec.scope", scope, ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield wrong("spec.preserveUnknownFields", True, why)
    yield from _versions(spec)
    for name in ("plural", "singular", "kind", "listKind"):
        if not names.get(name):
            yield required(f"spec.names.{name}")
    yield from _names(names)
    yield from _common(spec.get("versions") or ())
    yield from _conversion(spec.get("conversion") or {})
    yield from _stored(spec.get("versions") or ())
    yield from _approval(group, meta)


def _versions(spec: Mapping[str, Any]) -> Causes:
    versions: Sequence[Mapping[str, Any]] = spec.get("versions") or []
    for index, version in enumerate(versions):
        where = f"spec.versions[{index}]"
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            yield required(f"{where}.schema.openAPIV3Schema")
    parts = {name: check for name, check in _PARTS.items() if not _is_common(versions, name)}
    for index, version in enumerate(versions):
        where, name = f"spec.versions[{index}]", version.get("name", "")
        if faults := dns_1035(name):
            yield wrong(f"{where}.name", name, ",".join(faults))
        yield from _deprecation(version, where)
        for part, check in parts.items():
            yield from check(version, f"{where}.{part}")
    names = [version.get("name") for version in versions]
    if len(set(names)) != len(names):
        yield wrong("spec.versions", list(versions), "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        words = "must have exactly one version marked as storage version"
        yield wrong("spec.versions", [_shown(one, alone=len(versions) == 1) for one in versions] or None, words)
    if names and names[0] and (faults := dns_1035(names[0])):  # the first one is also the version of v1beta1's form
        yield wrong("spec.version", names[0], ",".join(faults))


def _stored(versions: Sequence[Mapping[str, Any]]) -> Causes:
    """Validate what `note_stored_version` makes of the versions: the first storage version alone is noted."""
    storage = [version.get("name", "") for version in versions if version.get("storage")]
    if not storage:
        yield wrong("status.storedVersions", None, "must have at least one stored version")
    for name in storage[1:]:
        yield wrong("status.storedVersions", storage[:1], f"must have the storage version {name}")


def _is_common(versions: Sequence[Mapping[str, Any]], part: str) -> bool:
    """Whether all versions have the same, which Kubernetes then takes for the whole definition's."""
    return all(version.get(part) == versions[0].get(part) for version in versions)


def _common(versions: Sequence[Mapping[str, Any]]) -> Causes:
    for part, check in _PARTS.items():
        if versions and _is_common(versions, part):
            yield from check(versions[0], f"spec.{'validation' if part == 'schema' else part}")


def _deprecation(version: Mapping[str, Any], where: str) -> Causes:
    warning = version.get("deprecationWarning")
    if warning is not None:
        field = f"{where}.deprecationWarning"
        if not version.get("deprecated"):
            yield wrong(field, warning, "can only be set for deprecated versions")
        if len(warning) > 256:
            yield wrong(field, warning, "must be <= 256 characters long")
        if not warning:
            yield wrong(field, warning, "must not be an empty string")
        for index, char in enumerate(warning):
            if not char.isprintable():
                why = f"must only contain printable UTF-8 characters; non-printable character found at index {index}"
                yield wrong(field, warning, why)
                break


def _open_schema(version: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return (version.get("schema") or {}).get("openAPIV3Schema")


def _schema(version: Mapping[str, Any], where: str) -> Causes:
    schema, status = _open_schema(version), (version.get("subresources") or {}).get("status")
    if schema is not None:
        yield from structural.faults(schema, f"{where}.openAPIV3Schema", status=status is not None)


def _subresources(version: Mapping[str, Any], where: str) -> Causes:
    if (scale := (version.get("subresources") or {}).get("scale")) is not None:
        yield from _scale(scale, f"{where}.scale")


def _columns(version: Mapping[str, Any], where: str) -> Causes:
    for index, column in enumerate(version.get("additionalPrinterColumns") or []):
        yield from _column(column, f"{where}[{index}]")


def _selectables(version: Mapping[str, Any], where: str) -> Causes:
    schema = _open_schema(version)
    if not (selectable := version.get("selectableFields")):
        return
    if schema is None:
        yield wrong(where, "", "may only be set when `version.schema.openAPIV3Schema` is not included")
    else:
        yield from _selectable(selectable, schema, where)


_PARTS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Causes]]] = {
    "schema": _schema,
    "subresources": _subresources,
    "additionalPrinterColumns": _columns,
    "selectableFields": _selectables,
}


def _simple_path(path: str, field: str) -> Causes:
    if not path.startswith("."):
        yield wrong(field, path, "must be a simple json path starting with .")


def _scale(scale: Mapping[str, Any], where: str) -> Causes:
    for name, under in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        path = scale.get(name, "")
        if not path:
            yield required(f"{where}.{name}")
        elif faults := list(_simple_path(path, f"{where}.{name}")):
            yield from faults
        elif not path.startswith(under):
            yield wrong(f"{where}.{name}", path, f"should be a json path under {under[:-1]}")
    if path := scale.get("labelSelectorPath"):
        field = f"{where}.labelSelectorPath"
        if faults := list(_simple_path(path, field)):
            yield from faults
        elif not path.startswith((".spec.", ".status.")):
            yield wrong(field, path, "should be a json path under either .spec or .status")


def _column(column: Mapping[str, Any], where: str) -> Causes:
    if not column.get("name"):
        yield required(f"{where}.name")
    kinds = ",".join(_COLUMN_TYPES)
    if not column.get("type"):
        yield required(f"{where}.type", f"must be one of {kinds}")
    elif column["type"] not in _COLUMN_TYPES:
        yield wrong(f"{where}.type", column["type"], f"must be one of {kinds}")
    if (form := column.get("format")) and form not in _COLUMN_FORMATS:
        yield wrong(f"{where}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not column.get("jsonPath"):
        yield required(f"{where}.JSONPath")
    else:
        yield from _simple_path(column["jsonPath"], f"{where}.JSONPath")


_SHOWN: Final = (  # of a version, in the order of Kubernetes' internal type, with what stands for nothing
    ("name", ""),
    ("served", False),
    ("storage", False),
    ("deprecated", False),
    ("deprecationWarning", None),
    ("schema", None),
    ("subresources", None),
    ("additionalPrinterColumns", None),
    ("selectableFields", None),
)
_OF_ALL: Final = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def _shown(version: Mapping[str, Any], *, alone: bool) -> dict[str, Any]:
    """A version as messages show it; what all versions have is not the one version's there."""
    return {
        name[:1].upper() + name[1:]: nothing if alone and name in _OF_ALL else version.get(name, nothing)
        for name, nothing in _SHOWN
    }


def _selectable(fields: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], where: str) -> Causes:
    seen: set[str] = set()
    for index, one in enumerate(fields):
        field, path = f"{where}[{index}].jsonPath", one.get("jsonPath", "")
        if not path:
            yield required(field)
            continue
        found = structural.field_of(schema, path, keys=False)
        if found is None:
            why = "array notation is not allowed" if "[" in path else "does not refer to a valid field"
            if path[0] not in ".[":
                why = f"expected [ or . but got: {path}"
            yield wrong(field, path, f"is an invalid path: {why}")
            continue
        if path.startswith(".metadata"):
            yield wrong(field, path, "must not point to fields in metadata")
        if found.get("type") not in ("string", "boolean", "integer"):
            why = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
            )
            yield wrong(field, path, f"{why}are allowed.")
        if path in seen:
            yield duplicate(field, path)
        seen.add(path)
    if len(seen) > _MOST_SELECTABLE:
        yield too_many(where, len(seen), _MOST_SELECTABLE)


def _names(names: Mapping[str, Any]) -> Causes:
    for name in ("plural", "singular", "kind", "listKind"):
        value = names.get(name) or ""
        mixed = name in ("kind", "listKind")
        faults = dns_1035(value.lower() if mixed else value) if value else []
        if faults:
            start = "may have mixed case, but should otherwise match: " if mixed else ""
            yield wrong(f"spec.names.{name}", value, start + ",".join(faults))
    for name in ("shortNames", "categories"):
        for index, value in enumerate(names.get(name) or []):
            if faults := dns_1035(value):
                yield wrong(f"spec.names.{name}[{index}]", value, ",".join(faults))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield wrong("spec.names.listKind", names["listKind"], "kind and listKind may not be the same")


def _conversion(conversion: Mapping[str, Any]) -> Causes:
    strategy = conversion.get("strategy", "")
    if not strategy:
        yield required("spec.conversion.strategy")
    elif strategy == "Webhook":
        yield not_allowed("spec.conversion.strategy", NO_WEBHOOK)
    elif strategy != "None":
        yield unsupported("spec.conversion.strategy", strategy, ("None", "Webhook"))
    elif conversion.get("webhook"):
        yield not_allowed(
            "spec.conversion.webhookClientConfig", "should not be set when strategy is not set to Webhook"
        )


def _approval(group: str, meta: Mapping[str, Any]) -> Causes:
    """Validate the approval annotation of groups that belong to the Kubernetes community."""
    if not (group == "k8s.io" or group.endswith((".k8s.io", ".kubernetes.io")) or group == "kubernetes.io"):
        return
    field = f"metadata.annotations[{_APPROVED}]"
    given = (meta.get("annotations") or {}).get(_APPROVED, "")
    about = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not given:
        yield required(field, f'protected groups must have approval annotation "{_APPROVED}", {about}')
    elif not (given.startswith("unapproved") or ("://" in given and len(given.partition("://")[2]) > 0)):
        why = (
            f'protected groups must have approval annotation "{_APPROVED}" with either a URL or a reason starting with '
        )
        yield wrong(field, given, f'{why}"unapproved", {about}')


def changes(old: Object, new: Object) -> Causes:
    """Validate a definition's update."""
    before, after = old["spec"], new["spec"]
    immutable = "field is immutable"
    if established(old):
        if before.get("scope") != after.get("scope"):
            yield wrong("spec.scope", after.get("scope"), immutable)
        if before["names"].get("kind") != after["names"].get("kind"):
            yield wrong("spec.names.kind", after["names"].get("kind"), immutable)
    if before.get("group") != after.get("group"):
        yield wrong("spec.group", after.get("group"), immutable)
    if before["names"].get("plural") != after["names"].get("plural"):
        yield wrong("spec.names.plural", after["names"].get("plural"), immutable)
    known = {version.get("name") for version in after.get("versions") or []}
    for index, name in enumerate((old.get("status") or {}).get("storedVersions") or []):
        if name not in known:
            yield wrong(
                f"status.storedVersions[{index}]",
                name,
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions",
            )


def warnings(obj: Object) -> list[str]:
    """Warnings about unknown formats."""
    found: dict[str, None] = {}
    for version in obj["spec"].get("versions") or []:
        for form in _forms((version.get("schema") or {}).get("openAPIV3Schema") or {}):
            found[f'unrecognized format "{form}"'] = None
    return list(found)


def _forms(schema: Mapping[str, Any]) -> Iterator[str]:
    form, kind = schema.get("format"), schema.get("type", "")
    if form and not fits.is_known_form(form, kind):
        yield form
    for one in (schema.get("properties") or {}).values():
        yield from _forms(one)
    for below in (schema.get("items"), additional(schema)):
        if isinstance(below, Mapping):
            yield from _forms(below)


def established(obj: Object) -> bool:
    """Whether the kind is or has been served."""
    return is_true(obj, "Established")


def rows(obj: Object) -> list[Resource]:
    """The kinds of a definition, one row per version; the storage version first.

    Names are the accepted ones.
    """
    spec, status = obj["spec"], obj.get("status") or {}
    names = status.get("acceptedNames") or {}
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    found = [_row(obj, spec, names, version, storage) for version in spec["versions"]]
    return sorted(found, key=lambda one: one.version != storage)


def _row(
    obj: Object, spec: Mapping[str, Any], names: Mapping[str, Any], version: Mapping[str, Any], storage: str
) -> Resource:
    subresources = version.get("subresources") or {}
    has = tuple(name for name in ("status", "scale") if subresources.get(name) is not None)
    columns = version.get("additionalPrinterColumns")
    warning = ""
    if version.get("deprecated"):
        known = f"{spec['group']}/{version['name']} {names.get('kind', '')} is deprecated"
        warning = version.get("deprecationWarning") or known
    custom = Custom(
        schema=version["schema"]["openAPIV3Schema"],
        storage=storage,
        served=bool(version.get("served")),
        singular=names.get("singular", ""),
        list_kind=names.get("listKind", ""),
        categories=tuple(names.get("categories") or ()),
        columns=tuple(columns or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},)),
        selectable=tuple(one["jsonPath"].removeprefix(".") for one in version.get("selectableFields") or ()),
        scale=subresources.get("scale"),
        warning=warning,
        since=int(obj["metadata"].get("resourceVersion") or 0),
    )
    return Resource(
        spec["group"],
        version["name"],
        names["kind"],
        names["plural"],
        spec["scope"] == "Namespaced",
        tuple(names.get("shortNames") or ()),
        has,
        tuple(verb for verb in VERBS if verb != "create" or "deletionTimestamp" not in obj["metadata"]),
        custom=custom,
    )
