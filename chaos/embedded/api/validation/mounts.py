"""Validation of volumes and mounts: no path leads out of its volume or its container.

The rules and words are those of k8s.io/kubernetes/pkg/apis/core/validation: validateLocalNonReservedPath for files in
a volume, validateLocalDescendingPath for parts of one, validatePathNoBacksteps for paths of the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import dangling, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation import sources
from chaos.embedded.api.validation.claims import claim_template
from chaos.embedded.api.validation.names import Causes
from chaos.embedded.api.validation.references import FILE_FIELDS, field_reference, resource_reference
from chaos.embedded.quantity import parse_quantity

_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_NO_BACKSTEPS: Final = "must not contain '..'"
_HOST_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_SOURCES: Final = ("emptyDir", "hostPath", "secret", "nfs", "persistentVolumeClaim", "downwardAPI", "configMap")
GATED: Final[Mapping[str, tuple[str, ...]]] = {  # paths of sources behind gates that 1.36 leaves shut
    "clusterTrustBundle": ("path",),
    "podCertificate": ("credentialBundlePath", "keyPath", "certificateChainPath"),
}
_PROPAGATION: Final = ("Bidirectional", "HostToContainer", "None")


def local_path(path: str, field: str) -> Causes:
    """Validate a file's path in a volume: relative, without backsteps, not a name that the kubelet reserves."""
    if not path:
        yield required(field)
    yield from descending_path(path, field)
    if path.startswith("..") and ".." not in path.split("/"):
        yield wrong(field, path, "must not start with '..'")
    elif path and path.split("/")[-1] in ("", "."):
        yield wrong(field, path, "must name a file")


def descending_path(path: str, field: str) -> Causes:
    """Validate a path of a part of a volume."""
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


def volume_source(volume: Mapping[str, Any], where: str, *, of_pod: bool = True) -> Causes:
    """Validate the source of a pod's volume, or a PersistentVolume's, at the path `where`."""
    kinds = [kind for kind in (*_SOURCES, *(key for key in volume if key not in (*_SOURCES, "name"))) if kind in volume]
    for kind in kinds[1:]:
        yield not_allowed(f"{where}.{kind}", "may not specify more than 1 volume type")
    if not kinds:
        yield required(where, "must specify a volume type")
        return
    kind, source, field = kinds[0], volume[kinds[0]], f"{where}.{kinds[0]}"
    if kind == "hostPath":
        yield from _host_path(source, field)
    elif kind == "emptyDir":
        if parse_quantity(source.get("sizeLimit", 0)) < 0:
            yield not_allowed(f"{field}.sizeLimit", "SizeLimit field must be a valid resource quantity")
    elif kind in ("configMap", "secret"):
        name = "name" if kind == "configMap" else "secretName"
        if not source.get(name):
            yield required(f"{field}.{name}")
        yield from file_mode(source, "defaultMode", field)
        yield from _keys(source, field)
    elif kind == "downwardAPI":
        yield from file_mode(source, "defaultMode", field)
        for item in source.get("items") or []:
            yield from _file(item, field)
    elif kind == "projected":
        yield from _projected(source, field)
    else:
        yield from sources.check(kind, source, where, of_pod=of_pod)
        if kind == "ephemeral" and source.get("volumeClaimTemplate"):
            yield from claim_template(source["volumeClaimTemplate"], f"{field}.volumeClaimTemplate")
        if kind == "gitRepo":
            yield from descending_path(source.get("directory") or "", f"{field}.directory")


def _host_path(source: Mapping[str, Any], field: str) -> Causes:
    path = source.get("path") or ""
    if not path:
        yield required(f"{field}.path")
        return
    yield from no_backsteps(path, f"{field}.path")
    if (source.get("type") or "") not in _HOST_TYPES:
        yield unsupported(f"{field}.type", source["type"], _HOST_TYPES)


def _keys(source: Mapping[str, Any], where: str) -> Causes:
    for index, item in enumerate(source.get("items") or []):
        yield from _key(item, f"{where}.items[{index}]")


def _key(item: Mapping[str, Any], where: str) -> Causes:
    if not item.get("key"):
        yield required(f"{where}.key")
    yield from local_path(item.get("path") or "", f"{where}.path")
    yield from file_mode(item, "mode", where)


