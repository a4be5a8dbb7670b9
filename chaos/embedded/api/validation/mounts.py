"""Where the files of volumes lie, and where containers see them: no path leads out of its volume or its container.

The rules and words are those of k8s.io/kubernetes/pkg/apis/core/validation: validateLocalNonReservedPath for files in
a volume, validateLocalDescendingPath for parts of one, validatePathNoBacksteps for paths of the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import Causes
from chaos.embedded.quantity import parse_quantity

_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_NO_BACKSTEPS: Final = "must not contain '..'"
_HOST_TYPES: Final = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
_PROPAGATION: Final = ("Bidirectional", "HostToContainer", "None")


def local_path(path: str, field: str) -> Causes:
    """A file's place in a volume: relative, without backsteps, not one of the names that the kubelet uses."""
    if not path:
        yield required(field)
        return
    yield from descending_path(path, field)
    if path.startswith("..") and ".." not in path.split("/"):
        yield wrong(field, path, "must not start with '..'")
    elif path.split("/")[-1] in ("", "."):
        yield wrong(field, path, "must name a file")


def descending_path(path: str, field: str) -> Causes:
    """A part of a volume."""
    if path.startswith("/"):
        yield wrong(field, path, "must be a relative path")
    yield from no_backsteps(path, field)


def no_backsteps(path: str, field: str) -> Causes:
    if ".." in path.split("/"):
        yield wrong(field, path, _NO_BACKSTEPS)


def file_mode(holder: Mapping[str, Any], name: str, field: str) -> Causes:
    mode = holder.get(name)
    if mode is not None and not 0 <= mode <= 0o777:
        yield wrong(f"{field}.{name}", mode, _MODE)


def volume_source(volume: Mapping[str, Any], where: str) -> Causes:
    """What a volume is made of, in its place `where`."""
    if (host := volume.get("hostPath")) is not None:
        if not host.get("path"):
            yield required(f"{where}.hostPath.path")
        yield from no_backsteps(host.get("path") or "", f"{where}.hostPath.path")
        if host.get("path") and not host["path"].startswith("/"):
            yield wrong(f"{where}.hostPath.path", host["path"], "must be an absolute path")
        if (host.get("type") or "") not in _HOST_TYPES:
            yield unsupported(f"{where}.hostPath.type", host["type"], _HOST_TYPES)
    if (empty := volume.get("emptyDir")) is not None:
        if empty.get("medium", "") not in ("", "Memory") and not str(empty["medium"]).startswith("HugePages"):
            yield unsupported(f"{where}.emptyDir.medium", empty["medium"], ("", "Memory"))
        if "sizeLimit" in empty:
            yield from _size(empty["sizeLimit"], f"{where}.emptyDir.sizeLimit")
    for kind in ("configMap", "secret"):
        if (source := volume.get(kind)) is not None:
            name = "name" if kind == "configMap" else "secretName"
            if not source.get(name):
                yield required(f"{where}.{kind}.{name}")
            yield from file_mode(source, "defaultMode", f"{where}.{kind}")
            yield from _keys(source, f"{where}.{kind}")
    if (source := volume.get("downwardAPI")) is not None:
        yield from file_mode(source, "defaultMode", f"{where}.downwardAPI")
        yield from _fields(source, f"{where}.downwardAPI")
    if (projected := volume.get("projected")) is not None:
        yield from _projected(projected, f"{where}.projected")


def _size(value: Any, field: str) -> Causes:
    try:
        if parse_quantity(value) < 0:
            yield wrong(field, str(value), "must be greater than or equal to 0")
    except (ValueError, OverflowError):
        yield wrong(field, value, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*)$'")


def _keys(source: Mapping[str, Any], where: str) -> Causes:
    for index, item in enumerate(source.get("items") or []):
        if not item.get("key"):
            yield required(f"{where}.items[{index}].key")
        yield from local_path(item.get("path") or "", f"{where}.items[{index}].path")
        yield from file_mode(item, "mode", f"{where}.items[{index}]")


def _fields(source: Mapping[str, Any], where: str) -> Causes:
    for index, item in enumerate(source.get("items") or []):
        field = f"{where}.items[{index}]"
        yield from local_path(item.get("path") or "", f"{field}.path")
        yield from file_mode(item, "mode", field)
        if item.get("fieldRef") and item.get("resourceFieldRef"):
            yield wrong(field, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
        elif not item.get("fieldRef") and not item.get("resourceFieldRef"):
            yield required(field, "one of fieldRef and resourceFieldRef is required")


def _projected(projected: Mapping[str, Any], where: str) -> Causes:
    yield from file_mode(projected, "defaultMode", where)
    taken: set[str] = set()
    for index, source in enumerate(projected.get("sources") or []):
        field = f"{where}.sources[{index}]"
        kinds = [kind for kind in source if source[kind] is not None]
        if len(kinds) > 1:
            yield not_allowed(field, "may not specify more than 1 volume type")
        paths: list[str] = []
        for kind in ("configMap", "secret"):
            if (body := source.get(kind)) is not None:
                if not body.get("name"):
                    yield required(f"{field}.{kind}.name")
                yield from _keys(body, f"{field}.{kind}")
                paths += [item.get("path") or "" for item in body.get("items") or []]
        if (body := source.get("downwardAPI")) is not None:
            yield from _fields(body, f"{field}.downwardAPI")
            paths += [item.get("path") or "" for item in body.get("items") or []]
        if (token := source.get("serviceAccountToken")) is not None:
            seconds = token.get("expirationSeconds", 3600)
            if seconds < 600:
                yield wrong(
                    f"{field}.serviceAccountToken.expirationSeconds",
                    seconds,
                    "may not specify a duration less than 10 minutes",
                )
            elif seconds > 1 << 32:
                yield wrong(
                    f"{field}.serviceAccountToken.expirationSeconds",
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                )
            yield from local_path(token.get("path") or "", f"{field}.serviceAccountToken.path")
            paths.append(token.get("path") or "")
        for path in paths:
            if path and path in taken:
                yield duplicate(f"{field}.path", path)
            taken.add(path)


def mount(mount: Mapping[str, Any], where: str) -> Causes:
    """One of a container's volumeMounts."""
    path = mount.get("mountPath") or ""
    if ":" in path:
        yield wrong(f"{where}.mountPath", path, "must not contain ':'")
    yield from no_backsteps(path, f"{where}.mountPath")
    part, expression = mount.get("subPath") or "", mount.get("subPathExpr") or ""
    if part and expression:
        yield wrong(f"{where}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
    yield from descending_path(part, f"{where}.subPath")
    yield from descending_path(expression, f"{where}.subPathExpr")
    if mount.get("mountPropagation", "None") not in _PROPAGATION:
        yield unsupported(f"{where}.mountPropagation", mount["mountPropagation"], _PROPAGATION)


def message_path(container: Mapping[str, Any], where: str) -> Causes:
    path = container.get("terminationMessagePath") or ""
    yield from no_backsteps(path, f"{where}.terminationMessagePath")
    if path and not path.startswith("/"):
        yield wrong(f"{where}.terminationMessagePath", path, "must be an absolute path")
