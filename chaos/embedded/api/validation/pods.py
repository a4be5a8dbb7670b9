"""Validation of a pod's spec, its own or a template's, in Kubernetes' order.

Containers are in `containers`, volumes in `mounts`, users and the kernel's side in `security`, amounts in `amounts`,
scheduling in `placement` (k8s.io/kubernetes/pkg/apis/core/validation.ValidatePodSpec).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, too_long, unsupported, wrong
from chaos.embedded.api.validation import amounts, containers, mounts, placement, security
from chaos.embedded.api.validation.addresses import legacy_address
from chaos.embedded.api.validation.names import (
    Causes,
    dns_label,
    dns_subdomain,
    each,
    qualified,
    underscored_subdomain,
    validate_annotations,
    validate_label,
    validate_labels,
)
from chaos.embedded.quantity import parse_quantity
from chaos.fields import whole_number

RESTART: Final = ("Always", "OnFailure", "Never")
DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PREEMPTION: Final = ("PreemptLowerPriority", "Never")


def validate_pod(obj: Mapping[str, Any]) -> Causes:
    """Validate a pod, without its metadata."""
    spec = obj.get("spec") or {}
    yield from _annotations(obj["metadata"].get("annotations") or {}, spec, "metadata.annotations")
    yield from validate_pod_spec(spec, of_pod=True)
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            yield from containers.trimmed_image(container, f"spec.{kind}[{index}]")


def validate_new_pod(obj: Mapping[str, Any]) -> Causes:
    """Validate what only a new pod may not have."""
    spec = obj.get("spec") or {}
    if spec.get("ephemeralContainers"):
        yield not_allowed("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield not_allowed("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def validate_template(template: Mapping[str, Any], field: str) -> Causes:
    """Validate a workload's template at `field`."""
    meta = template.get("metadata") or {}
    yield from validate_labels(meta.get("labels") or {}, f"{field}.labels")
    yield from validate_annotations(meta.get("annotations") or {}, f"{field}.annotations")
    spec = template.get("spec") or {}
    yield from _annotations(meta.get("annotations") or {}, spec, f"{field}.annotations")
    yield from validate_pod_spec(spec, f"{field}.spec")
    if spec.get("ephemeralContainers"):
        yield not_allowed(f"{field}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"


def _app_armor(annotations: Mapping[str, str], spec: Mapping[str, Any], field: str) -> Causes:
    """Profiles by annotation, an earlier way."""
    kinds = ("initContainers", "containers", "ephemeralContainers")
    known = {one.get("name") for kind in kinds for one in spec.get(kind) or []}
    for key, profile in sorted(annotations.items()):
        if not key.startswith(_APP_ARMOR):
            continue
        name = key.removeprefix(_APP_ARMOR)
        if name not in known:
            yield wrong(f"{field}[{key}]", name, "container not found")
        if profile not in ("", "runtime/default", "unconfined") and not profile.startswith("localhost/"):
            yield wrong(f"{field}[{key}]", profile, f'invalid AppArmor profile name: "{profile}"')


def _annotations(annotations: Mapping[str, str], spec: Mapping[str, Any], field: str) -> Causes:
    mirror, cost = "kubernetes.io/config.mirror", "controller.kubernetes.io/pod-deletion-cost"
    if mirror in annotations and not spec.get("nodeName"):
        words = "must set spec.nodeName if mirror pod annotation is set"
        yield wrong(f"{field}[{mirror}]", annotations[mirror], words)
    yield from _app_armor(annotations, spec, field)
    if cost in annotations:
        text = annotations[cost]
        number = whole_number(text)
        if number is None or str(number) != text or not -(1 << 31) <= number < 1 << 31:
            yield wrong(f"{field}[{cost}]", text, "must be a 32bit integer")


def validate_pod_spec(spec: Mapping[str, Any], field: str = "spec", *, of_pod: bool = False) -> Causes:
    """Validate a pod's spec with its defaults. `of_pod`: of a pod itself, whose host ports are set already."""
    names, found = _volumes(spec.get("volumes") or [], f"{field}.volumes")
    yield from found
    claims = {one["name"] for one in spec.get("resourceClaims") or [] if one.get("name")}
    yield from _resource_claims(spec.get("resourceClaims") or [], f"{field}.resourceClaims")
    surroundings = containers.PodContext(
        names,
        claims,
        spec.get("restartPolicy", ""),
        spec.get("terminationGracePeriodSeconds", 30),
        spec.get("hostUsers") is not False,
    )
    yield from containers.regular(spec, field, surroundings)
    yield from containers.init(spec, field, surroundings)
    yield from containers.ephemeral(spec, field, surroundings)
    yield from _pod_resources(spec, field, claims)
    yield from _host_ports(spec, field, of_pod=of_pod)
    yield from _one_of(spec.get("restartPolicy", ""), f"{field}.restartPolicy", RESTART)
    yield from _one_of(spec.get("dnsPolicy", ""), f"{field}.dnsPolicy", DNS)
    yield from validate_labels(spec.get("nodeSelector") or {}, f"{field}.nodeSelector")
    yield from security.pod_context(spec, field)
    yield from placement.affinity(spec.get("affinity") or {}, f"{field}.affinity")
    yield from _dns_config(spec, f"{field}.dnsConfig")
    for index, gate in enumerate(spec.get("readinessGates") or []):
        kind = gate.get("conditionType", "")
        yield from each(f"{field}.readinessGates[{index}].conditionType", kind, qualified(kind))
    yield from _scheduling_gates(spec.get("schedulingGates") or [], f"{field}.schedulingGates")
    spread = spec.get("topologySpreadConstraints") or []
    yield from placement.spread(spread, f"{field}.topologySpreadConstraints")
    yield from _host_users(spec, field)
    yield from _hostname_override(spec, field)
    yield from _names(spec, field)
    tolerations = spec.get("tolerations") or []
    yield from placement.tolerations(tolerations, f"{field}.tolerations")
    for index, alias in enumerate(spec.get("hostAliases") or []):
        yield from legacy_address(alias.get("ip", ""), f"{field}.hostAliases[{index}].ip")
        for number, name in enumerate(alias.get("hostnames") or []):
            yield from each(f"{field}.hostAliases[{index}].hostnames[{number}]", name, dns_subdomain(name))
    for name in ("priorityClassName", "runtimeClassName"):
        if spec.get(name):
            yield from each(f"{field}.{name}", spec[name], dns_subdomain(spec[name]))
    if "preemptionPolicy" in spec:
        yield from _one_of(spec["preemptionPolicy"], f"{field}.preemptionPolicy", PREEMPTION)
    if spec.get("overhead"):
        yield from amounts.requirements({"limits": spec["overhead"]}, f"{field}.overhead", set())
    yield from security.windows_options(spec, field)
    yield from _os(spec, field)


def _one_of(value: str, field: str, known: tuple[str, ...]) -> Causes:
    if not value:
        yield required(field)
    elif value not in known:
        yield unsupported(field, value, known)


def _volumes(volumes: list[Any], field: str) -> tuple[dict[str, Mapping[str, Any]], list[Any]]:
    """(the valid volumes, which containers may mount; problems of the others)."""
    good: dict[str, Mapping[str, Any]] = {}
    causes = []
    for index, volume in enumerate(volumes):
        where, name = f"{field}[{index}]", volume.get("name", "")
        found = [*mounts.volume_source(volume, where), *validate_label(name, f"{where}.name")]
        if name in good:
            found.append(duplicate(f"{where}.name", name))
        if not found:
            good[name] = volume
        causes += found
    return good, causes


def _resource_claims(claims: list[Any], field: str) -> Causes:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        where, name = f"{field}[{index}]", claim.get("name", "")
        if name in seen:
            yield duplicate(f"{where}.name", name)
        else:
            yield from validate_label(name, f"{where}.name")
        seen.add(name)
        given = [one for one in ("resourceClaimName", "resourceClaimTemplateName") if one in claim]
        if len(given) > 1:
            words = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            yield wrong(where, claim, words)
        if not given:
            yield wrong(where, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for one in given:
            yield from each(f"{where}.{one}", claim[one], dns_subdomain(claim[one]))


def _pod_resources(spec: Mapping[str, Any], field: str, claims: set[str]) -> Causes:
    resources = spec.get("resources")
    if resources is None:
        return
    where = f"{field}.resources"
    if "claims" in resources:
        yield not_allowed(f"{where}.claims", "claims may not be set for Resources at pod-level")
    yield from amounts.requirements(resources, where, claims, of_pod=True)
    for name, value in sorted((resources.get("requests") or {}).items()):
        inside = sum(
            parse_quantity(((one.get("resources") or {}).get("requests") or {}).get(name, 0))
            for one in spec.get("containers") or []
        )
        if inside > parse_quantity(value):
            words = f"must be greater than or equal to aggregate container requests of {_shown(inside)}"
            yield wrong(f"{where}.requests[{name}]", str(value), words)
    for index, one in enumerate(spec.get("containers") or []):
        for name, value in ((one.get("resources") or {}).get("limits") or {}).items():
            bound = (resources.get("limits") or {}).get(name)
            if bound is not None and parse_quantity(value) > parse_quantity(bound):
                words = f"must be less than or equal to pod limits of {bound}"
                yield wrong(f"{where}.containers[{index}][{name}].limits", str(value), words)


def _shown(number: Any) -> str:
    return str(number) if number.denominator == 1 else f"{int(number * 1000)}m"


def _host_ports(spec: Mapping[str, Any], field: str, *, of_pod: bool) -> Causes:
    if not spec.get("hostNetwork"):
        return
    for index, container in enumerate(spec.get("containers") or []):
        for number, port in enumerate(container.get("ports") or []):
            host = port.get("hostPort", 0)
            if (of_pod or host) and host != port.get("containerPort", 0):
                words = "must match `containerPort` when `hostNetwork` is true"
                yield wrong(f"{field}.containers[{index}].ports[{number}].hostPort", host, words)


def _dns_config(spec: Mapping[str, Any], field: str) -> Causes:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            yield required(field, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not config.get("nameservers"):
            words = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            yield required(f"{field}.nameservers", words)
            return
    if config is None:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        yield wrong(f"{field}.nameservers", servers, "must not have more than 3 nameservers")
    for index, address in enumerate(servers):
        yield from legacy_address(address, f"{field}.nameservers[{index}]")
    if len(searches) > 32:
        yield wrong(f"{field}.searches", searches, "must not have more than 32 search paths")
    if len(" ".join(searches)) > 2048:
        words = "must not have more than 2048 characters (including spaces) in the search list"
        yield wrong(f"{field}.searches", searches, words)
    for index, search in enumerate(searches):
        if search != ".":
            trimmed = search.removesuffix(".")
            yield from each(f"{field}.searches[{index}]", trimmed, underscored_subdomain(trimmed))
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            yield required(f"{field}.options[{index}]", "must not be empty")


def _scheduling_gates(gates: list[Any], field: str) -> Causes:
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        name = gate.get("name", "")
        yield from each(f"{field}[{index}]", name, qualified(name))
        if name in seen:
            yield duplicate(f"{field}[{index}]", name)
        seen.add(name)


def _host_users(spec: Mapping[str, Any], field: str) -> Causes:
    if spec.get("hostUsers") is not False:
        return
    shared = [one for one in ("hostNetwork", "hostPID", "hostIPC") if spec.get(one)]
    for name in shared:
        shown = name if name == "hostNetwork" else f"H{name[1:]}"
        yield not_allowed(f"{field}.{shown}", "when `hostUsers` is false")
    if not shared:
        yield from security.host_users(spec, field)


def _hostname_override(spec: Mapping[str, Any], field: str) -> Causes:
    name, where = spec.get("hostnameOverride"), f"{field}.hostnameOverride"
    if name is None:
        return
    if spec.get("setHostnameAsFQDN"):
        yield not_allowed(where, "may not be specified when setHostnameAsFQDN is true")
    if spec.get("hostNetwork"):
        yield not_allowed(where, "may not be specified when hostNetwork is true")
    if len(name) > 64:
        yield too_long(where, 64)
    yield from each(where, name, dns_subdomain(name))


def _names(spec: Mapping[str, Any], field: str) -> Causes:
    for name in ("serviceAccountName", "nodeName"):
        if spec.get(name):
            yield from each(f"{field}.{name}", spec[name], dns_subdomain(spec[name]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2147483647:
        yield wrong(f"{field}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            yield from each(f"{field}.{name}", spec[name], dns_label(spec[name]))


def _os(spec: Mapping[str, Any], field: str) -> Causes:
    if "os" not in spec:
        return
    name = spec["os"].get("name", "")
    if not name:
        yield required(f"{field}.os.name")
    elif name not in ("linux", "windows"):
        yield unsupported(f"{field}.os", name, ("linux", "windows"))
    elif name == "linux":
        yield from security.no_windows(spec, field)
    else:
        yield from security.no_linux(spec, field)
