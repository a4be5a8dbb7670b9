"""Validation of a pod's containers: common rules, and those of regular, init and ephemeral ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chaos.embedded.api.errors import dangling, duplicate, not_allowed, required, too_many, unsupported, wrong
from chaos.embedded.api.validation import amounts, mounts, security
from chaos.embedded.api.validation.names import (
    Causes,
    config_key,
    dns_label,
    dns_subdomain,
    each,
    env_name,
    header_name,
    in_range,
    named,
    not_negative,
    port,
    port_name,
    validate_label,
)
from chaos.embedded.api.validation.references import ENV_FIELDS, field_reference, resource_reference

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_PULL: Final = ("Always", "IfNotPresent", "Never")
_MESSAGES: Final = ("File", "FallbackToLogsOnError")
_RESTARTS: Final = ("Always", "Never", "OnFailure")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_BARE_INIT: Final = "may not be set for init containers without restartPolicy=Always"
_EPHEMERAL: Final = frozenset(
    {
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "envFrom",
        "env",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
        "targetContainerName",
    }
)
_FIELD_ORDER: Final = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)


@dataclass(frozen=True, slots=True)
class PodContext:
    """The parts of a pod that its containers' fields are validated against."""

    volumes: Mapping[str, Mapping[str, Any]]
    claims: set[str]
    restart: str
    grace: int
    host_users: bool


