"""Users, groups, sysctls, capabilities and the texts that a kernel takes: what a pod asks of the machine's kernel.

Ranges and words are those of k8s.io/kubernetes/pkg/apis/core/validation. Beyond them, what no kernel or runtime can
carry out is refused here too, with its field, where a kubelet would try for ever: a NUL in a text, a memory limit in
which no process starts, a sysctl that is not a namespace's own.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import Causes
from chaos.embedded.quantity import parse_quantity

MOST_ID: Final = 2**31 - 1
LEAST_MEMORY: Final = 1 << 20  # bytes; a container's first process does not start in less
_SYSCTL: Final = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_OF_NAMESPACES: Final = ("net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_CAPABILITY: Final = re.compile(r"[A-Za-z_]{1,64}")
_SIGNALS: Final = frozenset(one.name for one in signal.Signals)


def identity(context: Mapping[str, Any], where: str) -> Causes:
    """runAsUser, runAsGroup, fsGroup, supplementalGroups."""
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        if (value := context.get(name)) is not None:
            yield from _id(value, f"{where}.{name}")
    for index, value in enumerate(context.get("supplementalGroups") or []):
        yield from _id(value, f"{where}.supplementalGroups[{index}]")


def _id(value: int, field: str) -> Causes:
    if not 0 <= value <= MOST_ID:
        yield wrong(field, value, f"must be between 0 and {MOST_ID}, inclusive")


def host_users(spec: Mapping[str, Any], where: str) -> Causes:
    if spec.get("hostUsers") is False:
        yield not_allowed(f"{where}.hostUsers", "user namespaces are not served by this cluster")


def sysctls(spec: Mapping[str, Any], where: str) -> Causes:
    seen: set[str] = set()
    for index, one in enumerate((spec.get("securityContext") or {}).get("sysctls") or []):
        field = f"{where}.securityContext.sysctls[{index}]"
        name = one.get("name") or ""
        dotted = name.replace("/", ".")
        if not name:
            yield required(f"{field}.name")
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            yield wrong(f"{field}.name", name, f"must have at most 253 characters and match regex ^{_SYSCTL.pattern}$")
        elif not dotted.startswith(_OF_NAMESPACES):
            yield not_allowed(f"{field}.name", f"sysctl {dotted!r} is the whole machine's, not a namespace's")
        elif dotted.startswith("net.") and spec.get("hostNetwork"):
            yield not_allowed(f"{field}.name", "may not be specified when 'hostNetwork' is true")
        elif not dotted.startswith("net.") and spec.get("hostIPC"):
            yield not_allowed(f"{field}.name", "may not be specified when 'hostIPC' is true")
        if dotted in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(dotted)


def container(one: Mapping[str, Any], where: str) -> Causes:
    """A container's own context, its memory, and its signal."""
    context = one.get("securityContext") or {}
    yield from identity(context, f"{where}.securityContext")
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        yield wrong(
            f"{where}.securityContext",
            "privileged",
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        )
    added = (context.get("capabilities") or {}).get("add") or []
    if "CAP_SYS_ADMIN" in added and context.get("allowPrivilegeEscalation") is False:
        yield wrong(
            f"{where}.securityContext",
            "CAP_SYS_ADMIN",
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        )
    for kind in ("add", "drop"):
        for index, name in enumerate((context.get("capabilities") or {}).get(kind) or []):
            if not _CAPABILITY.fullmatch(name):
                yield wrong(f"{where}.securityContext.capabilities.{kind}[{index}]", name, "not a capability's name")
    if context.get("procMount", "Default") == "Unmasked":
        yield wrong(f"{where}.securityContext.procMount", "Unmasked", "`hostUsers` must be false to use `Unmasked`")
    elif context.get("procMount", "Default") != "Default":
        yield unsupported(f"{where}.securityContext.procMount", context["procMount"], ("Default", "Unmasked"))
    limit = ((one.get("resources") or {}).get("limits") or {}).get("memory", LEAST_MEMORY)
    with contextlib.suppress(ValueError, OverflowError):  # not a quantity: said elsewhere
        limit = parse_quantity(limit)
    if not isinstance(limit, str) and 0 <= limit < LEAST_MEMORY:
        yield wrong(
            f"{where}.resources.limits[memory]",
            str(one["resources"]["limits"]["memory"]),
            f"must be at least {LEAST_MEMORY}: no container starts in less",
        )
    sign = (one.get("lifecycle") or {}).get("stopSignal")
    if sign is not None and sign not in _SIGNALS:
        yield unsupported(f"{where}.lifecycle.stopSignal", sign, tuple(_SIGNALS))


def texts(value: Any, where: str) -> Causes:
    """No text of a pod's spec holds a NUL: the kernel takes it for the end."""
    for field in _with_nul(value, where):
        yield wrong(field, "\0", "must not contain a NUL character")


def _with_nul(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, str):
        if "\0" in value:
            yield where
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if "\0" in key:
                yield where
            yield from _with_nul(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _with_nul(item, f"{where}[{index}]")
