"""What makes pods, and what holds their number: Deployments, ReplicaSets, DaemonSets, StatefulSets, Jobs, CronJobs,
budgets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import Causes, validate_label_selector, validate_labels
from chaos.embedded.api.validation.pods import validate_pod_spec
from chaos.embedded.resources import Object

_CRON_FIELD: Final = re.compile(
    r"(\*|\?|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?(,(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?)*"
)
_CRON_WORDS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def _template(obj: Object, *, policies: tuple[str, ...] = ("Always",), field: str = "spec", spec: Any = None) -> Causes:
    spec = obj["spec"] if spec is None else spec
    template = spec.get("template") or {}
    yield from validate_labels(
        (template.get("metadata") or {}).get("labels") or {}, f"{field}.template.metadata.labels"
    )
    yield from validate_pod_spec(template.get("spec") or {}, f"{field}.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy not in policies and policy in ("Always", "OnFailure", "Never"):
        yield unsupported(f"{field}.template.spec.restartPolicy", policy, policies)


def selected_template(obj: Object) -> Causes:
    from chaos.embedded.controllers.labels import matches

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


def deployment(obj: Object) -> Causes:
    yield from selected_template(obj)
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
            yield wrong(
                "spec.strategy.rollingUpdate.maxUnavailable",
                rolling["maxUnavailable"],
                "may not be 0 when `maxSurge` is 0",
            )
    deadline, ready = obj["spec"].get("progressDeadlineSeconds", 600), obj["spec"].get("minReadySeconds", 0)
    if deadline <= ready:
        yield wrong("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def daemon_set(obj: Object) -> Causes:
    yield from selected_template(obj)
    strategy = obj["spec"]["updateStrategy"]
    if strategy["type"] not in ("OnDelete", "RollingUpdate"):
        yield unsupported("spec.updateStrategy.type", strategy["type"], ("OnDelete", "RollingUpdate"))
    for name in ("maxSurge", "maxUnavailable"):
        yield from _share((strategy.get("rollingUpdate") or {}).get(name), f"spec.updateStrategy.rollingUpdate.{name}")


def stateful_set(obj: Object) -> Causes:
    yield from selected_template(obj)
    if obj["spec"]["podManagementPolicy"] not in ("OrderedReady", "Parallel"):
        yield unsupported("spec.podManagementPolicy", obj["spec"]["podManagementPolicy"], ("OrderedReady", "Parallel"))
    if obj["spec"]["updateStrategy"]["type"] not in ("OnDelete", "RollingUpdate"):
        yield unsupported(
            "spec.updateStrategy.type", obj["spec"]["updateStrategy"]["type"], ("OnDelete", "RollingUpdate")
        )


def _job_spec(obj: Object, spec: Mapping[str, Any], field: str) -> Causes:
    for name in (
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        if spec.get(name, 0) < 0:
            yield wrong(f"{field}.{name}", spec[name], "must be greater than or equal to 0")
    if spec.get("completionMode", "NonIndexed") not in ("NonIndexed", "Indexed"):
        yield unsupported(f"{field}.completionMode", spec["completionMode"], ("NonIndexed", "Indexed"))
    if spec.get("completionMode") == "Indexed" and "completions" not in spec:
        yield required(f"{field}.completions", "when completion mode is Indexed")
    template = (spec.get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") == "Always":
        yield Cause(
            "FieldValueRequired",
            f"{field}.template.spec.restartPolicy",
            'Required value: valid values: "OnFailure", "Never"',
        )
    yield from _template(obj, policies=("Always", "OnFailure", "Never"), field=field, spec=spec)


def job(obj: Object) -> Causes:
    yield from _job_spec(obj, obj["spec"], "spec")


def cron_job(obj: Object) -> Causes:
    spec = obj["spec"]
    schedule = spec.get("schedule", "")
    fields = schedule.split()
    if not schedule:
        yield required("spec.schedule")
    elif (
        schedule not in _CRON_WORDS
        and not schedule.startswith("@every ")
        and (len(fields) != 5 or not all(_CRON_FIELD.fullmatch(one) for one in fields))
    ):
        yield wrong("spec.schedule", schedule, f"expected exactly 5 fields, found {len(fields)}: {fields}")
    if spec["concurrencyPolicy"] not in ("Allow", "Forbid", "Replace"):
        yield unsupported("spec.concurrencyPolicy", spec["concurrencyPolicy"], ("Allow", "Forbid", "Replace"))
    if len(obj["metadata"].get("name", "")) > 52:
        yield wrong("metadata.name", obj["metadata"]["name"], "must be no more than 52 characters")
    yield from _job_spec(obj, (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")


def budget(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield wrong(
            "spec",
            {k: spec[k] for k in ("minAvailable", "maxUnavailable")},
            "minAvailable and maxUnavailable cannot be both set",
        )
    for name in ("minAvailable", "maxUnavailable"):
        yield from _share(spec.get(name), f"spec.{name}")
    yield from validate_label_selector(spec.get("selector") or {}, "spec.selector")
