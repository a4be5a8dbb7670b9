"""Validation of Deployments, ReplicaSets, DaemonSets, StatefulSets, Jobs, CronJobs and disruption budgets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, duplicate, not_allowed, required, too_long, too_many, unsupported, wrong
from chaos.embedded.api.validation.claims import claim_spec
from chaos.embedded.api.validation.names import (
    Causes,
    dns_label,
    domain_path,
    each,
    is_selector,
    not_negative,
    percent,
    qualified,
    shown_selector,
    validate_label,
    validate_label_selector,
    validate_labels,
)
from chaos.embedded.api.validation.pods import validate_template
from chaos.embedded.cron import schedule_fault, zone_fault
from chaos.embedded.resources import Object

_NO_MATCH: Final = "`selector` does not match template `labels`"
_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")


def _labels(template: Mapping[str, Any]) -> dict[str, str] | None:
    return (template.get("metadata") or {}).get("labels")


def _selects(selector: Mapping[str, Any] | None, template: Mapping[str, Any]) -> bool:
    from chaos.embedded.controllers.labels import matches

    return selector is not None and matches(selector, _labels(template))


def _selector(selector: Mapping[str, Any] | None, kind: str) -> Causes:
    if selector is None:
        yield required("spec.selector")
        return
    yield from validate_label_selector(selector, "spec.selector")
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield wrong("spec.selector", selector, f"empty selector is invalid for {kind}")


def _always(spec: Mapping[str, Any], kind: str) -> Causes:
    pod = (spec.get("template") or {}).get("spec") or {}
    if pod.get("restartPolicy") != "Always":
        yield unsupported("spec.template.spec.restartPolicy", pod.get("restartPolicy", ""), ("Always",))
    if "activeDeadlineSeconds" in pod:
        words = f"activeDeadlineSeconds in {kind} is not Supported"
        yield not_allowed("spec.template.spec.activeDeadlineSeconds", words)


def _replicated(spec: Mapping[str, Any]) -> Causes:
    """Validate the selector and template of a Deployment or ReplicaSet."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    yield from _selector(selector, "deployment")
    if selector is None or is_selector(selector):
        wanted = selector is not None and (selector.get("matchLabels") or selector.get("matchExpressions"))
        if selector is None or (wanted and not _selects(selector, template)):
            yield wrong("spec.template.metadata.labels", _labels(template), _NO_MATCH)
        yield from validate_template(template, "spec.template")
        yield from _always(spec, "ReplicaSet")
    else:
        yield wrong("spec.selector", shown_selector(selector), "invalid label selector")


def replica_set(obj: Object) -> Causes:
    spec = obj["spec"]
    yield from not_negative(spec.get("replicas"), "spec.replicas")
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    yield from _replicated(spec)


_LIMITS: Final[Mapping[str, Any]] = {"maxUnavailable": 0, "maxSurge": 0}


