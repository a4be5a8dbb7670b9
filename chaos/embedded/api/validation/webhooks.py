"""Validation of webhook configurations and of the rules that match requests.

After k8s.io/kubernetes/pkg/apis/admissionregistration/validation and k8s.io/apiserver/pkg/util/webhook/validation.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from chaos.embedded.api.errors import duplicate, required, too_many, unsupported, wrong
from chaos.embedded.api.validation.names import (
    Causes,
    dns_1035,
    dns_subdomain,
    each,
    qualified,
    validate_label_selector,
)
from chaos.embedded.resources import Object

REVIEWS: Final = ("v1", "v1beta1")
_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_FORM: Final = "; desired format: https://host[/path]"
_MOST_CONDITIONS: Final = 64


def configuration(obj: Object) -> Causes:
    """Validate a MutatingWebhookConfiguration or ValidatingWebhookConfiguration."""
    seen: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks") or []):
        where, name = f"webhooks[{index}]", hook.get("name", "")
        yield from _webhook(hook, where, mutating=obj["kind"] == "MutatingWebhookConfiguration")
        yield from _review_versions(hook.get("admissionReviewVersions") or [], f"{where}.admissionReviewVersions")
        if name and name in seen:
            yield duplicate(f"{where}.name", name)
        seen.add(name)


def _webhook(hook: Mapping[str, Any], where: str, *, mutating: bool) -> Causes:
    yield from _qualified_name(hook.get("name", ""), f"{where}.name")
    for index, rule in enumerate(hook.get("rules") or []):
        yield from match_rule(rule, f"{where}.rules[{index}]")
    yield from one_of(hook, "failurePolicy", where, ("Fail", "Ignore"))
    yield from one_of(hook, "matchPolicy", where, ("Equivalent", "Exact"))
    if "sideEffects" not in hook:
        yield required(f"{where}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}")
    yield from one_of(hook, "sideEffects", where, _SIDE_EFFECTS)
    if not 1 <= hook["timeoutSeconds"] <= 30:
        words = "the timeout value must be between 1 and 30 seconds"
        yield wrong(f"{where}.timeoutSeconds", hook["timeoutSeconds"], words)
    for name in ("namespaceSelector", "objectSelector"):
        yield from validate_label_selector(hook.get(name), f"{where}.{name}")
    if mutating:
        yield from one_of(hook, "reinvocationPolicy", where, ("IfNeeded", "Never"))
    yield from _client(hook.get("clientConfig") or {}, f"{where}.clientConfig")
    yield from match_conditions(hook.get("matchConditions") or [], f"{where}.matchConditions")


def one_of(hook: Mapping[str, Any], name: str, where: str, allowed: Sequence[str]) -> Causes:
    if name in hook and hook[name] not in allowed:
        yield unsupported(f"{where}.{name}", hook[name], allowed)


def _qualified_name(name: str, field: str) -> Causes:
    if not name:
        yield required(field)
    elif faults := dns_subdomain(name):
        yield wrong(field, name, ",".join(faults))
    elif name.count(".") < 2:
        yield wrong(field, name, "should be a domain with at least three segments separated by dots")


def _review_versions(versions: Sequence[str], field: str) -> Causes:
    known = ", ".join(REVIEWS)
    if not versions:
        yield required(field, f"must specify one of {known}")
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield wrong(f"{field}[{index}]", version, "duplicate version")
        else:
            yield from each(f"{field}[{index}]", version, dns_1035(version))
    if not set(versions) & set(REVIEWS):
        yield wrong(field, list(versions), f"must include at least one of {known}")


def _client(client: Mapping[str, Any], where: str) -> Causes:
    service, url = client.get("service"), client.get("url")
    if (service is None) == (url is None):
        yield required(where, "exactly one of url or service is required")
    elif url is not None:
        yield from _url(url, f"{where}.url")
    elif service is not None:
        yield from service_reference(service, f"{where}.service")


def _fault(url: str) -> str:
    """What Go's parser of URLs finds wrong before there are parts; empty: nothing."""
    if any(char < " " or char == "\x7f" for char in url):
        return "net/url: invalid control character in URL"
    if url.startswith(":"):
        return "missing protocol scheme"
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|/", url) and ":" in url.partition("/")[0]:
        return "first path segment in URL cannot contain colon"
    return ""


