"""Validation of the kinds of volumes that only a storage system outside could serve: a table of rules, a row a kind.

The rules and words are those of k8s.io/kubernetes/pkg/apis/core/validation. No such volume is mounted here, and none is
accepted that Kubernetes refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import not_allowed, required, too_long, unsupported, wrong
from chaos.embedded.api.validation.names import Causes, dns_subdomain, each

Rule = Callable[[Mapping[str, Any], str], Causes]  # a volume's source, and its path

_ISCSI: Final = re.compile(
    r"iqn\.\d{4}-\d{2}\.[A-Za-z0-9.-]+(:[^,;*&$|\s]+)|eui.[A-Za-z0-9]{16}|naa.[A-Za-z0-9]{32}", re.ASCII
)
_HOST_PORT: Final = re.compile(r"[^:]+:[^:]+|\[[^\]]+\]:[^:]+")
_MANAGED_DISK: Final = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_DISK: Final = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def needed(*names: str, detail: str = "") -> Rule:
    """Fields that must be there and not be empty."""

    def rule(source: Mapping[str, Any], field: str) -> Causes:
        for name in names:
            if not source.get(name):
                yield required(f"{field}.{name}", detail)

    return rule


def within(name: str, lowest: int, highest: int) -> Rule:
    """A number that is 0 where nothing is said, which passes."""

    def rule(source: Mapping[str, Any], field: str) -> Causes:
        value = source.get(name, 0)
        if value and not lowest <= value <= highest:
            yield wrong(f"{field}.{name}", value, f"must be between {lowest} and {highest}, inclusive")

    return rule


def one_of(name: str, *known: str) -> Rule:
    def rule(source: Mapping[str, Any], field: str) -> Causes:
        if name in source and source[name] not in known:
            yield unsupported(f"{field}.{name}", source[name], known)

    return rule


def with_secret(name: str, *parts: str) -> Rule:
    """A reference to a Secret, which needs these parts where it is given."""

    def rule(source: Mapping[str, Any], field: str) -> Causes:
        if (reference := source.get(name)) is not None:
            yield from needed(*parts)(reference, f"{field}.{name}")

    return rule


def _iscsi_name(text: str, field: str, *, detailed: bool) -> Causes:
    words = "must be valid format"
    if not text.startswith(("iqn", "eui", "naa")):
        yield wrong(field, text, f"{words} starting with iqn, eui, or naa" if detailed else words)
    elif not _ISCSI.fullmatch(text):
        yield wrong(field, text, words)


def _iscsi(*, of_pod: bool) -> Rule:
    def rule(source: Mapping[str, Any], field: str) -> Causes:
        yield from needed("targetPortal", "iqn")(source, field)
        if source.get("iqn"):
            yield from _iscsi_name(source["iqn"], f"{field}.iqn", detailed=of_pod)
        yield from within("lun", 0, 255)(source, field)
        if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
            yield required(f"{field}.secretRef")
        if not of_pod:
            yield from with_secret("secretRef", "name")(source, field)
        if "initiatorName" in source:
            yield from _iscsi_name(source["initiatorName"], f"{field}.initiatorname", detailed=of_pod)

    return rule


def _fibre_channel(source: Mapping[str, Any], field: str) -> Causes:
    ports, disks = source.get("targetWWNs") or [], source.get("wwids") or []
    if not ports and not disks:
        yield required(f"{field}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if ports and disks:
        yield wrong(f"{field}.targetWWNs", ports, "targetWWNs and wwids can not be specified simultaneously")
    if ports and "lun" not in source:
        yield required(f"{field}.lun", "lun is required if targetWWNs is specified")
    elif ports:
        yield from within("lun", 0, 255)(source, field)


def _azure_disk(source: Mapping[str, Any], field: str) -> Causes:
    uri, kind = source.get("diskURI", ""), source.get("kind", "Shared")
    yield from needed("diskName", "diskURI")(source, field)
    yield from one_of("cachingMode", "None", "ReadOnly", "ReadWrite")(source, field)
    yield from one_of("kind", "Dedicated", "Managed", "Shared")(source, field)
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        yield unsupported(f"{field}.diskURI", uri, (_MANAGED_DISK,))
    if kind != "Managed" and not uri.startswith("https://"):
        yield unsupported(f"{field}.diskURI", uri, (_BLOB_DISK,))


def _azure_file_of_volume(source: Mapping[str, Any], field: str) -> Causes:
    yield from needed("secretName", "shareName")(source, field)
    if source.get("secretNamespace") == "":
        yield required(f"{field}.secretNamespace")


def _flex_options(source: Mapping[str, Any], field: str) -> Causes:
    for key in sorted(source.get("options") or {}):
        if f".{key.partition('/')[0].lower()}".endswith((".kubernetes.io", ".k8s.io")):
            yield wrong(f"{field}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


def _flocker(source: Mapping[str, Any], field: str) -> Causes:
    name, identifier = source.get("datasetName", ""), source.get("datasetUUID", "")
    if not name and not identifier:
        yield required(field, "one of datasetName and datasetUUID is required")
    if name and identifier:
        yield wrong(field, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in name:
        yield wrong(f"{field}.datasetName", name, "must not contain '/'")


def _quobyte(source: Mapping[str, Any], field: str) -> Causes:
    registry, words = source.get("registry", ""), "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        yield required(f"{field}.registry", words)
    elif len(source.get("tenant", "")) >= 65:
        yield required(f"{field}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    elif not all(_HOST_PORT.fullmatch(one) for one in registry.split(",")):
        yield wrong(f"{field}.registry", registry, words)
    yield from needed("volume")(source, field)


def _driver(source: Mapping[str, Any], field: str) -> Causes:
    """Of a driver's name, which the kubelet uses as a directory's (ValidateCSIDriverName)."""
    name = source.get("driver", "")
    if not name:
        yield required(f"{field}.driver")
        return
    if len(name) > 63:
        yield too_long(f"{field}.driver", 63)
    yield from each(f"{field}.driver", name, dns_subdomain(name.lower()))


def _absolute(name: str) -> Rule:
    def rule(source: Mapping[str, Any], field: str) -> Causes:
        if not str(source.get(name, "")).startswith("/"):
            yield wrong(f"{field}.{name}", source.get(name, ""), "must be an absolute path")

    return rule


def _unnamed(source: Mapping[str, Any], field: str) -> Causes:
    """Of a claim's template: the claim's name is the pod's and the volume's."""
    if ((source.get("volumeClaimTemplate") or {}).get("metadata") or {}).get("name"):
        yield not_allowed(f"{field}.volumeClaimTemplate.metadata.name", "cannot be set")


_RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "persistentVolumeClaim": (needed("claimName"),),
    "nfs": (needed("server", "path"), _absolute("path")),
    "iscsi": (_iscsi(of_pod=True),),
    "fc": (_fibre_channel,),
    "glusterfs": (needed("endpoints", "path"),),
    "gcePersistentDisk": (needed("pdName"), within("partition", 1, 255)),
    "awsElasticBlockStore": (needed("volumeID"), within("partition", 1, 255)),
    "gitRepo": (needed("repository"),),
    "rbd": (needed("monitors", "image"),),
    "cephfs": (needed("monitors"),),
    "cinder": (needed("volumeID"), with_secret("secretRef", "name")),
    "azureFile": (needed("secretName", "shareName"),),
    "azureDisk": (_azure_disk,),
    "flexVolume": (needed("driver"), _flex_options),
    "flocker": (_flocker,),
    "photonPersistentDisk": (needed("pdID"),),
    "portworxVolume": (needed("volumeID"),),
    "quobyte": (_quobyte,),
    "scaleIO": (needed("gateway", "system", "volumeName"),),
    "storageos": (needed("volumeName"), with_secret("secretRef", "name")),
    "vsphereVolume": (needed("volumePath"),),
    "csi": (_driver, with_secret("nodePublishSecretRef", "name")),
    "image": (needed("reference"), one_of("pullPolicy", "Always", "IfNotPresent", "Never")),
    "ephemeral": (needed("volumeClaimTemplate"), _unnamed),
}
_OF_VOLUMES: Final[Mapping[str, tuple[Rule, ...]]] = {  # where a PersistentVolume's rules are others than a pod's
    "iscsi": (_iscsi(of_pod=False),),
    "azureFile": (_azure_file_of_volume,),
    "cinder": (needed("volumeID"), with_secret("secretRef", "name", "namespace")),
    "csi": (
        _driver,
        needed("volumeHandle"),
        *(
            with_secret(name, "name", "namespace")
            for name in ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef")
        ),
    ),
}
_PATHS: Final[Mapping[str, str]] = {"gcePersistentDisk": "persistentDisk"}  # as messages have them


def check(kind: str, source: Mapping[str, Any], where: str, *, of_pod: bool) -> Causes:
    """Validate a source of a kind, of the volume at `where`; kinds without a row pass."""
    rules = (None if of_pod else _OF_VOLUMES.get(kind)) or _RULES.get(kind, ())
    for rule in rules:
        yield from rule(source, f"{where}.{_PATHS.get(kind, kind)}")
