"""A pod's spec, its own or a template's: volumes, containers, probes, resources, placement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import dangling, duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation import mounts, security
from chaos.embedded.api.validation.names import SUBDOMAIN, SUBDOMAIN_RULE, Causes, validate_label, validate_labels
from chaos.embedded.quantity import parse_quantity

_ENV: Final = re.compile(r"[^=\x00-\x1f\x7f]+")


def validate_pod_spec(spec: Mapping[str, Any], field: str = "spec") -> Causes:
    """Of a pod or of a template, with its defaults."""
    volumes = spec.get("volumes") or []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        where, name = f"{field}.volumes[{index}]", volume.get("name", "")
        yield from validate_label(name, f"{where}.name")
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        if len(set(volume) - {"name"}) > 1:
            yield not_allowed(where, "may not specify more than 1 volume type")
        yield from mounts.volume_source(volume, where)
    yield from security.texts(spec, field)
    yield from security.identity(spec.get("securityContext") or {}, f"{field}.securityContext")
    yield from security.sysctls(spec, field)
    yield from security.host_users(spec, field)
    if not spec.get("containers"):
        yield required(f"{field}.containers")
    seen: set[str] = set()
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            where = f"{field}.{kind}[{index}]"
            yield from _container(container, where, names, init=kind == "initContainers")
            if container.get("name") in seen:
                yield duplicate(f"{where}.name", container["name"])
            seen.add(container.get("name", ""))
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield unsupported(f"{field}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    if spec.get("dnsPolicy") not in ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"):
        yield unsupported(
            f"{field}.dnsPolicy", spec.get("dnsPolicy"), ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
        )
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        yield wrong(
            f"{field}.terminationGracePeriodSeconds",
            spec["terminationGracePeriodSeconds"],
            "must be greater than or equal to 0",
        )
    if not 1 <= spec.get("activeDeadlineSeconds", 1) <= 2147483647:
        yield wrong(
            f"{field}.activeDeadlineSeconds",
            spec["activeDeadlineSeconds"],
            "must be between 1 and 2147483647, inclusive",
        )
    if spec.get("serviceAccountName") and not SUBDOMAIN.fullmatch(spec["serviceAccountName"]):
        yield wrong(f"{field}.serviceAccountName", spec["serviceAccountName"], SUBDOMAIN_RULE)
    if spec.get("hostname"):
        yield from validate_label(spec["hostname"], f"{field}.hostname")
    yield from validate_labels(spec.get("nodeSelector") or {}, f"{field}.nodeSelector")
    for index, toleration in enumerate(spec.get("tolerations") or []):
        where = f"{field}.tolerations[{index}]"
        if toleration.get("operator", "Equal") not in ("Equal", "Exists", "Lt", "Gt"):
            yield unsupported(f"{where}.operator", toleration["operator"], ("Equal", "Exists"))
        if toleration.get("operator") == "Exists" and toleration.get("value"):
            yield wrong(f"{where}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
        if toleration.get("effect", "") not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
            yield unsupported(f"{where}.effect", toleration["effect"], ("NoSchedule", "PreferNoSchedule", "NoExecute"))
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or []):
        where = f"{field}.topologySpreadConstraints[{index}]"
        if (constraint.get("maxSkew") or 0) < 1:
            yield wrong(f"{where}.maxSkew", constraint.get("maxSkew"), "must be greater than zero")
        if constraint.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway"):
            yield unsupported(
                f"{where}.whenUnsatisfiable", constraint.get("whenUnsatisfiable"), ("DoNotSchedule", "ScheduleAnyway")
            )


def _container(container: Mapping[str, Any], field: str, volumes: set[str], *, init: bool) -> Causes:
    yield from validate_label(container.get("name", ""), f"{field}.name")
    image = container.get("image", "")
    if not image:
        yield required(f"{field}.image")
    elif image != image.strip():
        yield wrong(f"{field}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in ("Always", "IfNotPresent", "Never"):
        yield unsupported(
            f"{field}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never")
        )
    if container.get("terminationMessagePolicy") not in ("File", "FallbackToLogsOnError"):
        yield unsupported(
            f"{field}.terminationMessagePolicy",
            container.get("terminationMessagePolicy"),
            ("File", "FallbackToLogsOnError"),
        )
    if init and container.get("restartPolicy", "Always") not in ("Always", "Never", "OnFailure"):
        yield unsupported(f"{field}.restartPolicy", container["restartPolicy"], ("Always", "Never", "OnFailure"))
    yield from _resources(container.get("resources") or {}, f"{field}.resources")
    yield from security.container(container, field)
    yield from mounts.message_path(container, field)
    for index, port in enumerate(container.get("ports") or []):
        for name, lowest in (("containerPort", 1), ("hostPort", 0)):
            if name in port and not lowest <= port[name] <= 65535:
                yield wrong(f"{field}.ports[{index}].{name}", port[name], "must be between 1 and 65535, inclusive")
        if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
            yield unsupported(f"{field}.ports[{index}].protocol", port.get("protocol"), ("TCP", "UDP", "SCTP"))
    for index, variable in enumerate(container.get("env") or []):
        if not variable.get("name"):
            yield required(f"{field}.env[{index}].name")
        elif not _ENV.fullmatch(variable["name"]):
            yield wrong(
                f"{field}.env[{index}].name",
                variable["name"],
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            )
        if variable.get("value") and variable.get("valueFrom"):
            yield wrong(f"{field}.env[{index}].valueFrom", "", "may not be specified when `value` is not empty")
    mounted: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where, path = f"{field}.volumeMounts[{index}]", mount.get("mountPath", "")
        if mount.get("name") not in volumes:
            yield dangling(f"{where}.name", mount.get("name", ""))
        if not path:
            yield required(f"{where}.mountPath")
        elif path in mounted:
            yield wrong(f"{where}.mountPath", path, "must be unique")
        mounted.add(path)
        yield from mounts.mount(mount, where)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            if init and container.get("restartPolicy") != "Always":
                yield not_allowed(f"{field}.{name}", "may not be set for init containers without restartPolicy=Always")
            yield from _probe(probe, f"{field}.{name}", liveness=name != "readinessProbe")


def _handler_kinds(handler: Mapping[str, Any]) -> list[str]:
    return [kind for kind in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if handler.get(kind) is not None]


def _probe(probe: Mapping[str, Any], field: str, *, liveness: bool) -> Causes:
    kinds = _handler_kinds(probe)
    if not kinds:
        yield required(field, "must specify a handler type")
    elif len(kinds) > 1:
        yield not_allowed(f"{field}.{kinds[1]}", "may not specify more than 1 handler type")
    for kind in ("httpGet", "tcpSocket", "grpc"):
        port = (probe.get(kind) or {}).get("port")
        if isinstance(port, int) and not 1 <= port <= 65535:
            yield wrong(f"{field}.{kind}.port", port, "must be between 1 and 65535, inclusive")
    if probe.get("exec") is not None and not probe["exec"].get("command"):
        yield required(f"{field}.exec.command")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(name, 0) < 0:
            yield wrong(f"{field}.{name}", probe[name], "must be greater than or equal to 0")
    if liveness and probe.get("successThreshold", 1) != 1:
        yield wrong(f"{field}.successThreshold", probe["successThreshold"], "must be 1")


def _resources(resources: Mapping[str, Any], field: str) -> Causes:
    parsed: dict[tuple[str, str], Any] = {}
    for kind in ("limits", "requests"):
        for name, value in (resources.get(kind) or {}).items():
            try:
                parsed[kind, name] = parse_quantity(value)
            except ValueError:
                yield wrong(
                    f"{field}.{kind}[{name}]",
                    value,
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                )
                continue
            if parsed[kind, name] < 0:
                yield wrong(f"{field}.{kind}[{name}]", str(value), "must be greater than or equal to 0")
            if (
                name not in ("cpu", "memory", "ephemeral-storage")
                and "/" not in name
                and not name.startswith("hugepages-")
            ):
                yield wrong(f"{field}.{kind}[{name}]", name, "must be a standard resource type or fully qualified")
    for (kind, name), value in parsed.items():
        limit = parsed.get(("limits", name))
        if kind == "requests" and limit is not None and value > limit:
            yield wrong(
                f"{field}.requests",
                str(resources["requests"][name]),
                f"must be less than or equal to {name} limit of {resources['limits'][name]}",
            )
