"""Validation of references to pod fields, in environment variables and downward API files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import required, unsupported, wrong
from chaos.embedded.api.validation.names import Causes, each, qualified

ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_ALL_FIELDS: Final = frozenset({*ENV_FIELDS, "metadata.annotations", "metadata.labels", "spec.restartPolicy"}) | {
    "spec.schedulerName",
    "status.phase",
    "spec.host",
}
FILE_FIELDS: Final = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_AMOUNTS: Final = tuple(
    f"{part}.{name}" for part in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory")
)
_BYTES: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def field_reference(reference: Mapping[str, Any], field: str, known: tuple[str, ...]) -> Causes:
    """Validate a `fieldRef`, of an environment variable or of a file (FILE_FIELDS)."""
    path = reference.get("fieldPath", "")
    if not path:
        yield required(f"{field}.fieldPath")
        return
    if reference.get("apiVersion", "v1") != "v1":
        words = f"error converting fieldPath: unsupported pod version: {reference['apiVersion']}"
        yield wrong(f"{field}.fieldPath", path, words)
        return
    base, bracket, rest = path.partition("['")
    if bracket and rest.endswith("']"):
        if base not in ("metadata.annotations", "metadata.labels"):
            words = f"error converting fieldPath: field label does not support subscript: {path}"
            yield wrong(f"{field}.fieldPath", path, words)
            return
        key = rest.removesuffix("']")
        key = key.lower() if base == "metadata.annotations" else key
        yield from each(field, key, qualified(key))
    elif path not in _ALL_FIELDS:
        yield wrong(f"{field}.fieldPath", path, f"error converting fieldPath: field label not supported: {path}")
    elif path not in known:
        yield unsupported(f"{field}.fieldPath", path, known)


def resource_reference(reference: Mapping[str, Any], field: str, *, in_volume: bool) -> Causes:
    """Validate a `resourceFieldRef`."""
    name = reference.get("resource", "")
    if in_volume and not reference.get("containerName"):
        yield required(f"{field}.containerName")
    elif not name:
        yield required(f"{field}.resource")
    elif name not in _AMOUNTS and not name.startswith(("requests.hugepages-", "limits.hugepages-")):
        yield unsupported(f"{field}.resource", name, _AMOUNTS)
    divisor = str(reference.get("divisor", "0"))
    if divisor == "0":
        return
    if name.endswith(".cpu"):
        if divisor not in ("1m", "1"):
            yield wrong(f"{field}.divisor", name, "only divisor's values 1m and 1 are supported with the cpu resource")
        return
    kinds = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}
    kind = kinds.get(name.partition(".")[2], "hugepages" if ".hugepages-" in name else "")
    if kind and divisor not in _BYTES:
        words = f"only divisor's values {', '.join(_BYTES)} are supported with the {kind} resource"
        yield wrong(f"{field}.divisor", name, words)
