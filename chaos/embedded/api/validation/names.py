"""Names, labels and selectors: what every object's metadata must keep to, each rule in Kubernetes' own words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, not_allowed, required, wrong
from chaos.embedded.resources import Resource

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")

LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*"
    "[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_DNS1035_RULE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and "
    "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
QUALIFIED_RULE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_FREE_NAMES: Final = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")

Causes = Iterator[Cause]


def validate_meta(resource: Resource, meta: Mapping[str, Any]) -> Causes:
    """Name, labels, annotations, owner references, finalizers."""
    name, generated = meta.get("name"), meta.get("generateName")
    if not name and not generated:
        yield required("metadata.name", "name or generateName is required")
    elif name:
        yield from _object_name(resource, name)
    elif len(generated or "") > 250 or (resource.kind not in _FREE_NAMES and not SUBDOMAIN.fullmatch(f"{generated}x")):
        yield wrong("metadata.generateName", generated, SUBDOMAIN_RULE)
    yield from validate_labels(meta.get("labels") or {}, "metadata.labels")
    size = 0
    for key, value in (meta.get("annotations") or {}).items():
        size += len(key) + len(value)
        if not is_qualified(key.lower()):
            yield wrong("metadata.annotations", key, QUALIFIED_RULE)
    if size > 256 * 1024:
        yield Cause("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes")
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield wrong(f"metadata.ownerReferences[{index}].{field}", "", "must not be empty")
    if sum(bool(owner.get("controller")) for owner in meta.get("ownerReferences") or []) > 1:
        yield wrong(
            "metadata.ownerReferences",
            len(meta["ownerReferences"]),
            "Only one reference can have Controller set to true",
        )
    for finalizer in meta.get("finalizers") or []:
        if not is_qualified(finalizer):
            yield wrong("metadata.finalizers", finalizer, QUALIFIED_RULE)


def _object_name(resource: Resource, name: str) -> Causes:
    if resource.kind in _FREE_NAMES:
        if "/" in name or "%" in name or name in (".", ".."):
            yield wrong("metadata.name", name, "may not be '.' or '..' and may not contain '/' or '%'")
    elif resource.kind == "Service":
        if not _DNS1035.fullmatch(name) or len(name) > 63:
            yield wrong("metadata.name", name, _DNS1035_RULE)
    elif resource.kind == "Namespace":
        if not LABEL.fullmatch(name) or len(name) > 63:
            yield wrong("metadata.name", name, LABEL_RULE)
    elif not SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield wrong("metadata.name", name, SUBDOMAIN_RULE)


def is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and len(name) <= 63 and (not slash or bool(SUBDOMAIN.fullmatch(prefix)))


def validate_label(name: str, field: str) -> Causes:
    if not name:
        yield required(field)
    elif not LABEL.fullmatch(name) or len(name) > 63:
        yield wrong(field, name, LABEL_RULE)


def validate_labels(labels: Mapping[str, str], field: str) -> Causes:
    for key, value in labels.items():
        if not is_qualified(key):
            yield wrong(field, key, QUALIFIED_RULE)
        if value and (not _QUALIFIED.fullmatch(value) or len(value) > 63):
            yield wrong(field, value, _LABEL_VALUE_RULE)


def validate_label_selector(selector: Mapping[str, Any], field: str) -> Causes:
    yield from validate_labels(selector.get("matchLabels") or {}, f"{field}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions") or []):
        where, operator = f"{field}.matchExpressions[{index}]", item.get("operator")
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not item.get("values"):
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and item.get("values"):
            yield not_allowed(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
