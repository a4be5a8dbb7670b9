"""A container's environment variables from every source, `$(VAR)` references, and the downward API.

Pure functions of a pod and a lookup; the rules are pkg/kubelet/kubelet_pods.go's and
third_party/forked/golang/expansion.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object

Lookup = Callable[[str, str], Mapping[str, str] | None]  # ("ConfigMap" | "Secret", name) -> its data as text
REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")


class ConfigError(ValueError):
    """A container refers to missing configuration: CreateContainerConfigError."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` where NAME is known; `$$` becomes `$`."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "$"
        return variables.get(match.group(1), match.group(0))

    return REFERENCE.sub(replace, text)


def field_value(pod: Object, path: str, node: Mapping[str, str]) -> str:
    """Resolve a `fieldRef`. `node` holds name and ip. Raises ConfigError for an unknown field."""
    meta = pod["metadata"]
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['([^']*)'\]", path):
        return str(meta.get(match.group(1), {}).get(match.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        items = meta.get(path.partition(".")[2], {})
        return "\n".join(f'{key}="{escape(value)}"' for key, value in sorted(items.items()))
    simple = {
        "metadata.name": meta["name"], "metadata.namespace": meta["namespace"], "metadata.uid": meta["uid"],
        "spec.nodeName": node["name"], "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": node["ip"], "status.hostIPs": node["ip"],
        "status.podIP": node.get("pod_ip") or pod.get("status", {}).get("podIP", ""),
        "status.podIPs": node.get("pod_ip") or pod.get("status", {}).get("podIP", ""),
    }  # fmt: skip
    if path not in simple:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(simple[path])


def escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(pod: Object, container: Mapping[str, Any], ref: Mapping[str, Any], node: Mapping[str, str]) -> str:
    """Resolve a `resourceFieldRef`, rounded up as by Kubernetes; a missing limit is the node's capacity."""
    if name := ref.get("containerName"):
        container = next(
            c for c in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])] if c["name"] == name
        )
    kind, _, resource = ref["resource"].partition(".")
    held = container.get("resources", {}).get(kind, {})
    fallback = (
        node.get(resource, "0")
        if kind == "limits"
        else container.get("resources", {}).get("limits", {}).get(resource, "0")
    )
    divisor = parse_quantity(ref.get("divisor") or "1") or 1
    return str(math.ceil(parse_quantity(held.get(resource, fallback)) / divisor))


def service_variables(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """FOO_SERVICE_HOST and the docker-link variables of the namespace's Services, always with `kubernetes`."""
    found: dict[str, str] = {}
    for service in services:
        meta, spec = service["metadata"], service.get("spec", {})
        address = spec.get("clusterIP")
        master = meta["namespace"] == "default" and meta["name"] == "kubernetes"
        if not address or address == "None" or not (master or (links and meta["namespace"] == namespace)):
            continue
        name = meta["name"].upper().replace("-", "_")
        ports = spec.get("ports", [])
        found[f"{name}_SERVICE_HOST"] = address
        found[f"{name}_SERVICE_PORT"] = str(ports[0]["port"]) if ports else ""
        for port in ports:
            if port.get("name"):
                found[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        for index, port in enumerate(ports):
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{address}:{port['port']}"
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            if index == 0:
                found[f"{name}_PORT"] = url
            found |= {
                prefix: url,
                f"{prefix}_PROTO": protocol.lower(),
                f"{prefix}_PORT": str(port["port"]),
                f"{prefix}_ADDR": address,
            }
    return found


def container_environment(
    pod: Object,
    container: Mapping[str, Any],
    base: Mapping[str, str],
    services: Mapping[str, str],
    lookup: Lookup,
    node: Mapping[str, str],
) -> dict[str, str]:
    """All variables: image, Services, envFrom, env; later ones override. Raises ConfigError in Kubernetes' words."""
    result = {**base, **services}
    own: dict[str, str] = {}
    for source in container.get("envFrom", []):
        ref = source.get("configMapRef") or source.get("secretRef") or {}
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        data = lookup(kind, ref["name"])
        if data is None:
            if ref.get("optional"):
                continue
            raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
        own |= {source.get("prefix", "") + key: value for key, value in data.items()}
    for entry in container.get("env", []):
        if "valueFrom" not in entry:
            own[entry["name"]] = expand(entry.get("value") or "", {**result, **own})
            continue
        source = entry["valueFrom"]
        if "fieldRef" in source:
            own[entry["name"]] = field_value(pod, source["fieldRef"]["fieldPath"], node)
        elif "resourceFieldRef" in source:
            own[entry["name"]] = resource_value(pod, container, source["resourceFieldRef"], node)
        else:
            kind = "ConfigMap" if "configMapKeyRef" in source else "Secret"
            ref = source.get("configMapKeyRef") or source["secretKeyRef"]
            data = lookup(kind, ref["name"])
            if data is not None and ref["key"] in data:
                own[entry["name"]] = data[ref["key"]]
            elif not ref.get("optional"):
                missing = (
                    f'{kind.lower()} "{ref["name"]}" not found'
                    if data is None
                    else f"couldn't find key {ref['key']} in {kind} {pod['metadata']['namespace']}/{ref['name']}"
                )
                raise ConfigError(missing)
    return result | own


def decoded(kind: str, obj: Object) -> dict[str, bytes]:
    """Decode a ConfigMap's or Secret's data into files."""
    if kind == "ConfigMap":
        texts = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
        return texts | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
