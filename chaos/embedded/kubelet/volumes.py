"""A pod's volumes: their files are planned purely, then written where both the server and the node see them.

configMap, secret, projected and downwardAPI volumes are written through a `..data` link that is switched atomically, as
by a kubelet, so that a reader never sees half an update. emptyDir is a directory (or a tmpfs); hostPath and claims use
directories of the node that outlive the pod.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from chaos.embedded import claims
from chaos.embedded.beneath import Beneath
from chaos.embedded.kubelet.environment import ConfigError, field_value, resource_value
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

Files = dict[str, tuple[bytes, int]]  # path in the volume -> contents, mode
Reader = Callable[[str, str], Mapping[str, bytes] | None]  # ("ConfigMap" | "Secret", name) -> contents
DATA: Final = "..data"  # the link that is switched
VERSION: Final = re.compile(r"\.\.[1-9][0-9]{0,17}")  # what it names
_NO_SOURCE: Final = ("capacity", "claimRef", "nodeAffinity")  # of a volume's spec: objects, but not what it is of
FILES: Final = ("configMap", "secret", "projected", "downwardAPI")


ReadClaim = Callable[[str], Object]  # a claim's name -> the volume that it is bound to; raises ConfigError


class IssueToken(Protocol):
    """Signs service-account tokens bound to a pod, as the API server does."""

    def __call__(self, pod: Object, *, audiences: list[str], seconds: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume ready to be mounted: `source` is a path in the node."""

    name: str
    source: str
    files: bool = False  # written by us, read-only by nature
    tmpfs: str = ""  # mount options when it is a tmpfs
    host_type: str | None = None  # hostPath's type
    claimed: str = ""  # directory of the node's claims
    readonly: bool = False


@dataclass(slots=True)
class VolumePlan:
    """The directories, files and mounts to make for a pod."""

    volumes: list[Volume] = field(default_factory=list)
    files: dict[str, Files] = field(default_factory=dict)
    owners: dict[str, dict[str, int]] = field(default_factory=dict)  # volume -> path -> user, where that is not root


def plan_volumes(
    pod: Object, root: str, read: Reader, issue: IssueToken, node: Mapping[str, str], claim: ReadClaim
) -> VolumePlan:
    """Plan all volumes of a pod. `root` is the directory of its volumes in the node. Raises ConfigError with the
    volume's name.
    """
    plan = VolumePlan()
    user = common_user(pod)
    for spec in pod["spec"].get("volumes", []):
        name = spec["name"]
        source = f"{root}/{name}"
        try:
            if "hostPath" in spec:
                plan.volumes.append(
                    Volume(name, spec["hostPath"]["path"], host_type=spec["hostPath"].get("type") or "")
                )
            elif any(kind in spec for kind in FILES):
                plan.files[name] = _files(pod, spec, read, issue, node)
                for path in plan.files[name]:
                    if why := unsafe_path(path):
                        raise ConfigError(f"path {path!r} {why}")
                plan.owners[name] = {} if user is None else dict.fromkeys(token_paths(spec), user)
                plan.volumes.append(Volume(name, source, files=True))
            elif "emptyDir" in spec:
                plan.volumes.append(Volume(name, source, tmpfs=_memory(spec["emptyDir"] or {})))
            elif "persistentVolumeClaim" in spec or "ephemeral" in spec:
                plan.volumes.append(_claimed(pod, spec, claim))
            else:
                kind = next((key for key in spec if key != "name"), "nothing")
                raise ConfigError(
                    f"volumes of kind {kind} are not supported here: use emptyDir, configMap, secret, projected, "
                    "downwardAPI, hostPath or a claim"
                )
        except ConfigError as error:
            raise ConfigError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None
    return plan


def _memory(options: Mapping[str, Any]) -> str:
    """Mount options of an emptyDir that is in memory; empty for one on disk. Raises ConfigError for other media."""
    medium, limit = options.get("medium") or "", options.get("sizeLimit")
    if medium not in ("", "Memory"):
        raise ConfigError(f'unknown storage medium "{medium}"')
    size = f",size={int(parse_quantity(limit))}" if limit else ""
    return f"mode=1777{size}" if medium else ""


def _claimed(pod: Object, spec: Mapping[str, Any], claim: ReadClaim) -> Volume:
    """The volume bound to a claim, as this pod mounts it. Raises ConfigError."""
    source = spec.get("persistentVolumeClaim") or {}
    held = claim(source.get("claimName") or claims.ephemeral_name(pod, spec))
    readonly = bool(source.get("readOnly"))
    what = held["spec"]
    if what.get("volumeMode") == "Block":
        raise ConfigError("block volumes are not supported here: ask for volumeMode Filesystem")
    if "hostPath" in what:
        kind = what["hostPath"].get("type") or ""
        own = claims.directory_of(held)
        return Volume(spec["name"], what["hostPath"]["path"], host_type=kind, claimed=own, readonly=readonly)
    if "local" in what:
        return Volume(spec["name"], what["local"]["path"], host_type="Directory", readonly=readonly)
    kind = next((key for key, value in what.items() if isinstance(value, Mapping) and key not in _NO_SOURCE), "unknown")
    raise ConfigError(f"persistent volumes of kind {kind} are not supported here: use hostPath, local or the class "
                      "standard")  # fmt: skip


def common_user(pod: Object) -> int | None:
    """The one user that all containers run as by their securityContext; None when one is unset or they differ."""
    spec = pod["spec"]
    whole = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (one.get("securityContext") or {}).get("runAsUser", whole)
        for part in ("initContainers", "containers")
        for one in spec.get(part) or []
    }
    return users.pop() if len(users) == 1 else None