def _file(item: Mapping[str, Any], field: str) -> Causes:
    """Validate one file of the downward API, without its index in the path, as Kubernetes does."""
    yield from local_path(item.get("path") or "", f"{field}.path")
    if "fieldRef" in item:
        yield from field_reference(item["fieldRef"], f"{field}.fieldRef", FILE_FIELDS)
        if "resourceFieldRef" in item:
            yield wrong(field, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif "resourceFieldRef" in item:
        yield from resource_reference(item["resourceFieldRef"], f"{field}.resourceFieldRef", in_volume=True)
    else:
        yield required(field, "one of fieldRef and resourceFieldRef is required")
    yield from file_mode(item, "mode", field)


def _projected(projected: Mapping[str, Any], where: str) -> Causes:
    yield from file_mode(projected, "defaultMode", where)
    taken: set[str] = set()
    for index, source in enumerate(projected.get("sources") or []):
        field = f"{where}.sources[{index}]"
        for kind in ("secret", "configMap"):
            if (body := source.get(kind)) is not None:
                if not body.get("name"):
                    yield required(f"{field}.{kind}.name")
                for number, item in enumerate(body.get("items") or []):
                    yield from _key(item, f"{field}.{kind}.items[{number}]")
                    yield from _conflict(item.get("path", ""), taken, where, body.get("name", ""))
        if (body := source.get("downwardAPI")) is not None:
            for item in body.get("items") or []:
                yield from _file(item, f"{field}.downwardAPI")
                yield from _conflict(item.get("path", ""), taken, where, item.get("path", ""))
        if (token := source.get("serviceAccountToken")) is not None:
            yield from _token(token, f"{field}.serviceAccountToken", where)
        for kind in GATED:
            yield from gated_paths(source, kind, field)
        if len([kind for kind in source if source[kind] is not None]) > 1:
            yield not_allowed(field, "may not specify more than 1 volume type per source")


def gated_paths(source: Mapping[str, Any], kind: str, where: str) -> Causes:
    """Validate the paths of a source behind a shut gate, the source of a projected volume being at `where`."""
    body = source.get(kind)
    if body is None:
        return
    for name in GATED[kind]:
        if kind == "clusterTrustBundle" or body.get(name):  # a bundle of trust has to have its path
            yield from local_path(body.get(name) or "", f"{where}.{kind}.{name}")


def _conflict(path: str, taken: set[str], field: str, shown: str) -> Causes:
    if path and path in taken:
        yield wrong(field, shown, "conflicting duplicate paths")
    taken.add(path)


def _token(token: Mapping[str, Any], field: str, volume: str) -> Causes:
    seconds = token.get("expirationSeconds", 3600)
    if seconds < 600:
        yield wrong(f"{field}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > 1 << 32:
        yield wrong(f"{field}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    yield from local_path(token.get("path") or "", f"{volume}.path")


def volume_mounts(container: Mapping[str, Any], field: str, volumes: Mapping[str, Any]) -> Causes:
    """Validate a container's volumeMounts against the pod's volumes."""
    devices = {one.get("name"): one.get("devicePath") for one in container.get("volumeDevices") or []}
    seen: set[str] = set()
    for index, one in enumerate(container.get("volumeMounts") or []):
        where, name, path = f"{field}[{index}]", one.get("name", ""), one.get("mountPath", "")
        if not name:
            yield required(f"{where}.name")
        if name not in volumes:
            yield dangling(f"{where}.name", name)
        if not path:
            yield required(f"{where}.mountPath")
        if path in seen:
            yield wrong(f"{where}.mountPath", path, "must be unique")
        seen.add(path)
        if name in devices:
            yield wrong(f"{where}.name", name, "must not already exist in volumeDevices")
        if path in devices.values():
            yield wrong(f"{where}.mountPath", path, "must not already exist as a path in volumeDevices")
        yield from mount(one, where, field, container)


def volume_devices(container: Mapping[str, Any], field: str, volumes: Mapping[str, Any]) -> Causes:
    for index, one in enumerate(container.get("volumeDevices") or []):
        where, name, path = f"{field}[{index}]", one.get("name", ""), one.get("devicePath", "")
        if not name:
            yield required(f"{where}.name")
        if name not in volumes:
            yield dangling(f"{where}.name", name)
        elif not volumes[name].keys() & {"persistentVolumeClaim", "ephemeral"}:
            words = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield wrong(f"{where}.name", name, words)
        if not path:
            yield required(f"{where}.devicePath")
        elif ".." in path.split("/"):
            yield wrong(f"{where}.devicePath", path, "can not contain backsteps ('..')")


def mount(one: Mapping[str, Any], where: str, field: str, container: Mapping[str, Any]) -> Causes:
    """Validate one volumeMount at `where` of the list `field`; errors of its parts name the list, as in Kubernetes."""
    part, expression = one.get("subPath") or "", one.get("subPathExpr") or ""
    yield from descending_path(part, f"{field}.subPath")
    if part and expression:
        yield wrong(f"{where}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
    yield from descending_path(expression, f"{field}.subPathExpr")
    way = one.get("mountPropagation")
    if way is not None and way not in _PROPAGATION:
        yield unsupported(f"{field}.mountPropagation", way, _PROPAGATION)
    if way == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        words = "Bidirectional mount propagation is available only to privileged containers"
        yield not_allowed(f"{field}.mountPropagation", words)
    deep = one.get("recursiveReadOnly")
    if deep in ("Enabled", "IfPossible"):
        if not one.get("readOnly"):
            yield not_allowed(f"{field}.recursiveReadOnly", "may only be specified when readOnly is true")
        if way not in (None, "None"):
            words = "may only be specified when mountPropagation is None or not specified"
            yield not_allowed(f"{field}.recursiveReadOnly", words)
    elif deep not in (None, "Disabled"):
        yield unsupported(f"{field}.recursiveReadOnly", deep, ("Disabled", "Enabled", "IfPossible"))
