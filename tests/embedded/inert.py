"""Fields of Kubernetes' published schemas that the embedded cluster accepts and nothing acts on, found from the code.

A field counts as acted on where its name stands, as a string, in a module that acts: not in one that only decodes,
defaults, validates or prints. That errs towards "acted on", so that SAME_NAME holds those whose name other types share.
`python -m tests.embedded.inert` writes the list into the page of differences; test_inert.py holds both to each other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import chaos.embedded
from chaos.embedded.api import schema
from chaos.embedded.resources import RESOURCES

ROOT: Final = Path(chaos.embedded.__file__).parent
PAGE: Final = ROOT.parents[1] / "docs" / "differences-from-kubernetes.md"
BEGIN: Final = "<!-- fields: made by `python -m tests.embedded.inert` -->"
END: Final = "<!-- fields end -->"
_ONLY_WRITTEN: Final = (  # modules that know fields without acting on them
    "api/validation/",
    "api/immutable.py",
    "api/protobuf.py",
    "api/tables.py",
    "api/warnings.py",
    "api/openapi2.py",
    "api/pod_security.py",
    "api/discovery.py",
    "api/cel_library.py",
    "api/defaults.py",
)
_WORD: Final = re.compile(r"[\w$-]+")
_SKIPPED: Final = ("status", "metadata", "apiVersion", "kind")
_UNFOLLOWED: Final = ("VolumeSource",)  # kinds of volumes: a pod that has one cannot mount it, and says so
NOT_OURS: Final[Mapping[str, str]] = {  # types and fields of which no part of a cluster but their own client makes use
    "Lease": "clients' own",
    "LeaseSpec": "clients' own",
    "ExternalDocumentation": "for readers",
    "JSONSchemaProps.externalDocs": "for readers",
    "JSONSchemaProps.$ref": "refused",
    "JSONSchemaProps.$schema": "refused",
    "Volume": "a pod that has another kind cannot mount it, and says so",
    "PersistentVolumeSpec": "a pod that has another kind cannot mount it, and says so",
    "VolumeDevice": "a pod that has a block volume cannot mount it, and says so",
    "Container.volumeDevices": "a pod that has a block volume cannot mount it, and says so",
    "EphemeralContainer.volumeDevices": "a pod that has a block volume cannot mount it, and says so",
    "ObjectMetricSource": "the autoscaler says that there is no adapter",
    "WebhookConversion.conversionReviewVersions": "refused with the strategy",
    "Secret.stringData": "written into `data`",
    "Container.livenessProbe": "made of two words",
    "EphemeralContainer.livenessProbe": "refused",
    "NodeSpec": "the cloud provider's",
    "ConfigMapNodeConfigSource": "Kubernetes has given it up",
    "Endpoint.deprecatedTopology": "Kubernetes has given it up",
}
# Fields of which another type's namesake is acted on, so that the walk does not find them.
SAME_NAME: Final[Mapping[str, tuple[str, ...]]] = {
    "ContainerPort": ("hostIP",),
    "PersistentVolumeClaimSpec": ("volumeAttributesClassName",),
    "PersistentVolumeSpec": ("mountOptions",),
    "PodAffinityTerm": ("matchLabelKeys",),
    "PodSpec": ("imagePullSecrets", "os", "preemptionPolicy", "priority", "resources"),
    "ResourceRequirements": ("claims",),
    "RollingUpdateStatefulSetStrategy": ("maxUnavailable",),
    "ServiceAccount": ("secrets",),
    "ServiceSpec": ("externalIPs", "healthCheckNodePort", "ipFamilies", "ipFamilyPolicy", "loadBalancerClass"),
    "StorageClass": ("mountOptions", "parameters"),
    "VolumeMount": ("recursiveReadOnly",),
}


@cache
def acting() -> frozenset[str]:
    """Words in the strings of modules that act."""
    found: set[str] = set()
    for path in ROOT.rglob("*.py"):
        if not str(path.relative_to(ROOT)).startswith(_ONLY_WRITTEN):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
                    found.update(_WORD.findall(node.value))
                elif isinstance(node, ast.keyword) and node.arg:
                    found.add(node.arg)
    return frozenset(found)


def fields() -> Iterator[tuple[str, str]]:
    """(type, field) of what may be written of every served kind, each once."""
    seen: set[str] = set()
    queue = [name for one in RESOURCES if (name := schema.definition_name(one.group, one.version, one.kind))]
    while queue:
        name = queue.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for field, about in (schema.definitions()[name].get("properties") or {}).items():
            if field in _SKIPPED:
                continue
            yield name.rpartition(".")[2], field
            queue += [one for one in _referred(about) if one not in seen and not one.endswith(_UNFOLLOWED)]


def _referred(about: Any) -> Iterator[str]:
    if isinstance(about, dict):
        if isinstance(about.get("$ref"), str):
            yield about["$ref"].rpartition("/")[2]
        for value in about.values():
            yield from _referred(value)
    elif isinstance(about, list):
        for value in about:
            yield from _referred(value)


def inert() -> dict[str, list[str]]:
    """Type -> its fields that nothing acts on, both in order."""
    found: dict[str, set[str]] = {kind: set(names) for kind, names in SAME_NAME.items()}
    for kind, field in fields():
        if field not in acting() and kind not in NOT_OURS and f"{kind}.{field}" not in NOT_OURS:
            found.setdefault(kind, set()).add(field)
    return {kind: sorted(found[kind]) for kind in sorted(found)}


def table() -> str:
    """The part of the page between BEGIN and END."""
    rows = [f"| {kind} | {', '.join(f'`{one}`' for one in names)} |" for kind, names in inert().items()]
    return "\n".join([BEGIN, "", "| type | fields |", "|---|---|", *rows, "", END])


def written(page: str) -> str:
    """The page with the list as it is now."""
    head, _, rest = page.partition(BEGIN)
    return head + table() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