def _shown(strategy: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """A strategy in the format of Kubernetes' internal type; `parts`: what stands for nothing, by name."""
    rolling = strategy.get("rollingUpdate")
    shown = (
        {name[:1].upper() + name[1:]: rolling.get(name, nothing) for name, nothing in parts.items()}
        if rolling
        else None
    )
    return {"Type": strategy["type"], "RollingUpdate": shown}


def _amount(value: Any, field: str) -> Causes:
    """Validate a count or percentage of pods."""
    if isinstance(value, str):
        yield from each(field, value, percent(value))
    else:
        yield from not_negative(value, field)


def _as_number(value: Any) -> int:
    if isinstance(value, str):
        return int(value[:-1]) if re.fullmatch("[0-9]+%", value) else 0
    return value or 0


def _at_most_all(value: Any, field: str) -> Causes:
    if isinstance(value, str) and _as_number(value) > 100:
        yield wrong(field, value, "must not be greater than 100%")


def deployment(obj: Object) -> Causes:
    spec, strategy = obj["spec"], obj["spec"]["strategy"]
    yield from not_negative(spec.get("replicas"), "spec.replicas")
    yield from _replicated(spec)
    rolling, field = strategy.get("rollingUpdate"), "spec.strategy.rollingUpdate"
    if strategy["type"] == "Recreate":
        if rolling is not None:
            yield not_allowed(field, "may not be specified when strategy `type` is 'Recreate'")
    elif strategy["type"] != "RollingUpdate":
        yield unsupported("spec.strategy", _shown(strategy, _LIMITS), ("Recreate", "RollingUpdate"))
    else:
        down, up = (rolling or {}).get("maxUnavailable"), (rolling or {}).get("maxSurge")
        yield from _amount(down, f"{field}.maxUnavailable")
        yield from _amount(up, f"{field}.maxSurge")
        if not _as_number(down) and not _as_number(up):
            yield wrong(f"{field}.maxUnavailable", down, "may not be 0 when `maxSurge` is 0")
        yield from _at_most_all(down, f"{field}.maxUnavailable")
    for name in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        yield from not_negative(spec.get(name), f"spec.{name}")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        yield wrong("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def daemon_set(obj: Object) -> Causes:
    spec, selector, template = obj["spec"], obj["spec"].get("selector"), obj["spec"].get("template") or {}
    yield from validate_label_selector(selector, "spec.selector")
    if is_selector(selector) and not _selects(selector, template):
        yield wrong("spec.template.metadata.labels", _labels(template), _NO_MATCH)
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield wrong("spec.selector", selector, "empty selector is invalid for daemonset")
    yield from validate_template(template, "spec.template")
    yield from _always(spec, "DaemonSet")
    yield from not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    strategy = spec["updateStrategy"]
    rolling, field = strategy.get("rollingUpdate"), "spec.updateStrategy.rollingUpdate"
    if strategy["type"] not in ("OnDelete", "RollingUpdate"):
        yield unsupported("spec.updateStrategy", _shown(strategy, _LIMITS), ("RollingUpdate", "OnDelete"))
    elif strategy["type"] == "RollingUpdate":
        down, up = (rolling or {}).get("maxUnavailable"), (rolling or {}).get("maxSurge")
        for name, value in (("maxUnavailable", down), ("maxSurge", up)):
            yield from _amount(value, f"{field}.{name}")
        for name, value in (("maxUnavailable", down), ("maxSurge", up)):
            yield from _at_most_all(value, f"{field}.{name}")
        if _as_number(down) and _as_number(up):
            yield wrong(f"{field}.maxSurge", up, "may not be set when maxUnavailable is non-zero")
        elif not _as_number(down) and not _as_number(up):
            yield required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    yield from not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")


def stateful_set(obj: Object) -> Causes:
    spec, strategy = obj["spec"], obj["spec"]["updateStrategy"]
    if spec["podManagementPolicy"] not in ("OrderedReady", "Parallel"):
        yield wrong("spec.podManagementPolicy", spec["podManagementPolicy"], "must be 'OrderedReady' or 'Parallel'")
    rolling, field = strategy.get("rollingUpdate"), "spec.updateStrategy.rollingUpdate"
    if strategy["type"] == "OnDelete":
        if rolling is not None:
            shown = {"Partition": rolling.get("partition", 0), "MaxUnavailable": rolling.get("maxUnavailable")}
            yield wrong(field, shown, "only allowed for updateStrategy 'RollingUpdate'")
    elif strategy["type"] == "RollingUpdate":
        if rolling is not None:
            yield from not_negative(rolling.get("partition"), f"{field}.partition")
    else:
        parts = {"partition": 0, "maxUnavailable": None}
        yield wrong("spec.updateStrategy", _shown(strategy, parts), "must be 'RollingUpdate' or 'OnDelete'")
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for name in ("whenDeleted", "whenScaled"):
        if retention.get(name, "Retain") not in ("Retain", "Delete"):
            where = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            yield unsupported(where, retention[name], ("Retain", "Delete"))
    for name in ("replicas", "minReadySeconds"):
        yield from not_negative(spec.get(name), f"spec.{name}")
    yield from not_negative((spec.get("ordinals") or {}).get("start"), "spec.ordinals.start")
    for index, one in enumerate(spec.get("volumeClaimTemplates") or []):
        yield from claim_spec(one.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
    if spec.get("serviceName"):
        yield from validate_label(spec["serviceName"], "spec.serviceName")
    yield from _set_template(spec)


def _set_template(spec: Mapping[str, Any]) -> Causes:
    selector, template = spec.get("selector"), spec.get("template") or {}
    yield from _selector(selector, "statefulset")
    if selector is not None and not is_selector(selector):
        yield wrong("spec.selector", shown_selector(selector), "")
    else:
        wanted = selector is not None and (selector.get("matchLabels") or selector.get("matchExpressions"))
        if selector is None or (wanted and not _selects(selector, template)):
            yield wrong("spec.template.metadata.labels", _labels(template), _NO_MATCH)
        yield from validate_template(_with_claims(spec, template), "spec.template")
        yield from validate_labels(_labels(template) or {}, "spec.template.labels")
    yield from _always(spec, "StatefulSet")


def _with_claims(spec: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """The template as its pods will be: with the claims' volumes, and generated names."""
    pod = {key: value for key, value in (template.get("spec") or {}).items() if key not in ("hostname", "subdomain")}
    templates = spec.get("volumeClaimTemplates") or []
    claims = list(dict.fromkeys((one.get("metadata") or {}).get("name", "") for one in templates))
    if claims:
        kept = [one for one in pod.get("volumes") or [] if one.get("name") not in claims]
        pod["volumes"] = [*({"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims), *kept]
    return {**template, "spec": pod}


def _job_spec(spec: Mapping[str, Any], field: str) -> Causes:
    for name in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        yield from not_negative(spec.get(name), f"{field}.{name}")
        if name == "maxFailedIndexes" and name in spec and "backoffLimitPerIndex" not in spec:
            yield required(f"{field}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if (manager := spec.get("managedBy")) is not None:
        yield from (
            each(f"{field}.managedBy", manager, domain_path(manager)) if manager else [required(f"{field}.managedBy")]
        )
        if len(manager) > 63:
            yield too_long(f"{field}.managedBy", 63)
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in ("NonIndexed", "Indexed"):
        yield unsupported(f"{field}.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode == "Indexed":
        yield from _indexed(spec, field)
    elif mode == "NonIndexed":
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if name in spec:
                yield wrong(f"{field}.{name}", spec[name], "requires indexed completion mode")
    if "podFailurePolicy" in spec:
        yield from _failure_policy(spec, f"{field}.podFailurePolicy.rules")
    if "successPolicy" in spec:
        if mode != "Indexed":
            rules = (spec["successPolicy"] or {}).get("rules") or []
            names = {"SucceededIndexes": "succeededIndexes", "SucceededCount": "succeededCount"}
            shown = {"Rules": [{shown: rule.get(name) for shown, name in names.items()} for rule in rules]}
            yield wrong(f"{field}.successPolicy", shown, "requires indexed completion mode")
        else:
            yield from _success_policy(spec, f"{field}.successPolicy.rules")
    replacing = spec.get("podReplacementPolicy")
    known = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
    if replacing is not None and replacing not in known:
        yield unsupported(f"{field}.podReplacementPolicy", replacing, known)
    template = spec.get("template") or {}
    yield from validate_template(template, f"{field}.template")
    policy, where = (template.get("spec") or {}).get("restartPolicy", ""), f"{field}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        yield required(where, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield unsupported(where, policy, ("OnFailure", "Never"))
    elif "podFailurePolicy" in spec and policy != "Never":
        yield wrong(where, policy, 'only "Never" is supported when podFailurePolicy is specified')


def _indexed(spec: Mapping[str, Any], field: str) -> Causes:
    number, most = spec.get("completions"), spec.get("maxFailedIndexes")
    if number is None:
        yield required(f"{field}.completions", "when completion mode is Indexed")
    if spec.get("parallelism", 0) > 100_000:
        words = "must be less than or equal to 100000 when completion mode is Indexed"
        yield wrong(f"{field}.parallelism", spec["parallelism"], words)
    if most is not None:
        if number is not None and most > number:
            yield wrong(f"{field}.maxFailedIndexes", most, "must be less than or equal to completions")
        if most > 100_000:
            yield wrong(f"{field}.maxFailedIndexes", most, "must be less than or equal to 100000")


def _failure_policy(spec: Mapping[str, Any], field: str) -> Causes:
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    pod = (spec.get("template") or {}).get("spec") or {}
    names = {one.get("name") for kind in ("containers", "initContainers") for one in pod.get(kind) or []}
    if len(rules) > 20:
        yield too_many(field, len(rules), 20)
    for index, rule in enumerate(rules):
        where, action = f"{field}[{index}]", rule.get("action", "")
        if not action:
            yield required(f"{where}.action", 'valid values: ["Count" "FailIndex" "FailJob" "Ignore"]')
        elif action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            yield wrong(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        elif action not in _ACTIONS:
            yield unsupported(f"{where}.action", action, _ACTIONS)
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if codes is not None:
            yield from _exit_codes(codes, f"{where}.onExitCodes", names)
        for number, pattern in enumerate(conditions):
            at = f"{where}.onPodConditions[{number}]"
            yield from each(f"{at}.type", pattern.get("type", ""), qualified(pattern.get("type", "")))
            if pattern.get("status", "") not in ("False", "True", "Unknown"):
                yield unsupported(f"{at}.status", pattern.get("status", ""), ("False", "True", "Unknown"))
        if codes is not None and conditions:
            yield _bare(where, "specifying both OnExitCodes and OnPodConditions is not supported")
        if codes is None and not conditions:
            yield _bare(where, "specifying one of OnExitCodes and OnPodConditions is required")


def _bare(field: str, words: str) -> Cause:
    return Cause("FieldValueInvalid", field, f"Invalid value: {words}")


def _exit_codes(codes: Mapping[str, Any], field: str, names: set[Any]) -> Causes:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    if not operator:
        yield required(f"{field}.operator", 'valid values: ["In" "NotIn"]')
    elif operator not in ("In", "NotIn"):
        yield unsupported(f"{field}.operator", operator, ("In", "NotIn"))
    if "containerName" in codes and codes["containerName"] not in names:
        words = "must be one of the container or initContainer names in the pod template"
        yield wrong(f"{field}.containerName", codes["containerName"], words)
    if not values:
        yield wrong(f"{field}.values", codes.get("values"), "at least one value is required")
    elif len(values) > 255:
        yield too_many(f"{field}.values", len(values), 255)
    before: set[int] = set()
    for index, value in enumerate(values):
        where = f"{field}.values[{index}]"
        if operator == "In" and value == 0:
            yield wrong(where, value, "must not be 0 for the In operator")
        if value in before:
            yield duplicate(where, value)
        before.add(value)
    if sorted(values) != values:
        yield wrong(f"{field}.values", values, "must be ordered")


def _success_policy(spec: Mapping[str, Any], field: str) -> Causes:
    rules = (spec.get("successPolicy") or {}).get("rules") or []
    if not rules:
        yield required(field, "at least one rules must be specified when the successPolicy is specified")
    if len(rules) > 20:
        yield too_many(field, len(rules), 20)
    for index, rule in enumerate(rules):
        where, count = f"{field}[{index}]", rule.get("succeededCount")
        if count is None and "succeededIndexes" not in rule:
            yield required(where, "at least one of succeededCount or succeededIndexes must be specified")
        yield from not_negative(count, f"{where}.succeededCount")
        total = spec.get("completions")
        held: int | None = None
        if (indexes := rule.get("succeededIndexes")) is not None:
            held, fault = _index_list(indexes, total or 0)
            if fault:
                yield wrong(f"{where}.succeededIndexes", indexes, f"error parsing succeededIndexes: {fault}")
        for limit, kind in (
            (total, "specified completions"),
            (held, "indexes in the specified succeededIndexes field"),
        ):
            if count is not None and limit is not None and count > limit:
                words = f"must be less than or equal to {limit} (the number of {kind})"
                yield wrong(f"{where}.succeededCount", count, words)


def _index_list(text: str, total: int) -> tuple[int, str]:
    """(how many indexes a list such as `1,3-5` holds, what is wrong with it); 0 of a wrong one."""
    count, last = 0, -1
    for part in text.split(",") if text else ():
        ends = part.split("-")
        if len(ends) > 2:
            words = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return 0, f'the fragment "{part}" {words}'
        numbers = []
        for end in ends:
            if not re.fullmatch(r"[+-]?[0-9]+", end):
                return 0, f'cannot convert string to integer for index: "{end}"'
            if int(end) >= total:
                return 0, f'too large index: "{end}"'
            numbers.append(int(end))
        if numbers[0] <= last:
            return 0, f"non-increasing order, previous: {last}, current: {numbers[0]}"
        if len(numbers) > 1 and numbers[1] <= numbers[0]:
            return 0, f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}"
        last = numbers[-1]
        count += last - numbers[0] + 1
    return count, ""


def job(obj: Object) -> Causes:
    spec, meta = obj["spec"], obj["metadata"]
    selector, template = spec.get("selector"), spec.get("template") or {}
    yield from _generated_selector(spec, meta)
    yield from _job_spec(spec, "spec")
    if selector is None:
        yield required("spec.selector")
    else:
        yield from validate_label_selector(selector, "spec.selector")
    if is_selector(selector) and not _selects(selector, template):
        yield wrong("spec.template.metadata.labels", _labels(template), _NO_MATCH)
    if spec.get("completionMode") == "Indexed" and spec.get("completions", 0) > 0:
        longest = f"{meta.get('name', '')}-{spec['completions'] - 1}"
        if dns_label(longest):
            words = f"will not able to create pod with invalid DNS label: {longest}"
            yield wrong("metadata.name", meta.get("name", ""), words)


def _generated_selector(spec: Mapping[str, Any], meta: Mapping[str, Any]) -> Causes:
    """Validate that a Job's selector is generated, unless it is manual."""
    from chaos.embedded.controllers.labels import matches

    selector = spec.get("selector")
    if spec.get("manualSelector") or selector is None:
        return
    labels = _labels(spec.get("template") or {}) or {}
    own = {
        "controller-uid": meta.get("uid", ""),
        "job-name": meta.get("name", ""),
        "batch.kubernetes.io/controller-uid": meta.get("uid", ""),
        "batch.kubernetes.io/job-name": meta.get("name", ""),
    }
    for key, value in own.items():
        where = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            yield required(where, f"must be '{value}'")
        elif labels[key] != value:
            yield wrong(where, labels, f"must be '{value}'")
    if is_selector(selector) and not matches(selector, own):
        yield wrong("spec.selector", selector, "`selector` not auto-generated")


def cron_job(obj: Object) -> Causes:
    spec, template = obj["spec"], (obj["spec"].get("jobTemplate") or {}).get("spec") or {}
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        yield required("spec.schedule")
    else:
        yield from each("spec.schedule", schedule, schedule_fault(schedule))
        if "TZ" in schedule:
            words = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            yield wrong("spec.schedule", schedule, words)
    yield from not_negative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
    if zone is not None:
        yield from each("spec.timeZone", zone, zone_fault(zone))
    policy = spec.get("concurrencyPolicy", "")
    if not policy:
        yield required("spec.concurrencyPolicy")
    elif policy not in ("Allow", "Forbid", "Replace"):
        yield unsupported("spec.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace"))
    yield from _job_spec(template, "spec.jobTemplate.spec")
    if "selector" in template:
        yield wrong("spec.jobTemplate.spec.selector", template["selector"], "`selector` will be auto-generated")
    if template.get("manualSelector"):
        yield unsupported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from not_negative(spec.get(name), f"spec.{name}")
    name = obj["metadata"].get("name", "")
    if len(name) > 52:
        yield wrong("metadata.name", name, "must be no more than 52 characters")


def budget(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        shown = {
            "MinAvailable": spec["minAvailable"],
            "Selector": spec.get("selector"),
            "MaxUnavailable": spec["maxUnavailable"],
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        yield wrong("spec", shown, "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        if name in spec:
            yield from _amount(spec[name], f"spec.{name}")
            yield from _at_most_all(spec[name], f"spec.{name}")
    yield from validate_label_selector(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy", "AlwaysAllow")
    if policy not in ("AlwaysAllow", "IfHealthyBudget"):
        yield unsupported("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))


def replicas_seen(kind: str, status: Mapping[str, Any]) -> Causes:
    """Validate a workload's status counts: none negative, none above the total."""
    names = {
        "Deployment": ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"),
        "ReplicaSet": ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
        "StatefulSet": ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"),
    }.get(kind, ())
    for name in names:
        yield from not_negative(status.get(name), f"status.{name}")
    yield from not_negative(status.get("observedGeneration"), "status.observedGeneration")
    for name in names[1:]:
        if name != "unavailableReplicas" and status.get(name, 0) > status.get("replicas", 0):
            yield wrong(f"status.{name}", status.get(name, 0), "cannot be greater than status.replicas")
    if "availableReplicas" in names and status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
        more = "status.readyReplicas" if kind == "StatefulSet" else "readyReplicas"
        yield wrong("status.availableReplicas", status["availableReplicas"], f"cannot be greater than {more}")
