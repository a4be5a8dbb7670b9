"""Warnings about accepted objects, as headers that kubectl prints.

Follows k8s.io/kubernetes/pkg/api/pod/warnings.go and its like. Pure; called by rest for each write.
"""

from __future__ import annotations

import base64
import posixpath
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from chaos.embedded.api.custom import definitions
from chaos.embedded.api.validation.names import dns_label
from chaos.embedded.kubelet.images import own_names
from chaos.embedded.kubelet.node_machine import installation
from chaos.embedded.objects import TEMPLATES
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import CUSTOM_RESOURCE_DEFINITION, Object, Resource
from chaos.names import full_image_name

ENDPOINTS: Final = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
COMPONENT_STATUS: Final = "v1 ComponentStatus is deprecated in v1.19+"
_NODE_LABELS: Final[Mapping[str, str]] = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_VOLUMES: Final[Mapping[str, str]] = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_COMPARED: Final = 64  # ports of one number with which the next is compared: an answer holds no more warnings
_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"


def of_list(resource: Resource) -> tuple[str, ...]:
    """Warnings about any use of the kind."""
    if resource.custom is not None:
        return (resource.custom.warning,) if resource.custom.warning else ()
    return {"Endpoints": (ENDPOINTS,), "ComponentStatus": (COMPONENT_STATUS,)}.get(resource.kind, ())


def of(resource: Resource, new: Object, old: Object | None) -> tuple[str, ...]:
    """Warnings about a written object; `old` is None on creation. An update is warned about only where its template
    changes.
    """
    if resource.custom is not None:
        return tuple(_finalizers(new, old))
    if resource is CUSTOM_RESOURCE_DEFINITION:
        held = set() if old is None else set(definitions.warnings(old))
        return tuple(one for one in definitions.warnings(new) if one not in held)
    if (rules := _OF_KINDS.get(resource.kind)) is not None:
        return tuple(rules(new))
    path = TEMPLATES.get(resource.kind)
    if path is None:
        return ()
    template, before = _at(new, path), None if old is None else _at(old, path)
    if before is not None and (resource.kind == "Pod" or before == template):
        return ()
    prefix = ".".join(path) + "." if path else ""
    return (*_host_name(resource, new["metadata"].get("name", "")), *_template(template, prefix))


def _service(obj: Object) -> Iterator[str]:
    spec = obj["spec"]
    if spec.get("externalName") and spec.get("type") != "ExternalName":
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("externalIPs"):
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _node(obj: Object) -> Iterator[str]:
    if (obj.get("spec") or {}).get("externalID"):
        yield "spec.externalID: this field is deprecated, and is unused by Kubernetes"


def _claim(obj: Object) -> Iterator[str]:
    if _OLD_CLASS in (obj["metadata"].get("annotations") or {}):
        yield f'metadata.annotations[{_OLD_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'


def _volume(obj: Object) -> Iterator[str]:
    yield from _claim(obj)
    for kind, words in _VOLUMES.items():
        if kind in (obj.get("spec") or {}):
            shown = "storageOS" if kind == "storageos" else kind
            yield f"spec.{shown}: {words}"


def _secret(obj: Object) -> Iterator[str]:
    """Of a certificate that cannot be read; its key is not looked at without one."""
    if obj.get("type") == "kubernetes.io/tls" and "BEGIN" not in _text((obj.get("data") or {}).get("tls.crt", "")):
        yield "tls: failed to find any PEM data in certificate input"


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


_OLD_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
_OF_KINDS: Final[Mapping[str, Callable[[Object], Iterator[str]]]] = {
    "Service": _service,
    "Node": _node,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "Secret": _secret,
}
_STANDARD: Final = ("orphan", "foregroundDeletion", "kubernetes")