def regular(spec: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    found = spec.get("containers") or []
    if not found:
        yield required(f"{field}.containers")
        return
    names: set[str] = set()
    for index, container in enumerate(found):
        where, name = f"{field}.containers[{index}]", container.get("name", "")
        yield from _common(container, where, around)
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        yield from _lifecycle(container, where, around)
        yield from _probes(container, where, around)
        yield from _restart_rules(container, where)
    yield from _same_host_ports(found, f"{field}.containers")


def init(spec: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    names = {one.get("name", "") for one in spec.get("containers") or []}
    for index, container in enumerate(spec.get("initContainers") or []):
        where, name = f"{field}.initContainers[{index}]", container.get("name", "")
        yield from _common(container, where, around)
        sidecar = container.get("restartPolicy") == "Always"
        if sidecar and container.get("restartPolicyRules"):
            words = "restartPolicyRules are not allowed for init containers with restart policy Always"
            yield not_allowed(f"{where}.restartPolicyRules", words)
        elif not sidecar:
            yield from _restart_rules(container, where)
        if name in names:
            yield duplicate(f"{where}.name", name)
        elif name:
            names.add(name)
        yield from _same_host_ports([container], f"{field}.initContainers")
        if sidecar:
            yield from _lifecycle(container, where, around)
            yield from _probes(container, where, around)
        else:
            for part in ("lifecycle", *_PROBES):
                if container.get(part) is not None:
                    yield not_allowed(f"{where}.{part}", _BARE_INIT)
            for number, policy in enumerate(container.get("resizePolicy") or []):
                if policy.get("restartPolicy") == "RestartContainer":
                    words = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                    yield wrong(f"{where}.resizePolicy[{number}].restartPolicy", "RestartContainer", words)


def ephemeral(spec: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    others = {one.get("name", "") for kind in ("containers", "initContainers") for one in spec.get(kind) or []}
    names, words = set(others), "cannot be set for an Ephemeral Container"
    for index, container in enumerate(spec.get("ephemeralContainers") or []):
        where, name = f"{field}.ephemeralContainers[{index}]", container.get("name", "")
        yield from _common(container, where, around)
        yield from trimmed_image(container, where)
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        target = container.get("targetContainerName")
        if target and target not in others:
            yield dangling(f"{where}.targetContainerName", target)
        for part in _FIELD_ORDER:
            if container.get(part) and part not in _EPHEMERAL:
                yield not_allowed(f"{where}.{part}", words)
        for number, mount in enumerate(container.get("volumeMounts") or []):
            for part in ("subPath", "subPathExpr"):
                if mount.get(part):
                    yield not_allowed(f"{where}.volumeMounts[{number}].{part}", words)


def trimmed_image(container: Mapping[str, Any], field: str) -> Causes:
    image = container.get("image", "")
    if image != image.strip():
        yield wrong(f"{field}.image", image, "must not have leading or trailing whitespace")


def _common(container: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    yield from validate_label(container.get("name", ""), f"{field}.name")
    if not container.get("image"):
        yield required(f"{field}.image")
    policy = container.get("terminationMessagePolicy", "")
    if not policy:
        yield required(f"{field}.terminationMessagePolicy")
    elif policy not in _MESSAGES:
        yield unsupported(f"{field}.terminationMessagePolicy", policy, _MESSAGES)
    yield from _ports(container.get("ports") or [], f"{field}.ports")
    yield from _env(container.get("env") or [], f"{field}.env", around)
    yield from _env_from(container.get("envFrom") or [], f"{field}.envFrom")
    yield from mounts.volume_mounts(container, f"{field}.volumeMounts", around.volumes)
    yield from mounts.volume_devices(container, f"{field}.volumeDevices", around.volumes)
    pull = container.get("imagePullPolicy", "")
    if not pull:
        yield required(f"{field}.imagePullPolicy")
    elif pull not in _PULL:
        yield unsupported(f"{field}.imagePullPolicy", pull, _PULL)
    yield from amounts.requirements(container.get("resources") or {}, f"{field}.resources", around.claims)
    yield from _resize_policy(container.get("resizePolicy") or [], f"{field}.resizePolicy", around.restart)
    context = container.get("securityContext")
    if context is not None:
        yield from security.context(context, f"{field}.securityContext", host_users=around.host_users)


def _ports(ports: list[Any], field: str) -> Causes:
    names: set[str] = set()
    for index, one in enumerate(ports):
        where, name = f"{field}[{index}]", one.get("name", "")
        if name:
            faults = port_name(name)
            yield from each(f"{where}.name", name, faults)
            if not faults and name in names:
                yield duplicate(f"{where}.name", name)
            names.add(name)
        if not one.get("containerPort"):
            yield required(f"{where}.containerPort")
        else:
            yield from in_range(one["containerPort"], f"{where}.containerPort", 1, 65535)
        if one.get("hostPort"):
            yield from in_range(one["hostPort"], f"{where}.hostPort", 1, 65535)
        protocol = one.get("protocol", "")
        if not protocol:
            yield required(f"{where}.protocol")
        elif protocol not in PROTOCOLS:
            yield unsupported(f"{where}.protocol", protocol, PROTOCOLS)


def _env(variables: list[Any], field: str, around: PodContext) -> Causes:
    for index, one in enumerate(variables):
        where = f"{field}[{index}]"
        yield from named(one.get("name", ""), f"{where}.name", env_name)
        source = one.get("valueFrom")
        if source is not None:
            yield from _env_source(one, source, f"{where}.valueFrom", around)


def _env_source(variable: Mapping[str, Any], source: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    kinds = [kind for kind in source if source[kind] is not None]
    if "fieldRef" in source:
        yield from field_reference(source["fieldRef"], f"{field}.fieldRef", ENV_FIELDS)
    if "resourceFieldRef" in source:
        yield from resource_reference(source["resourceFieldRef"], f"{field}.resourceFieldRef", in_volume=False)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            name = source[kind].get("name", "")
            yield from each(f"{field}.{kind}.name", name, dns_subdomain(name))
            yield from named(source[kind].get("key", ""), f"{field}.{kind}.key", config_key)
    if "fileKeyRef" in source:
        yield from _file_key(source["fileKeyRef"], f"{field}.fileKeyRef", around)
    if not kinds:
        words = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield wrong(field, "", f"must specify one of: {words}")
    elif variable.get("value"):
        yield wrong(field, "", "may not be specified when `value` is not empty")
    elif len(kinds) > 1:
        yield wrong(field, "", "may not have more than one field specified at a time")


def _file_key(source: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    yield from named(source.get("key", ""), f"{field}.key", env_name)
    volume = source.get("volumeName", "")
    yield from named(volume, f"{field}.volumeName", dns_label)
    if not source.get("path"):
        yield required(f"{field}.path")
    else:
        yield from mounts.no_backsteps(source["path"], f"{field}.path")
    if volume and volume not in around.volumes:
        yield dangling(f"{field}.volumeName", volume)
    elif volume and "emptyDir" not in around.volumes[volume]:
        yield wrong(f"{field}.volumeName", volume, "referenced volume must be of type emptyDir")


def _env_from(sources: list[Any], field: str) -> Causes:
    for index, one in enumerate(sources):
        where = f"{field}[{index}]"
        if one.get("prefix"):
            yield from each(f"{where}.prefix", one["prefix"], env_name(one["prefix"]))
        kinds = [kind for kind in ("configMapRef", "secretRef") if kind in one]
        for kind in kinds:
            name = one[kind].get("name", "")
            masked = f"{name[:-2]}a" if len(name) > 1 and name.endswith("-") else name
            yield from named(masked, f"{where}.{kind}.name", dns_subdomain)
        if not kinds:
            yield wrong(field, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(kinds) > 1:
            yield wrong(field, "", "may not have more than one field specified at a time")


def _resize_policy(policies: list[Any], field: str, restart: str) -> Causes:
    seen: set[str] = set()
    for index, one in enumerate(policies):
        name, policy = one.get("resourceName", ""), one.get("restartPolicy", "")
        if name in seen:
            yield duplicate(f"{field}[{index}]", name)
        seen.add(name)
        if not name:
            yield required(field)
        elif name not in ("cpu", "memory"):
            yield unsupported(field, name, ("cpu", "memory"))
        if not policy:
            yield required(field)
        elif policy not in ("NotRequired", "RestartContainer"):
            yield unsupported(field, policy, ("NotRequired", "RestartContainer"))
        if restart == "Never" and policy != "NotRequired":
            yield wrong(field, policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")


def _restart_rules(container: Mapping[str, Any], field: str) -> Causes:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is None:
        if rules:
            yield required(f"{field}.restartPolicy", "must specify restartPolicy when restart rules are used")
        else:
            return
    elif policy not in _RESTARTS:
        yield unsupported(f"{field}.restartPolicy", policy, _RESTARTS)
    if len(rules) > 20:
        yield too_many(f"{field}.restartPolicyRules", len(rules), 20)
    for index, rule in enumerate(rules):
        where = f"{field}.restartPolicyRules[{index}]"
        if rule.get("action", "") != "Restart":
            yield unsupported(f"{where}.action", rule.get("action", ""), ("Restart",))
        codes = rule.get("exitCodes")
        if codes is None:
            yield required(f"{where}.exitCodes", "must be specified")
            continue
        if codes.get("operator", "") not in ("In", "NotIn"):
            yield unsupported(f"{where}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn"))
        if len(codes.get("values") or []) > 255:
            yield too_many(f"{where}.exitCodes.values", len(codes["values"]), 255)


def _same_host_ports(found: list[Any], field: str) -> Causes:
    seen: set[str] = set()
    for index, container in enumerate(found):
        for number, one in enumerate(container.get("ports") or []):
            if not one.get("hostPort"):
                continue
            text = f"{one.get('protocol', '')}/{one.get('hostIP', '')}/{one['hostPort']}"
            if text in seen:
                yield duplicate(f"{field}[{index}].ports[{number}].hostPort", text)
            seen.add(text)


def _lifecycle(container: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if lifecycle.get(hook) is not None:
            yield from _handler(lifecycle[hook], f"{field}.lifecycle.{hook}", around.grace)


def _probes(container: Mapping[str, Any], field: str, around: PodContext) -> Causes:
    for name in _PROBES:
        probe = container.get(name)
        if probe is None:
            continue
        where = f"{field}.{name}"
        yield from _handler(probe, where, around.grace)
        for part in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
            yield from not_negative(probe.get(part), f"{where}.{part}")
        grace, at = probe.get("terminationGracePeriodSeconds"), f"{where}.terminationGracePeriodSeconds"
        if grace is not None and grace <= 0:
            yield wrong(at, grace, "must be greater than 0")
        if name == "readinessProbe":
            if grace is not None:
                yield wrong(at, grace, "must not be set for readinessProbes")
        elif probe.get("successThreshold", 1) != 1:
            yield wrong(f"{where}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(handler: Mapping[str, Any], field: str, grace: int) -> Causes:
    kinds = [kind for kind in _HANDLERS if handler.get(kind) is not None]
    if not kinds:
        yield required(field, "must specify a handler type")
        return
    yield from _handler_of(kinds[0], handler[kinds[0]], f"{field}.{kinds[0]}", grace)
    for kind in kinds[1:]:
        yield not_allowed(f"{field}.{kind}", "may not specify more than 1 handler type")


def _handler_of(kind: str, one: Mapping[str, Any], field: str, grace: int) -> Causes:
    if kind == "exec":
        if not one.get("command"):
            yield required(f"{field}.command")
    elif kind == "sleep":
        if not 0 <= one.get("seconds", 0) <= grace:
            words = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            yield wrong(field, one.get("seconds", 0), words)
    elif kind == "httpGet":
        if not one.get("path"):
            yield required(f"{field}.path")
        yield from port(one.get("port"), f"{field}.port")
        if one.get("scheme", "") not in ("HTTP", "HTTPS"):
            yield unsupported(f"{field}.scheme", one.get("scheme", ""), ("HTTP", "HTTPS"))
        for header in one.get("httpHeaders") or []:
            name = header.get("name", "")
            yield from each(f"{field}.httpHeaders", name, header_name(name))
    else:
        yield from port(one.get("port"), f"{field}.port")