def token_mode(pod: Object, mode: int) -> int:
    """Mode of a token's file: world-readable, unless the kubelet can set an owner (fsGroup, a common user).

    https://kubernetes.io/docs/concepts/storage/projected-volumes: a container of another user must still read its
    token.
    """
    given = (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None or common_user(pod) is not None
    return 0o600 if given else mode


def _files(pod: Object, spec: Mapping[str, Any], read: Reader, issue: IssueToken, node: Mapping[str, str]) -> Files:
    if "projected" in spec:
        result: Files = {}
        mode = spec["projected"].get("defaultMode", 0o644)
        for source in spec["projected"].get("sources") or []:
            if "serviceAccountToken" in source:
                token = source["serviceAccountToken"]
                audience = token.get("audience")
                text = issue(
                    pod, audiences=[audience] if audience else [], seconds=token.get("expirationSeconds", 3600)
                )
                result[token["path"]] = (text.encode(), token_mode(pod, mode))
            elif source.keys() & {"configMap", "secret", "downwardAPI"}:
                result |= _items(pod, source, read, node, mode)
            elif kind := next(iter(source), ""):  # one without a kind adds nothing, as one behind a shut gate
                raise ConfigError(f"projected sources of kind {kind} are not supported here")
        return result
    return _items(pod, spec, read, node, None)


def token_paths(spec: Mapping[str, Any]) -> list[str]:
    """Paths of tokens in a volume."""
    sources = (spec.get("projected") or {}).get("sources") or []
    return [source["serviceAccountToken"]["path"] for source in sources if "serviceAccountToken" in source]


def _items(pod: Object, source: Mapping[str, Any], read: Reader, node: Mapping[str, str], mode: int | None) -> Files:
    if "downwardAPI" in source:
        body = source["downwardAPI"]
        default = mode if mode is not None else body.get("defaultMode", 0o644)
        result: Files = {}
        for item in body.get("items") or []:
            if "fieldRef" in item:
                text = field_value(pod, item["fieldRef"]["fieldPath"], node)
            else:
                text = resource_value(pod, {}, item["resourceFieldRef"], node)
            result[item["path"]] = (text.encode(), item.get("mode", default))
        return result
    kind, body = ("ConfigMap", source["configMap"]) if "configMap" in source else ("Secret", source["secret"])
    name = body.get("name") or body.get("secretName")
    default = mode if mode is not None else body.get("defaultMode", 0o644)
    data = read(kind, name)
    if data is None:
        if body.get("optional"):
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    if not body.get("items"):
        return {key: (value, default) for key, value in data.items()}
    result = {}
    for item in body["items"]:
        if item["key"] not in data:
            if body.get("optional"):
                continue
            raise ConfigError(f"references non-existent {kind.lower()} key: {item['key']}")
        result[item["path"]] = (data[item["key"]], item.get("mode", default))
    return result


def unsafe_path(path: str) -> str:
    """Why a volume cannot contain a file of that name; "" when it can (Kubernetes' validateLocalNonReservedPath, and a
    ConfigMap's keys, for objects stored before validation).
    """
    parts = path.split("/")
    if not path or path.startswith("/") or "\0" in path:
        return "must be a relative path"
    if ".." in parts or path.startswith(".."):
        return "must not contain '..' or start with it"
    return "must name a file" if parts[-1] in ("", ".") else ""


def write_files(
    directory: Beneath, files: Files, group: int | None = None, owners: Mapping[str, int] | None = None
) -> bool:
    """Make `directory` hold exactly these files, switched atomically; whether anything changed. Idempotent.

    The node can write there: whatever is in the way is replaced, and never followed. Raises OSError.
    `owners`: path -> the owning user, when not root.
    """
    directory.make(mode=0o755)
    old = directory.target(DATA) or ""
    number = int(old[2:]) if VERSION.fullmatch(old) else 0
    if number and _holds(directory.below(old), files):
        return False
    version = directory.below(f"..{number + 1}")
    directory.remove(f"..{number + 1}")
    version.make(mode=0o755)
    for path, (data, mode) in files.items():
        if why := unsafe_path(path):
            raise OSError(errno.EINVAL, why, path)
        parent, slash, _ = path.rpartition("/")
        if slash:
            version.make(parent)
        user = (owners or {}).get(path)
        version.write(path, data, mode=mode | 0o040 if group is not None else mode, user=user, group=group)
    directory.link(f"..{number + 1}", DATA)
    tops = {os.path.normpath(path).split("/")[0] for path in files}
    names = directory.names()
    for top in tops:
        if directory.target(top) != f"{DATA}/{top}":
            directory.remove(top)
            directory.link(f"{DATA}/{top}", top)
    for name in names:
        if name not in (*tops, DATA, f"..{number + 1}"):
            directory.remove(name)
    return True


def _holds(version: Beneath, files: Files) -> bool:
    """Whether a version's directory holds exactly these files."""
    wanted: dict[str, set[str]] = {"": set()}
    for path in files:
        whole = ""
        for part in os.path.normpath(path).split("/"):
            wanted.setdefault(whole, set()).add(part)
            whole = f"{whole}/{part}" if whole else part
    try:
        return all(version.names(where).keys() == names for where, names in wanted.items()) and all(
            version.read(path, len(data) + 1) == data for path, (data, _) in files.items()
        )
    except OSError:
        return False