def _finalizers(new: Object, old: Object | None) -> Iterator[str]:
    """Warnings about custom resources' finalizers without a domain; built-in kinds refuse them."""
    held = [] if old is None else old["metadata"].get("finalizers") or []
    for one in sorted(set(new["metadata"].get("finalizers") or []) - set(held)):
        if "/" not in one and one not in _STANDARD:
            path = " including a path (/)" if "." in one else ""
            yield (
                f'metadata.finalizers: "{one}": prefer a domain-qualified finalizer name{path} to avoid accidental '
                "conflicts with other finalizer writers"
            )


def _host_name(resource: Resource, name: str) -> Iterator[str]:
    """Of a name that does not do as the name of a host, which it becomes."""
    hosts = {"Pod": "the Pod's hostname", "Job": "Pod names and hostnames"}
    if resource.kind in hosts and (faults := dns_label(name)):
        yield (
            f"metadata.name: this is used in {hosts[resource.kind]}, which can result in surprising behavior; a DNS "
            f"label is recommended: [{', '.join(faults)}]"
        )


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        obj = obj.get(part) or {}
    return obj


def _containers(spec: Mapping[str, Any], prefix: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            yield container, f"{prefix}spec.{kind}[{index}]"


def _template(template: Mapping[str, Any], prefix: str) -> Iterator[str]:
    spec, where = template.get("spec") or {}, f"{prefix}spec"
    for key in spec.get("nodeSelector") or {}:
        if key in _NODE_LABELS:
            yield f"{where}.nodeSelector[{key}]: {_NODE_LABELS[key]}"
    yield from _node_affinity((spec.get("affinity") or {}).get("nodeAffinity") or {}, f"{where}.affinity.nodeAffinity")
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or []):
        at, key = f"{where}.topologySpreadConstraints[{index}]", constraint.get("topologyKey", "")
        if key in _NODE_LABELS:
            yield f"{at}.topologyKey: {key} is {_NODE_LABELS[key]}"
        if "labelSelector" not in constraint:
            yield f"{at}.labelSelector: a null labelSelector results in matching no pod"
    notes = (template.get("metadata") or {}).get("annotations") or {}
    for key in notes:
        if key.startswith(_APP_ARMOR):
            yield (
                f'{prefix}metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'
            )
        if key == _SECCOMP or key.startswith(_SECCOMP_CONTAINER):
            yield (
                f'{prefix}metadata.annotations[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead'
            )
    for index, volume in enumerate(spec.get("volumes") or []):
        for source in (volume.get("projected") or {}).get("sources") or []:
            if not source:
                yield f'volume "{volume.get("name", "")}" (Projected) has no sources provided'
        for kind, words in _VOLUMES.items():
            if kind in volume:
                yield f"{where}.volumes[{index}].{kind}: {words}"
    yield from _repeated(spec.get("hostAliases") or [], "ip", f"{where}.hostAliases")
    secrets = spec.get("imagePullSecrets") or []
    yield from _repeated(secrets, "name", f"{where}.imagePullSecrets")
    for index, one in enumerate(secrets):
        if not one.get("name"):
            yield f'{where}.imagePullSecrets[{index}].name: invalid empty name ""'
    for container, field in _containers(spec, prefix):
        yield from _fractions(container.get("resources") or {}, f"{field}.resources")
        yield from _hidden(container.get("env") or [], f"{field}.env")
        yield from _covered(container, field)
    yield from _ports(spec, prefix)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        words = "must be >= 0; negative values are invalid and will be treated as 1"
        yield f"{where}.terminationGracePeriodSeconds: {words}"
    yield from _pod_affinity(spec.get("affinity") or {}, f"{where}.affinity")


def _node_affinity(affinity: Mapping[str, Any], field: str) -> Iterator[str]:
    needed = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = [
        (term, f"{field}.{needed}.nodeSelectorTerms[{index}]")
        for index, term in enumerate((affinity.get(needed) or {}).get("nodeSelectorTerms") or [])
    ]
    liked = "preferredDuringSchedulingIgnoredDuringExecution"
    terms += [
        (one.get("preference") or {}, f"{field}.{liked}[{index}].preference")
        for index, one in enumerate(affinity.get(liked) or [])
    ]
    for term, at in terms:
        for index, expression in enumerate(term.get("matchExpressions") or []):
            if expression.get("key") in _NODE_LABELS:
                key = expression["key"]
                yield f"{at}.matchExpressions[{index}].key: {key} is {_NODE_LABELS[key]}"


