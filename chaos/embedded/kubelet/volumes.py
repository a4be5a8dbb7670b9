"""Volumes of a pod: their files are planned purely, then written where both the server and the node see them.

configMap, secret, projected and downwardAPI volumes are written through a `..data` link that is switched at once, as a
kubelet does, so that a reader never sees half an update. emptyDir is a directory (or a tmpfs); hostPath is the node's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from chaos.embedded.kubelet.environment import ConfigError, field_value, resource_value
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

Files = dict[str, tuple[bytes, int]]  # path in the volume -> contents, mode
Reader = Callable[[str, str], Mapping[str, bytes] | None]  # ("ConfigMap" | "Secret", name) -> contents
FILES: Final = ("configMap", "secret", "projected", "downwardAPI")


class TokenIssuer(Protocol):
    """Signs service-account tokens bound to a pod: the API server's."""

    def __call__(self, pod: Object, *, audiences: list[str], seconds: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume ready to be mounted: `source` is a path in the node."""

    name: str
    source: str
    files: bool = False  # written by us, read-only by nature
    tmpfs: str = ""  # mount options when it is a tmpfs
    host_type: str | None = None  # hostPath's type


@dataclass(slots=True)
class VolumePlan:
    """What has to be made for a pod."""

    volumes: list[Volume] = field(default_factory=list)
    files: dict[str, Files] = field(default_factory=dict)
    owners: dict[str, dict[str, int]] = field(default_factory=dict)  # volume -> path -> user, where that is not root


def plan_volumes(pod: Object, root: str, read: Reader, issue: TokenIssuer, node: Mapping[str, str]) -> VolumePlan:
    """All volumes of a pod. `root` is the directory of the pod's volumes in the node. Raises ConfigError naming the
    volume.
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
                plan.owners[name] = {} if user is None else dict.fromkeys(token_paths(spec), user)
                plan.volumes.append(Volume(name, source, files=True))
            elif "emptyDir" in spec:
                options = spec["emptyDir"] or {}
                limit = options.get("sizeLimit")
                size = f",size={int(parse_quantity(limit))}" if limit else ""
                plan.volumes.append(
                    Volume(name, source, tmpfs=f"mode=1777{size}" if options.get("medium") == "Memory" else "")
                )
            else:
                kind = next((key for key in spec if key != "name"), "nothing")
                raise ConfigError(
                    f"volumes of kind {kind} are not supported here: use emptyDir, configMap, secret, projected, "
                    "downwardAPI or hostPath"
                )
        except ConfigError as error:
            raise ConfigError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None
    return plan


def common_user(pod: Object) -> int | None:
    """The user that every container of the pod runs as by its own words; None when one says nothing or they differ."""
    spec = pod["spec"]
    whole = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (one.get("securityContext") or {}).get("runAsUser", whole)
        for part in ("initContainers", "containers")
        for one in spec.get(part) or []
    }
    return users.pop() if len(users) == 1 else None


def token_mode(pod: Object, mode: int) -> int:
    """Mode of a token's file: readable for all, unless the kubelet can give it to somebody (fsGroup, a common user).

    https://kubernetes.io/docs/concepts/storage/projected-volumes: a container of another user must still read its
    token.
    """
    given = (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None or common_user(pod) is not None
    return 0o600 if given else mode


def _files(pod: Object, spec: Mapping[str, Any], read: Reader, issue: TokenIssuer, node: Mapping[str, str]) -> Files:
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
            else:
                result |= _items(pod, source, read, node, mode)
        return result
    return _items(pod, spec, read, node, None)


def token_paths(spec: Mapping[str, Any]) -> list[str]:
    """Where a volume holds tokens."""
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


def write_files(
    directory: Path, files: Files, group: int | None = None, owners: Mapping[str, int] | None = None
) -> bool:
    """Make `directory` hold exactly these files, switched at once. -> whether anything changed. Safe to repeat.

    `owners`: path -> the user it belongs to, when not root.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    current = directory / "..data"
    if current.is_symlink() and _holds(current, files):
        return False
    old = os.readlink(current) if current.is_symlink() else None
    number = int(old.removeprefix("..")) + 1 if old else 1
    version = directory / f"..{number}"
    shutil.rmtree(version, ignore_errors=True)
    version.mkdir()
    for path, (data, mode) in files.items():
        target = version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(mode | 0o040 if group is not None else mode)
        if group is not None:
            os.chown(target, -1, group)
        if owners and path in owners:
            os.chown(target, owners[path], -1)
    with contextlib.suppress(FileNotFoundError):
        (directory / "..new").unlink()
    os.symlink(version.name, directory / "..new")
    os.rename(directory / "..new", current)
    tops = {path.split("/")[0] for path in files}
    for top in tops:
        if not (directory / top).is_symlink():
            os.symlink(f"..data/{top}", directory / top)
    for entry in os.scandir(directory):
        if not entry.name.startswith("..") and entry.name not in tops:
            os.unlink(entry.path)
    if old:
        shutil.rmtree(directory / old, ignore_errors=True)
    return True


def _holds(current: Path, files: Files) -> bool:
    present = {str(Path(root, name).relative_to(current)) for root, _, names in os.walk(current) for name in names}
    return present == files.keys() and all((current / path).read_bytes() == data for path, (data, _) in files.items())
