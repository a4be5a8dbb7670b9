"""Validation of ValidatingAdmissionPolicies and their bindings, with their expressions.

After k8s.io/kubernetes/pkg/apis/admissionregistration/validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import duplicate, not_allowed, required, unsupported, wrong
from chaos.embedded.api.validation.names import (
    Causes,
    dns_1035,
    dns_subdomain,
    each,
    path_segment,
    qualified,
    validate_label_selector,
)
from chaos.embedded.api.validation.webhooks import match_conditions, match_rule, one_of
from chaos.embedded.resources import Object

_REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_MOST_ANNOTATIONS: Final = 20
_LONGEST_VALUE: Final = 5 * 1024
_ANNOTATED: Final = ("string", "null_type")  # what an annotation's value may be
_ITEM: Final = "validations or auditAnnotations must contain at least one item"


def policy(obj: Object) -> Causes:
    from chaos.embedded.api import conditions  # with it comes the CEL runtime

    spec = obj["spec"]
    yield from one_of(spec, "failurePolicy", "spec", ("Fail", "Ignore"))
    params = spec.get("paramKind")
    if params is not None:
        yield from _param_kind(params, "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield required("spec.matchConstraints")
    else:
        yield from _match(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            yield required("spec.matchConstraints.resourceRules")
    yield from match_conditions(spec.get("matchConditions") or [], "spec.matchConditions", params=params is not None)
    known: list[tuple[str, str]] = []
    named = bool(spec.get("variables"))
    for index, variable in enumerate(spec.get("variables") or []):
        where, name = f"spec.variables[{index}]", variable.get("name") or ""
        if not name.strip():
            yield required(f"{where}.name", "name is not specified")
        elif not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield wrong(f"{where}.name", name, "must be a valid CEL identifier")
        scope = conditions.scope(params=params is not None, variables=tuple(known))
        yield from conditions.faults(variable.get("expression") or "", f"{where}.expression", scope, "any")
        known.append((name, variable.get("expression") or ""))
    scope, messages = (
        conditions.scope(params=params is not None, variables=tuple(known) if named else None, message=message)
        for message in (False, True)
    )
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        yield required("spec.validations", _ITEM)
        yield required("spec.auditAnnotations", _ITEM)
    for index, one in enumerate(validations):
        yield from _validation(one, f"spec.validations[{index}]", scope, messages)
    if len(annotations) > _MOST_ANNOTATIONS:
        words = f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations"
        yield wrong("spec.auditAnnotations", annotations, words)
    keys: set[str] = set()
    for index, one in enumerate(annotations):
        where, key, text = f"spec.auditAnnotations[{index}]", one.get("key", ""), one.get("valueExpression") or ""
        whole = f"{obj['metadata'].get('name', '')}/{key}"
        if not obj["metadata"].get("name"):
            yield wrong(f"{where}.key", key, "requires metadata.name be non-empty")
        else:
            yield from each(f"{where}.key", whole, qualified(whole))
        if not text.strip():
            yield required(f"{where}.valueExpression", "valueExpression is not specified")
        elif len(text.strip().encode()) > _LONGEST_VALUE:
            yield required(f"{where}.valueExpression", f"must not exceed {_LONGEST_VALUE} bytes in length")
        else:
            yield from conditions.faults(text.strip(), f"{where}.valueExpression", scope, "any", of=_ANNOTATED)
        if key in keys:
            yield duplicate(f"{where}.key", key)
        keys.add(key)


def _validation(one: Mapping[str, Any], where: str, scope: Any, messages: Any) -> Causes:
    from chaos.embedded.api import conditions

    yield from conditions.faults(one.get("expression") or "", f"{where}.expression", scope)
    expression = one.get("messageExpression") or ""
    if expression and not expression.strip():
        yield wrong(f"{where}.messageExpression", expression, "must be non-empty if specified")
    elif expression:
        yield from conditions.faults(expression, f"{where}.messageExpression", messages, "string")
    message = one.get("message") or ""
    if message and not message.strip():
        yield wrong(f"{where}.message", message, "must be non-empty if specified")
    elif re.search(r"[\n\r]", message.strip()):
        yield wrong(f"{where}.message", message, "must not contain line breaks")
    if one.get("reason") not in (None, *_REASONS):
        yield unsupported(f"{where}.reason", one["reason"], _REASONS)


def _param_kind(kind: Mapping[str, str], where: str) -> Causes:
    group, _, version = kind.get("apiVersion", "").rpartition("/")
    if not kind.get("apiVersion"):
        yield required(f"{where}.apiVersion")
    elif "/" in group:
        yield wrong(f"{where}.apiVersion", kind["apiVersion"], f"unexpected GroupVersion string: {kind['apiVersion']}")
    else:
        if group and (found := dns_subdomain(group)):
            yield wrong(f"{where}.apiVersion", group, ",".join(found))
        if found := dns_1035(version):
            yield wrong(f"{where}.apiVersion", version, ",".join(found))
    if not kind.get("kind"):
        yield required(f"{where}.kind")
    elif found := dns_1035(kind["kind"].lower()):
        words = "may have mixed case, but should otherwise match: " + ",".join(found)
        yield wrong(f"{where}.kind", kind["kind"], words)


def _match(match: Mapping[str, Any], where: str) -> Causes:
    yield from one_of(match, "matchPolicy", where, ("Equivalent", "Exact"))
    for name in ("namespaceSelector", "objectSelector"):
        yield from validate_label_selector(match.get(name), f"{where}.{name}")
    for kind in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(kind) or []):
            at = f"{where}.{kind}[{index}]"
            yield from match_rule(rule, at)
            names = rule.get("resourceNames") or []
            for number, name in enumerate(names):
                yield from each(f"{at}.resourceNames[{number}]", name, path_segment(name))
                if name in names[:number]:
                    yield duplicate(f"{at}.resourceNames[{number}]", name)


def binding(obj: Object) -> Causes:
    spec = obj["spec"]
    name = spec.get("policyName", "")
    if name:
        yield from each("spec.policyName", name, dns_subdomain(name))
    else:
        yield required("spec.policyName")
    if (reference := spec.get("paramRef")) is not None:
        yield from _param_reference(reference, "spec.paramRef")
    if (match := spec.get("matchResources")) is not None:
        yield from _match(match, "spec.matchResources")
    actions = spec.get("validationActions") or []
    if not actions:
        yield required("spec.validationActions", "at least one validation action is required")
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            yield unsupported(f"spec.validationActions[{index}]", action, _ACTIONS)
        if action in actions[:index]:
            yield duplicate(f"spec.validationActions[{index}]", action)
    if "Deny" in actions and "Warn" in actions:
        words = "must not contain both Deny and Warn (repeating the same validation failure information in the "
        yield wrong("spec.validationActions", actions, f"{words}API response and headers serves no purpose)")


def _param_reference(reference: Mapping[str, Any], where: str) -> Causes:
    name, selector, both = reference.get("name"), reference.get("selector"), "name and selector are mutually exclusive"
    if name:
        yield from each(f"{where}.name", name, path_segment(name))
        if selector is not None:
            yield not_allowed(f"{where}.name", both)
    if selector is not None:
        yield from validate_label_selector(selector, f"{where}.selector")
        if name:
            yield not_allowed(f"{where}.selector", both)
    if not name and selector is None:
        yield required(where, "one of name or selector must be specified")
    action = reference.get("parameterNotFoundAction")
    if not action:
        yield required(f"{where}.parameterNotFoundAction")
    elif action not in ("Allow", "Deny"):
        yield unsupported(f"{where}.parameterNotFoundAction", action, ("Deny", "Allow"))