def _repeated(items: list[Any], key: str, field: str) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(items):
        value = item.get(key, "")
        if value in seen:
            yield f'{field}[{index}].{key}: duplicate {key} "{value}"'
        seen.add(value)


def _covered(container: Mapping[str, Any], field: str) -> Iterator[str]:
    """Warnings about volumes that cover the running installation, in containers of the built-in image; a real image has
    its programs elsewhere.
    """
    image = str(container.get("image", ""))
    if full_image_name(image) not in _own_images():
        return
    for index, mount in enumerate(container.get("volumeMounts") or []):
        path = posixpath.normpath(str(mount.get("mountPath", "")))
        hidden = next((one for one in _installed() if one == path or one.startswith(f"{path.rstrip('/')}/")), None)
        if hidden is not None:
            yield (
                f"{field}.volumeMounts[{index}].mountPath: {path} hides {hidden}, where the programs of {image} are in "
                "the embedded cluster: they may not be found"
            )


def _own_images() -> frozenset[str]:
    return frozenset(full_image_name(one) for one in own_names())


@cache
def _installed() -> tuple[str, ...]:
    return (*installation(), str(Path(sysconfig.get_path("stdlib")).resolve()))


def _fractions(resources: Mapping[str, Any], field: str) -> Iterator[str]:
    for name in ("memory", "ephemeral-storage"):
        for part in ("limits", "requests"):
            value = (resources.get(part) or {}).get(name)
            if value is not None and parse_quantity(value).denominator != 1:
                yield f'{field}.{part}[{name}]: fractional byte value "{value}" is invalid, must be an integer'


def _hidden(variables: list[Any], field: str) -> Iterator[str]:
    seen = set()
    for index, one in enumerate(variables):
        name, value = one.get("name", ""), one.get("value", "")
        itself = f"$({name})"
        if name in seen and ("valueFrom" in one or value == itself or itself not in value):
            yield f'{field}[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(spec: Mapping[str, Any], prefix: str) -> Iterator[str]:
    held: dict[tuple[int, str], list[tuple[Mapping[str, Any], str]]] = {}
    names: dict[str, str] = {}
    again = []
    for container, field in _containers(spec, prefix):
        for index, port in enumerate(container.get("ports") or []):
            at = f"{field}.ports[{index}]"
            others = held.setdefault((port.get("containerPort", 0), port.get("protocol", "TCP")), [])
            for other, where in others[:_COMPARED]:
                if (words := _clash(port, other)) is not None:
                    yield f"{at}: {words} with {where}"
            others.append((port, at))
            name = port.get("name")
            if name and name in names:
                first = names[name]
                again.append(
                    f'{at}: duplicate port name "{name}" with {first}, services and probes that select ports by name '
                    f"will use {first}"
                )
            elif name:
                names[name] = at
    yield from again


def _clash(port: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    (ip, number), (ip2, number2) = ((one.get("hostIP", ""), one.get("hostPort", 0)) for one in (port, other))
    if (ip, number) == (ip2, number2):
        return "duplicate port definition"
    if not number or not number2:
        return "overlapping port definition"
    if number == number2 and bool(ip) != bool(ip2):
        return "dangerously ambiguous port definition"
    return None


def _pod_affinity(affinity: Mapping[str, Any], field: str) -> Iterator[str]:
    words = "a null labelSelector results in matching no pod"
    for kind in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(kind) or {}
        needed, liked = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))
        for index, term in enumerate(part.get(needed) or []):
            if "labelSelector" not in term:
                yield f"{field}.{kind}.{needed}[{index}].labelSelector: {words}"
        for index, one in enumerate(part.get(liked) or []):
            if "labelSelector" not in (one.get("podAffinityTerm") or {}):
                yield f"{field}.{kind}.{liked}[{index}].podAffinityTerm.labelSelector: {words}"
