"""Validation of PersistentVolumeClaims, and of their templates in pods and StatefulSets.

Rules and words are those of k8s.io/kubernetes/pkg/apis/core/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import (
    Causes,
    dns_subdomain,
    each,
    validate_annotations,
    validate_label_selector,
    validate_labels,
)
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

_ACCESS: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_MODES: Final = ("Block", "Filesystem")


def access_modes(modes: list[str], field: str) -> Causes:
    for mode in modes:
        if mode not in _ACCESS:
            yield unsupported(field, mode, _ACCESS)
    if "ReadWriteOncePod" in modes and any(mode in _ACCESS[:3] for mode in modes):
        yield not_allowed(field, "may not use ReadWriteOncePod with other access modes")


def class_name(name: str | None, field: str) -> Causes:
    if name:
        yield from each(field, name, dns_subdomain(name))


def volume_mode(spec: Mapping[str, Any], field: str) -> Causes:
    if spec.get("volumeMode", "Filesystem") not in _MODES:
        yield unsupported(f"{field}.volumeMode", spec["volumeMode"], _MODES)


def claim_spec(spec: Mapping[str, Any], field: str) -> Causes:
    """Validate a claim's spec."""
    modes = spec.get("accessModes") or []
    if not modes:
        yield required(f"{field}.accessModes", "at least 1 access mode is required")
    yield from validate_label_selector(spec.get("selector"), f"{field}.selector")
    yield from access_modes(modes, f"{field}.accessModes")
    amount = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    where = f"{field}.resources[storage]"
    if amount is None:
        yield required(where)
    elif parse_quantity(amount) <= 0:
        yield wrong(where, str(amount), "must be greater than zero")
    yield from class_name(spec.get("storageClassName"), f"{field}.storageClassName")
    yield from volume_mode(spec, field)
    for name in ("dataSource", "dataSourceRef"):
        if (source := spec.get(name)) is not None:
            yield from _data_source(source, f"{field}.{name}")
    yield from class_name(spec.get("volumeAttributesClassName"), f"{field}.volumeAttributesClassName")


def _data_source(source: Mapping[str, Any], field: str) -> Causes:
    for name in ("name", "kind"):
        if not source.get(name):
            yield required(f"{field}.{name}")
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") != "PersistentVolumeClaim":
        words = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        yield wrong(field, source.get("kind", ""), words)
    if group:
        yield from each(f"{field}.apiGroup", group, dns_subdomain(group))


def claim(obj: Object) -> Causes:
    yield from claim_spec(obj["spec"], "spec")


def claim_template(template: Mapping[str, Any], field: str) -> Causes:
    """Validate the template of an ephemeral volume's claim."""
    meta = template.get("metadata") or {}
    yield from validate_annotations(meta.get("annotations") or {}, f"{field}.metadata.annotations")
    yield from validate_labels(meta.get("labels") or {}, f"{field}.metadata.labels")
    yield from claim_spec(template.get("spec") or {}, f"{field}.spec")
