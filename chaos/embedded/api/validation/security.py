"""Validation of users, groups, sysctls, capabilities, and texts that a kernel takes.

Ranges and words are those of k8s.io/kubernetes/pkg/apis/core/validation. Beyond them, whatever no kernel or runtime can
carry out is refused here, where a kubelet would retry for ever: a NUL in a text, a memory limit in which no process
starts, a sysctl that is not namespaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, too_long, unsupported, wrong
from chaos.embedded.api.validation.names import Causes, dns_subdomain, each

MOST_ID: Final = 2**31 - 1
_SYSCTL: Final = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_OF_NAMESPACES: Final = ("net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_CAPABILITY: Final = re.compile(r"[A-Za-z_]{1,64}")
_SHOWN: Final = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"


def identity(context: Mapping[str, Any], where: str) -> Causes:
    """Validate runAsUser, runAsGroup, fsGroup, supplementalGroups."""
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        if (value := context.get(name)) is not None:
            yield from _id(value, f"{where}.{name}")
    for index, value in enumerate(context.get("supplementalGroups") or []):
        yield from _id(value, f"{where}.supplementalGroups[{index}]")


def _id(value: int, field: str) -> Causes:
    if not 0 <= value <= MOST_ID:
        yield wrong(field, value, f"must be between 0 and {MOST_ID}, inclusive")


def host_users(spec: Mapping[str, Any], where: str) -> Causes:
    if spec.get("hostUsers") is False:
        yield not_allowed(f"{where}.hostUsers", "the embedded cluster does not support user namespaces")


def pod_context(spec: Mapping[str, Any], where: str) -> Causes:
    """Validate a pod's securityContext, with the spec's host namespaces."""
    given, field = spec.get("securityContext") or {}, f"{where}.securityContext"
    yield from identity(given, field)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        words = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield wrong(f"{field}.shareProcessNamespace", True, words)
    yield from sysctls(spec, where)
    for name, known in (
        ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        if given.get(name, known[0]) not in known:
            yield unsupported(f"{field}.{name}", given[name], known)
    yield from _seccomp(given.get("seccompProfile"), f"{field}.seccompProfile")
    yield from _app_armor(given.get("appArmorProfile"), f"{field}.appArmorProfile")


def sysctls(spec: Mapping[str, Any], where: str) -> Causes:
    seen: set[str] = set()
    for index, one in enumerate((spec.get("securityContext") or {}).get("sysctls") or []):
        field = f"{where}.securityContext.sysctls[{index}]"
        name = one.get("name") or ""
        dotted = name.replace("/", ".")
        if not name:
            yield required(f"{field}.name")
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            yield wrong(f"{field}.name", name, f"must have at most 253 characters and match regex ^{_SHOWN}$")
        elif not dotted.startswith(_OF_NAMESPACES):
            yield not_allowed(f"{field}.name", f"sysctl {dotted!r} belongs to the whole machine, not to a namespace")
        elif dotted.startswith("net.") and spec.get("hostNetwork"):
            yield wrong(f"{field}.name", name, "may not be specified when 'hostNetwork' is true")
        elif not dotted.startswith("net.") and spec.get("hostIPC"):
            yield wrong(f"{field}.name", name, "may not be specified when 'hostIPC' is true")
        if dotted in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(dotted)


def context(given: Mapping[str, Any], where: str, *, host_users: bool) -> Causes:
    """Validate a container's securityContext."""
    yield from identity(given, where)
    proc = given.get("procMount")
    if proc is not None and proc not in ("Default", "Unmasked"):
        yield unsupported(f"{where}.procMount", proc, ("Default", "Unmasked"))
    if proc == "Unmasked" and host_users:
        yield wrong(f"{where}.procMount", proc, "`hostUsers` must be false to use `Unmasked`")
    yield from _seccomp(given.get("seccompProfile"), f"{where}.seccompProfile")
    if given.get("allowPrivilegeEscalation") is False:
        words = "cannot set `allowPrivilegeEscalation` to false and"
        if given.get("privileged"):
            yield wrong(where, _as_go(given), f"{words} `privileged` to true")
        if "CAP_SYS_ADMIN" in ((given.get("capabilities") or {}).get("add") or []):
            yield wrong(where, _as_go(given), f"{words} `capabilities.Add` CAP_SYS_ADMIN")
    for kind in ("add", "drop"):
        for index, name in enumerate((given.get("capabilities") or {}).get(kind) or []):
            if not _CAPABILITY.fullmatch(name):
                yield wrong(f"{where}.capabilities.{kind}[{index}]", name, "is not the name of a capability")
    yield from _app_armor(given.get("appArmorProfile"), f"{where}.appArmorProfile")


_GO_FIELDS: Final = (
    "capabilities",
    "privileged",
    "seLinuxOptions",
    "windowsOptions",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "procMount",
    "seccompProfile",
    "appArmorProfile",
)


