"""What Kubernetes' API server accepts in a pod and leaves to the kubelet, and no node here can run: refused at once.

Asked only about what Kubernetes' own rules accept, so that the causes of other refusals are Kubernetes' alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import wrong
from chaos.embedded.api.validation.mounts import no_backsteps
from chaos.embedded.api.validation.names import Causes
from chaos.embedded.objects import TEMPLATES
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

LEAST_MEMORY: Final = 1 << 20  # bytes; a container's first process does not start in less
_KINDS: Final = ("initContainers", "containers", "ephemeralContainers")


def unrunnable(kind: str, obj: Object) -> Causes:
    """What keeps the pod, a workload's pods, or the users of a volume, from running on any node here."""
    if kind == "PersistentVolume":
        yield from _absolute((obj["spec"].get("hostPath") or {}).get("path", ""), "spec.hostPath.path")
    path = TEMPLATES.get(kind)
    if path is None:
        return
    spec, field = obj, ".".join((*path, "spec"))
    for step in (*path, "spec"):
        spec = spec.get(step) or {}
    yield from _texts(spec, field)
    for index, volume in enumerate(spec.get("volumes") or []):
        yield from _absolute((volume.get("hostPath") or {}).get("path", ""), f"{field}.volumes[{index}].hostPath.path")
    yield from _least_memory(spec, field)
    for part in _KINDS:
        for index, container in enumerate(spec.get(part) or []):
            yield from _container(container, f"{field}.{part}[{index}]")


def _container(container: Mapping[str, Any], where: str) -> Causes:
    message = container.get("terminationMessagePath") or ""
    yield from no_backsteps(message, f"{where}.terminationMessagePath")
    yield from _absolute(message, f"{where}.terminationMessagePath")
    for index, one in enumerate(container.get("volumeMounts") or []):
        path, field = one.get("mountPath") or "", f"{where}.volumeMounts[{index}].mountPath"
        if ":" in path:
            yield wrong(field, path, "must not contain ':'")
        yield from no_backsteps(path, field)
    yield from _least_memory(container, where)


def _absolute(path: str, field: str) -> Causes:
    if path and not path.startswith("/"):
        yield wrong(field, path, "must be an absolute path")


def _least_memory(one: Mapping[str, Any], where: str) -> Causes:
    """Refuse a memory limit in which no process starts."""
    limit = ((one.get("resources") or {}).get("limits") or {}).get("memory")
    if limit is not None and parse_quantity(limit) < LEAST_MEMORY:
        words = f"must be at least {LEAST_MEMORY}: a container cannot start with less"
        yield wrong(f"{where}.resources.limits[memory]", str(limit), words)


def _texts(value: Any, where: str) -> Causes:
    """Refuse a NUL in any text: it would end the text for the kernel."""
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
