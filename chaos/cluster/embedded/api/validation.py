"""Validation beyond types: the rules that manifests most often break, each naming its field.

Follows k8s.io/kubernetes/pkg/apis/*/validation in field names and wording. Pure: returns causes, raises nothing. Called by
admission once an object has its defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.cluster.embedded.api import netvalidation
from chaos.cluster.embedded.api.errors import Cause, dangling, duplicate, not_allowed, required, unsupported, wrong
from chaos.cluster.embedded.quantity import parse_quantity
from chaos.cluster.embedded.resources import Object, Resource

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_ENV: Final = re.compile(r"[^=\x00-\x1f\x7f]+")

_LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*"
    "[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_DNS1035_RULE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
    "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_RULE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_FREE_NAMES: Final = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")

Causes = Iterator[Cause]


def validate_meta(resource: Resource, meta: Mapping[str, Any]) -> Causes:
    """Name, labels, annotations, owner references, finalizers."""
    name, generated = meta.get("name"), meta.get("generateName")
    if not name and not generated:
        yield required("metadata.name", "name or generateName is required")
    elif name:
        yield from _object_name(resource, name)
    elif len(generated or "") > 250 or (resource.kind not in _FREE_NAMES and not SUBDOMAIN.fullmatch(f"{generated}x")):
        yield wrong("metadata.generateName", generated, _SUBDOMAIN_RULE)
    yield from validate_labels(meta.get("labels") or {}, "metadata.labels")
    size = 0
    for key, value in (meta.get("annotations") or {}).items():
        size += len(key) + len(value)
        if not _is_qualified(key.lower()):
            yield wrong("metadata.annotations", key, _QUALIFIED_RULE)
    if size > 256 * 1024:
        yield Cause("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes")
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield wrong(f"metadata.ownerReferences[{index}].{field}", "", "must not be empty")
    if sum(bool(owner.get("controller")) for owner in meta.get("ownerReferences") or []) > 1:
        yield wrong(
            "metadata.ownerReferences", len(meta["ownerReferences"]), "Only one reference can have Controller set to true"
        )
    for finalizer in meta.get("finalizers") or []:
        if not _is_qualified(finalizer):
            yield wrong("metadata.finalizers", finalizer, _QUALIFIED_RULE)


def _object_name(resource: Resource, name: str) -> Causes:
    if resource.kind in _FREE_NAMES:
        if "/" in name or "%" in name or name in (".", ".."):
            yield wrong("metadata.name", name, "may not be '.' or '..' and may not contain '/' or '%'")
    elif resource.kind == "Service":
        if not _DNS1035.fullmatch(name) or len(name) > 63:
            yield wrong("metadata.name", name, _DNS1035_RULE)
    elif resource.kind == "Namespace":
        if not LABEL.fullmatch(name) or len(name) > 63:
            yield wrong("metadata.name", name, _LABEL_RULE)
    elif not SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield wrong("metadata.name", name, _SUBDOMAIN_RULE)


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and len(name) <= 63 and (not slash or bool(SUBDOMAIN.fullmatch(prefix)))


def validate_labels(labels: Mapping[str, str], field: str) -> Causes:
    for key, value in labels.items():
        if not _is_qualified(key):
            yield wrong(field, key, _QUALIFIED_RULE)
        if value and (not _QUALIFIED.fullmatch(value) or len(value) > 63):
            yield wrong(field, value, _LABEL_VALUE_RULE)


def validate_label_selector(selector: Mapping[str, Any], field: str) -> Causes:
    yield from validate_labels(selector.get("matchLabels") or {}, f"{field}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions") or []):
        where, operator = f"{field}.matchExpressions[{index}]", item.get("operator")
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
        elif operator in ("In", "NotIn") and not item.get("values"):
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and item.get("values"):
            yield not_allowed(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")


# Pods

def validate_pod_spec(spec: Mapping[str, Any], field: str = "spec") -> Causes:
    """Of a pod or of a template, with its defaults."""
    volumes = spec.get("volumes") or []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        where, name = f"{field}.volumes[{index}]", volume.get("name", "")
        yield from _label(name, f"{where}.name")
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        if len(set(volume) - {"name"}) > 1:
            yield not_allowed(where, "may not specify more than 1 volume type")
        if "hostPath" in volume and ".." in str(volume["hostPath"].get("path", "")).split("/"):
            yield wrong(f"{where}.hostPath.path", volume["hostPath"]["path"], "must not contain '..'")
        if "configMap" in volume and not volume["configMap"].get("name"):
            yield required(f"{where}.configMap.name")
        if "secret" in volume and not volume["secret"].get("secretName"):
            yield required(f"{where}.secret.secretName")
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
            f"{field}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"], "must be greater than or equal to 0"
        )
    if spec.get("activeDeadlineSeconds", 1) < 1:
        yield wrong(
            f"{field}.activeDeadlineSeconds", spec["activeDeadlineSeconds"], "must be between 1 and 2147483647, inclusive"
        )
    if spec.get("serviceAccountName") and not SUBDOMAIN.fullmatch(spec["serviceAccountName"]):
        yield wrong(f"{field}.serviceAccountName", spec["serviceAccountName"], _SUBDOMAIN_RULE)
    if spec.get("hostname"):
        yield from _label(spec["hostname"], f"{field}.hostname")
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


def _label(name: str, field: str) -> Causes:
    if not name:
        yield required(field)
    elif not LABEL.fullmatch(name) or len(name) > 63:
        yield wrong(field, name, _LABEL_RULE)


def _container(container: Mapping[str, Any], field: str, volumes: set[str], *, init: bool) -> Causes:
    yield from _label(container.get("name", ""), f"{field}.name")
    image = container.get("image", "")
    if not image:
        yield required(f"{field}.image")
    elif image != image.strip():
        yield wrong(f"{field}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in ("Always", "IfNotPresent", "Never"):
        yield unsupported(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    if container.get("terminationMessagePolicy") not in ("File", "FallbackToLogsOnError"):
        yield unsupported(
            f"{field}.terminationMessagePolicy", container.get("terminationMessagePolicy"), ("File", "FallbackToLogsOnError")
        )
    if init and container.get("restartPolicy", "Always") not in ("Always", "Never", "OnFailure"):
        yield unsupported(f"{field}.restartPolicy", container["restartPolicy"], ("Always", "Never", "OnFailure"))
    yield from _resources(container.get("resources") or {}, f"{field}.resources")
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
            yield wrong(f"{field}.env[{index}].name", variable["name"], "a valid environment variable name must consist only of "
                                                                        "printable ASCII characters other than '='")
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
                yield wrong(f"{field}.{kind}[{name}]", value, "quantities must match the regular expression "
                                                             "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
                continue
            if parsed[kind, name] < 0:
                yield wrong(f"{field}.{kind}[{name}]", str(value), "must be greater than or equal to 0")
            if name not in ("cpu", "memory", "ephemeral-storage") and "/" not in name and not name.startswith("hugepages-"):
                yield wrong(f"{field}.{kind}[{name}]", name, "must be a standard resource type or fully qualified")
    for (kind, name), value in parsed.items():
        limit = parsed.get(("limits", name))
        if kind == "requests" and limit is not None and value > limit:
            yield wrong(f"{field}.requests", str(resources["requests"][name]),
                        f"must be less than or equal to {name} limit of {resources['limits'][name]}")


# Other kinds

def _template(obj: Object, *, policies: tuple[str, ...] = ("Always",), field: str = "spec", spec: Any = None) -> Causes:
    spec = obj["spec"] if spec is None else spec
    template = spec.get("template") or {}
    yield from validate_labels((template.get("metadata") or {}).get("labels") or {}, f"{field}.template.metadata.labels")
    yield from validate_pod_spec(template.get("spec") or {}, f"{field}.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy not in policies and policy in ("Always", "OnFailure", "Never"):
        yield unsupported(f"{field}.template.spec.restartPolicy", policy, policies)


def _selected_template(obj: Object) -> Causes:
    from chaos.cluster.embedded.controllers.labels import matches

    spec, selector = obj["spec"], obj["spec"].get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("spec.selector")
        return
    faults = list(validate_label_selector(selector, "spec.selector"))
    yield from faults
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield wrong("spec.selector", selector, f"empty selector is invalid for {obj['kind'].lower()}")
    elif not faults and not matches(selector, labels):
        yield wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if spec.get("replicas", 0) < 0:
        yield wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    if spec.get("minReadySeconds", 0) < 0:
        yield wrong("spec.minReadySeconds", spec["minReadySeconds"], "must be greater than or equal to 0")
    yield from _template(obj)


def _share(value: Any, field: str) -> Causes:
    """An int or a percentage."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+%", value):
        yield wrong(
            field,
            value,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
            "regex used for validation is '[0-9]+%')",
        )
    elif isinstance(value, int) and value < 0:
        yield wrong(field, value, "must be greater than or equal to 0")