def _as_go(given: Mapping[str, Any]) -> dict[str, Any]:
    """A securityContext in messages: Kubernetes' Go type, with all its fields."""
    shown = {"seLinuxOptions": "SELinuxOptions", "appArmorProfile": "AppArmorProfile"}
    found = {shown.get(name, name[0].upper() + name[1:]): given.get(name) for name in _GO_FIELDS}
    if (held := given.get("capabilities")) is not None:
        found["Capabilities"] = {"Add": held.get("add"), "Drop": held.get("drop")}
    return found


def _seccomp(profile: Mapping[str, Any] | None, where: str) -> Causes:
    known = ("Localhost", "RuntimeDefault", "Unconfined")
    if profile is None:
        return
    kind = profile.get("type", "")
    if not kind:
        yield required(f"{where}.type", "type is required when seccompProfile is set")
    elif kind not in known:
        yield unsupported(f"{where}.type", kind, known)
    path = profile.get("localhostProfile")
    if kind == "Localhost":
        if path is None:
            yield required(f"{where}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            yield from _descending(path, f"{where}.localhostProfile")
    elif path is not None:
        shown = {"Type": kind, "LocalhostProfile": path}
        yield wrong(f"{where}.localhostProfile", shown, "can only be set when seccomp type is Localhost")


def _descending(path: str, field: str) -> Causes:
    if path.startswith("/"):
        yield wrong(field, path, "must be a relative path")
    if ".." in path.split("/"):
        yield wrong(field, path, "must not contain '..'")


def _app_armor(profile: Mapping[str, Any] | None, where: str) -> Causes:
    known = ("Localhost", "RuntimeDefault", "Unconfined")
    if profile is None:
        return
    kind, path = profile.get("type", ""), profile.get("localhostProfile")
    field, needed = f"{where}.localhostProfile", "must be set when AppArmor type is Localhost"
    if kind == "Localhost":
        if path is None or not path:
            yield required(field, needed)
        elif path != path.strip():
            yield wrong(field, path, "must not be padded with whitespace")
        elif len(path) > 4095:
            yield too_long(field, 4095)
    elif not kind:
        yield required(f"{where}.type", "type is required when appArmorProfile is set")
    elif kind not in known:
        yield unsupported(f"{where}.type", kind, known)
    elif path is not None:
        yield wrong(field, path, "can only be set when AppArmor type is Localhost")


def no_windows(spec: Mapping[str, Any], where: str) -> Causes:
    """Refuse Windows options of a pod whose os is linux."""
    words = "windows options cannot be set for a linux pod"
    if "windowsOptions" in (spec.get("securityContext") or {}):
        yield not_allowed(f"{where}.securityContext.windowsOptions", words)
    for kind in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(kind) or []):
            if "windowsOptions" in (one.get("securityContext") or {}):
                yield not_allowed(f"{where}.{kind}[{index}].securityContext.windowsOptions", words)


_OF_WINDOWS_POD: Final = (  # what a pod of Windows cannot set, in the order of messages
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
)
_OF_WINDOWS_CONTAINER: Final = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)
_SWITCHES: Final = ("hostPID", "hostIPC")  # which say nothing while they are false


def no_linux(spec: Mapping[str, Any], where: str) -> Causes:
    """Refuse what only Linux has, of a pod whose os is windows."""
    words, context = "cannot be set for a windows pod", spec.get("securityContext") or {}
    for path in _OF_WINDOWS_POD:
        holder, name = (context, path.partition(".")[2]) if "." in path else (spec, path)
        if name in holder and (holder[name] or name not in (*_SWITCHES, "sysctls")):
            yield not_allowed(f"{where}.{path}", words)
    for kind in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(kind) or []):
            for name in _OF_WINDOWS_CONTAINER:
                if name in (one.get("securityContext") or {}):
                    yield not_allowed(f"{where}.{kind}[{index}].securityContext.{name}", words)


_LONGEST_CREDENTIALS: Final = 64 * 1024


def windows_options(spec: Mapping[str, Any], where: str) -> Causes:
    """Validate the Windows options of a pod and of its containers, whatever its os."""
    of_pod = (spec.get("securityContext") or {}).get("windowsOptions") or {}
    yield from _credentials(of_pod, f"{where}.securityContext.windowsOptions")
    held = [of_pod]
    for kind in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(kind) or []):
            options = (one.get("securityContext") or {}).get("windowsOptions") or {}
            yield from _credentials(options, f"{where}.{kind}[{index}].securityContext.windowsOptions")
            held.append(options)
    if any(one.get("hostProcess") for one in held) and not spec.get("hostNetwork"):
        words = "hostNetwork must be true if pod contains any hostProcess containers"
        yield wrong(f"{where}.hostNetwork", False, words)


def _credentials(options: Mapping[str, Any], where: str) -> Causes:
    if (name := options.get("gmsaCredentialSpecName")) is not None:
        yield from each(f"{where}.gmsaCredentialSpecName", name, dns_subdomain(name))
    if (text := options.get("gmsaCredentialSpec")) is not None:
        if not text:
            yield wrong(f"{where}.gmsaCredentialSpec", text, "gmsaCredentialSpec cannot be an empty string")
        elif len(text) > _LONGEST_CREDENTIALS:
            yield wrong(f"{where}.gmsaCredentialSpec", text, "gmsaCredentialSpec size must be under 64 KiB")