def _url(url: str, field: str) -> Causes:
    if why := _fault(url):
        yield required(field, f"url must be a valid URL: parse {json.dumps(url)}: {why}{_FORM}")
        return
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        yield required(field, f'url must be a valid URL: parse "{url}": {error}{_FORM}')
        return
    if parts.scheme != "https":
        yield wrong(field, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    if not parts.netloc:
        yield wrong(field, "", f"host must be specified{_FORM}")
    if "@" in parts.netloc:
        user = _user(parts)
        yield wrong(field, user, "user information is not permitted in the URL")
    if parts.fragment:
        yield wrong(field, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield wrong(field, parts.query, "query parameters are not permitted in the URL")


def _user(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[0]


def service_reference(service: Mapping[str, Any], where: str) -> Causes:
    """Validate a reference to the Service to call."""
    for name in ("name", "namespace"):
        if not service.get(name):
            yield required(f"{where}.{name}")
    if not 1 <= service["port"] <= 65535:
        words = "port is not valid: must be between 1 and 65535, inclusive"
        yield wrong(f"{where}.port", service["port"], words)
    yield from _path(service.get("path") or "", f"{where}.path")


def _path(path: str, field: str) -> Causes:
    if path in ("", "/"):
        return
    if path == "//":
        yield wrong(field, path, "segment[0] may not be empty")
        return
    if not path.startswith("/"):
        yield wrong(field, path, "must start with a '/'")
    for index, step in enumerate(path[1:].removesuffix("/").split("/")):
        if not step:
            yield wrong(field, path, f"segment[{index}] may not be empty")
        else:
            for fault in dns_subdomain(step):
                yield wrong(field, path, f"segment[{index}]: {fault}")


def match_rule(rule: Mapping[str, Any], where: str) -> Causes:
    """Validate a rule of operations and resources."""
    operations = rule.get("operations") or []
    if not operations:
        yield required(f"{where}.operations")
    yield from _alone(operations, f"{where}.operations", "operations")
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            yield unsupported(f"{where}.operations[{index}]", operation, _OPERATIONS)
    for name, words in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        if not rule.get(name):
            yield required(f"{where}.{name}")
        yield from _alone(rule.get(name) or [], f"{where}.{name}", words)
    for index, version in enumerate(rule.get("apiVersions") or []):
        if not version:
            yield required(f"{where}.apiVersions[{index}]")
    yield from _resources(rule.get("resources") or [], f"{where}.resources")
    if rule.get("scope", "*") not in _SCOPES:
        yield unsupported(f"{where}.scope", rule["scope"], _SCOPES)


def _alone(items: Sequence[str], field: str, words: str) -> Causes:
    if len(items) > 1 and "*" in items:
        yield wrong(field, list(items), f"if '*' is present, must not specify other {words}")


def _resources(resources: Sequence[str], field: str) -> Causes:
    if not resources:
        yield required(field)
    whole: set[str] = set()  # x of x/*
    everywhere: set[str] = set()  # y of */y
    plain = False
    for index, one in enumerate(resources):
        at = f"{field}[{index}]"
        if not one:
            yield required(at)
            continue
        resource, slash, sub = one.partition("/")
        if not slash:
            plain = one != "*"
            continue
        if resource in whole:
            yield wrong(at, one, f"if '{resource}/*' is present, must not specify {one}")
        if sub in everywhere:
            yield wrong(at, one, f"if '*/{sub}' is present, must not specify {one}")
        if sub == "*":
            whole.add(resource)
        if resource == "*":
            everywhere.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        yield wrong(field, list(resources), "if '*/*' is present, must not specify other resources")
    if "*" in resources and plain:
        words = "if '*' is present, must not specify other resources without subresources"
        yield wrong(field, list(resources), words)


def match_conditions(conditions: Sequence[Mapping[str, Any]], where: str, *, params: bool = False) -> Causes:
    """Validate CEL conditions of a webhook or a policy: names and expressions."""
    if len(conditions) > _MOST_CONDITIONS:
        yield too_many(where, len(conditions), _MOST_CONDITIONS)
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at, name = f"{where}[{index}]", condition.get("name", "")
        text = str(condition.get("expression") or "").strip()
        if text:
            from chaos.embedded.api import conditions as expressions  # with it comes the CEL runtime

            yield from expressions.faults(text, f"{at}.expression", expressions.scope(params=params))
        else:
            yield required(f"{at}.expression")
        if not name:
            yield required(f"{at}.name")
            continue
        yield from each(f"{at}.name", name, qualified(name))
        if name in seen:
            yield duplicate(f"{at}.name", name)
        seen.add(name)