def _is_zero(value: Any) -> bool:
    return value == 0 or (isinstance(value, str) and re.fullmatch(r"0+%", value) is not None)


def _deployment(obj: Object) -> Causes:
    yield from _selected_template(obj)
    strategy = obj["spec"]["strategy"]
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        yield unsupported("spec.strategy", strategy["type"], ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling is not None:
        yield not_allowed("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    elif rolling:
        yield from _share(rolling.get("maxSurge"), "spec.strategy.rollingUpdate.maxSurge")
        yield from _share(rolling.get("maxUnavailable"), "spec.strategy.rollingUpdate.maxUnavailable")
        if _is_zero(rolling.get("maxSurge")) and _is_zero(rolling.get("maxUnavailable")):
            yield wrong("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"],
                        "may not be 0 when `maxSurge` is 0")
    deadline, ready = obj["spec"].get("progressDeadlineSeconds", 600), obj["spec"].get("minReadySeconds", 0)
    if deadline <= ready:
        yield wrong("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _daemon_set(obj: Object) -> Causes:
    yield from _selected_template(obj)
    strategy = obj["spec"]["updateStrategy"]
    if strategy["type"] not in ("OnDelete", "RollingUpdate"):
        yield unsupported("spec.updateStrategy.type", strategy["type"], ("OnDelete", "RollingUpdate"))
    for name in ("maxSurge", "maxUnavailable"):
        yield from _share((strategy.get("rollingUpdate") or {}).get(name), f"spec.updateStrategy.rollingUpdate.{name}")


def _stateful_set(obj: Object) -> Causes:
    yield from _selected_template(obj)
    if obj["spec"]["podManagementPolicy"] not in ("OrderedReady", "Parallel"):
        yield unsupported("spec.podManagementPolicy", obj["spec"]["podManagementPolicy"], ("OrderedReady", "Parallel"))
    if obj["spec"]["updateStrategy"]["type"] not in ("OnDelete", "RollingUpdate"):
        yield unsupported("spec.updateStrategy.type", obj["spec"]["updateStrategy"]["type"], ("OnDelete", "RollingUpdate"))


def _job_spec(obj: Object, spec: Mapping[str, Any], field: str) -> Causes:
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished",
                 "backoffLimitPerIndex", "maxFailedIndexes"):
        if spec.get(name, 0) < 0:
            yield wrong(f"{field}.{name}", spec[name], "must be greater than or equal to 0")
    if spec.get("completionMode", "NonIndexed") not in ("NonIndexed", "Indexed"):
        yield unsupported(f"{field}.completionMode", spec["completionMode"], ("NonIndexed", "Indexed"))
    if spec.get("completionMode") == "Indexed" and "completions" not in spec:
        yield required(f"{field}.completions", "when completion mode is Indexed")
    template = (spec.get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") == "Always":
        yield Cause(
            "FieldValueRequired", f"{field}.template.spec.restartPolicy", 'Required value: valid values: "OnFailure", "Never"'
        )
    yield from _template(obj, policies=("Always", "OnFailure", "Never"), field=field, spec=spec)


def _job(obj: Object) -> Causes:
    yield from _job_spec(obj, obj["spec"], "spec")


_CRON_FIELD: Final = re.compile(r"(\*|\?|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?(,(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?)*")
_CRON_WORDS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def _cron_job(obj: Object) -> Causes:
    spec = obj["spec"]
    schedule = spec.get("schedule", "")
    fields = schedule.split()
    if not schedule:
        yield required("spec.schedule")
    elif schedule not in _CRON_WORDS and not schedule.startswith("@every ") and (
            len(fields) != 5 or not all(_CRON_FIELD.fullmatch(one) for one in fields)):
        yield wrong("spec.schedule", schedule, f"expected exactly 5 fields, found {len(fields)}: {fields}")
    if spec["concurrencyPolicy"] not in ("Allow", "Forbid", "Replace"):
        yield unsupported("spec.concurrencyPolicy", spec["concurrencyPolicy"], ("Allow", "Forbid", "Replace"))
    if len(obj["metadata"].get("name", "")) > 52:
        yield wrong("metadata.name", obj["metadata"]["name"], "must be no more than 52 characters")
    yield from _job_spec(obj, (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")


def _service(obj: Object) -> Causes:
    spec = obj["spec"]
    kind, ports = spec["type"], spec.get("ports") or []
    if kind not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        yield unsupported("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    if kind == "ExternalName":
        if not SUBDOMAIN.fullmatch(str(spec.get("externalName", "")).rstrip(".")):
            yield wrong("spec.externalName", spec.get("externalName", ""), _SUBDOMAIN_RULE)
    elif not ports and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    names: set[str] = set()
    pairs: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        where, number = f"spec.ports[{index}]", port.get("port", 0)
        if not 1 <= number <= 65535:
            yield wrong(f"{where}.port", number, "must be between 1 and 65535, inclusive")
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{where}.name")
        elif port.get("name"):
            yield from _label(port["name"], f"{where}.name")
            if port["name"] in names:
                yield duplicate(f"{where}.name", port["name"])
        names.add(port.get("name", ""))
        if (number, port["protocol"]) in pairs:
            yield duplicate(where, {"port": number, "protocol": port["protocol"]})
        pairs.add((number, port["protocol"]))
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            yield unsupported(f"{where}.protocol", port["protocol"], ("TCP", "UDP", "SCTP"))
        target = port.get("targetPort")
        if isinstance(target, int) and not 1 <= target <= 65535:
            yield wrong(f"{where}.targetPort", target, "must be between 1 and 65535, inclusive")
    yield from validate_labels(spec.get("selector") or {}, "spec.selector")
    if spec["sessionAffinity"] not in ("None", "ClientIP"):
        yield unsupported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))


def _config_map(obj: Object) -> Causes:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            size += len(value)
            if not _CONFIG_KEY.fullmatch(key) or len(key) > 253:
                yield wrong(
                    f"{field}[{key}]",
                    key,
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
                    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                )
            if field == "binaryData" or obj["kind"] == "Secret":
                yield from _base64(value, f"{field}[{key}]")
    if size > 1024 * 1024:
        yield Cause("FieldValueTooLong", "", "Too long: may not be more than 1048576 bytes")


def _base64(value: str, field: str) -> Causes:
    import base64
    import binascii

    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        yield wrong(field, value, "illegal base64 data")


def _rules(obj: Object) -> Causes:
    for index, rule in enumerate(obj.get("rules") or []):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{where}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if obj["kind"] == "Role":
                yield wrong(
                    f"{where}.nonResourceURLs", rule["nonResourceURLs"], "namespaced rules cannot apply to non-resource URLs"
                )
            continue
        if not rule.get("apiGroups"):
            yield required(f"{where}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{where}.resources", "resource rules must supply at least one resource")


def _binding(obj: Object) -> Causes:
    reference = obj.get("roleRef") or {}
    allowed = ("ClusterRole",) if obj["kind"] == "ClusterRoleBinding" else ("ClusterRole", "Role")
    if reference.get("kind") not in allowed:
        yield unsupported("roleRef.kind", reference.get("kind"), allowed)
    if not reference.get("name"):
        yield required("roleRef.name")
    for index, subject in enumerate(obj.get("subjects") or []):
        where = f"subjects[{index}]"
        if not subject.get("name"):
            yield required(f"{where}.name")
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            yield unsupported(f"{where}.kind", subject.get("kind"), ("Group", "ServiceAccount", "User"))
        elif subject["kind"] == "ServiceAccount" and not subject.get("namespace") and obj["kind"] == "ClusterRoleBinding":
            yield required(f"{where}.namespace")


def _budget(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield wrong(
            "spec", {k: spec[k] for k in ("minAvailable", "maxUnavailable")}, "minAvailable and maxUnavailable cannot be both set"
        )
    for name in ("minAvailable", "maxUnavailable"):
        yield from _share(spec.get(name), f"spec.{name}")
    yield from validate_label_selector(spec.get("selector") or {}, "spec.selector")


def _network_policy(obj: Object) -> Causes:
    spec = obj["spec"]
    yield from validate_label_selector(spec.get("podSelector") or {}, "spec.podSelector")
    yield from netvalidation.network_policy(spec)
    for way, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(way) or []):
            for number, peer in enumerate(rule.get(side) or []):
                for name in ("podSelector", "namespaceSelector"):
                    yield from validate_label_selector(peer.get(name) or {}, f"spec.{way}[{index}].{side}[{number}].{name}")


def _lease(obj: Object) -> Causes:
    if (obj.get("spec") or {}).get("leaseDurationSeconds", 1) <= 0:
        yield wrong("spec.leaseDurationSeconds", obj["spec"]["leaseDurationSeconds"], "must be greater than 0")


def _event(obj: Object) -> Causes:
    about = obj.get("involvedObject") or {}
    namespace = about.get("namespace", "")
    if namespace and namespace != obj["metadata"].get("namespace") and not (
            obj["metadata"].get("namespace") == "default" and about.get("kind") in ("Node", "Namespace")):
        yield wrong("involvedObject.namespace", namespace, "does not match event.namespace")


def _pod(obj: Object) -> Causes:
    yield from validate_pod_spec(obj["spec"])
    yield from netvalidation.pod_addresses(obj.get("status") or {})


_RULES: Final = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _selected_template,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "ConfigMap": _config_map,
    "Secret": _config_map,
    "Role": _rules,
    "ClusterRole": _rules,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "PodDisruptionBudget": _budget,
    "NetworkPolicy": _network_policy,
    "EndpointSlice": netvalidation.endpoint_slice,
    "Endpoints": netvalidation.endpoints,
    "Lease": _lease,
    "Event": _event,
}


def validate(resource: Resource, obj: Object) -> list[Cause]:
    """All that is wrong with an object that has its defaults and fits its schema."""
    causes = list(validate_meta(resource, obj["metadata"]))
    if (rules := _RULES.get(resource.kind)) is not None:
        causes += rules(obj)
    return causes
