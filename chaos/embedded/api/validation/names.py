"""Validation of names, labels, selectors and metadata, in Kubernetes' words.

Rules for a text (`dns_label`, `qualified` and the like) return its problems, empty for a valid one
(k8s.io/apimachinery/pkg/util/validation, .../api/validate/content).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, not_allowed, required, too_long, wrong
from chaos.embedded.resources import Resource

Causes = Iterator[Cause]
Rule = Callable[[str], list[str]]

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_UNDERSCORED: Final = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_KEY: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL: Final = re.compile(_LABEL)
SUBDOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_LETTERS: Final = "lower case alphanumeric characters"
_ENDS: Final = "and must start and end with an alphanumeric character"
_LABELS: Final = ("Namespace", "Service", "StatefulSet")  # which name hosts
_FREE_NAMES: Final = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "PodDisruptionBudget")
_FREE_FINALIZERS: Final = ("apiextensions.k8s.io", "admissionregistration.k8s.io")  # groups without core's rule
_STANDARD_FINALIZERS: Final = ("kubernetes", "orphan", "foregroundDeletion")
_ANNOTATIONS: Final = 256 * 1024
NOT_NEGATIVE: Final = "must be greater than or equal to 0"


def _regex(words: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{words} (e.g. {shown}regex used for validation is '{pattern}')"


def _at_most(value: str, limit: int, unit: str = "characters") -> list[str]:
    return [f"must be no more than {limit} {unit}"] if len(value.encode()) > limit else []


def dns_label(value: str) -> list[str]:
    """RFC 1123: the names of namespaces, containers, volumes."""
    faults = _at_most(value, 63)
    if LABEL.fullmatch(value):
        return faults
    if SUBDOMAIN.fullmatch(value):
        return [*faults, "must not contain dots"]
    words = f"a lowercase RFC 1123 label must consist of {_LETTERS} or '-', {_ENDS}"
    return [*faults, _regex(words, _LABEL, "my-name", "123-abc")]


def dns_1035(value: str) -> list[str]:
    """RFC 1035: versions, kinds and their plurals."""
    faults, pattern = _at_most(value, 63), "[a-z]([-a-z0-9]*[a-z0-9])?"
    if re.fullmatch(pattern, value):
        return faults
    words = (
        f"a DNS-1035 label must consist of {_LETTERS} or '-', start with an alphabetic character, and end with an "
        "alphanumeric character"
    )
    return [*faults, _regex(words, pattern, "my-name", "abc-123")]


def dns_subdomain(value: str) -> list[str]:
    """The names of most objects."""
    faults = _at_most(value, 253)
    if SUBDOMAIN.fullmatch(value):
        return faults
    words = f"a lowercase RFC 1123 subdomain must consist of {_LETTERS}, '-' or '.', {_ENDS}"
    return [*faults, _regex(words, rf"{_LABEL}(\.{_LABEL})*", "example.com")]


def underscored_subdomain(value: str) -> list[str]:
    """Search domains of a pod's DNS."""
    faults, pattern = _at_most(value, 253), rf"{_UNDERSCORED}(\.{_UNDERSCORED})*"
    if re.fullmatch(pattern, value):
        return faults
    words = f"a lowercase RFC 1123 subdomain must consist of {_LETTERS}, '_', '-' or '.', {_ENDS}"
    return [*faults, _regex(words, pattern, "example.com")]


def qualified(value: str) -> list[str]:
    """A label's key: a name, or a subdomain, a slash and a name."""
    words = f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    rule = _regex(words, _KEY, "MyName", "my.name", "123-abc")
    parts = value.split("/")
    if len(parts) > 2:
        return [f"a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    faults: list[str] = []
    if len(parts) == 2:
        found = dns_subdomain(parts[0]) if parts[0] else ["must be non-empty"]
        faults += [f"prefix part {one.replace('characters', 'bytes') if 'no more' in one else one}" for one in found]
    name = parts[-1]
    if not name:
        faults.append("name part must be non-empty")
    faults += [f"name part {one}" for one in _at_most(name, 63, "bytes")]
    if not re.fullmatch(_KEY, name):
        faults.append(f"name part {rule}")
    return faults


def label_value(value: str) -> list[str]:
    faults = _at_most(value, 63, "bytes")
    if value and not re.fullmatch(_KEY, value):
        words = f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
        faults.append(_regex(words, f"({_KEY})?", "MyValue", "my_value", "12345"))
    return faults


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    faults = _at_most(value, 253)
    if not _CONFIG_KEY.fullmatch(value):
        words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        faults.append(_regex(words, _CONFIG_KEY.pattern, "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        faults.append(f"must not be '{value}'")
    elif value.startswith(".."):
        faults.append("must not start with '..'")
    return faults


def path_segment(value: str) -> list[str]:
    """Names in RBAC: anything that can be a part of a URL's path."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in value]


def port_name(value: str) -> list[str]:
    faults = _at_most(value, 15)
    if not re.fullmatch("[-a-z0-9]+", value):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        faults.append("must contain at least one letter (a-z)")
    if "--" in value:
        faults.append("must not contain consecutive hyphens")
    if value and "-" in (value[0], value[-1]):
        faults.append("must not begin or end with a hyphen")
    return faults


def env_name(value: str) -> list[str]:
    if not value:
        return ["environment variable name must be non-empty"]
    if all(" " <= char <= "~" and char != "=" for char in value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def percent(value: str) -> list[str]:
    if re.fullmatch("[0-9]+%", value):
        return []
    words = "a valid percent string must be a numeric string followed by an ending '%'"
    return [_regex(words, "[0-9]+%", "1%", "93%")]


def header_name(value: str) -> list[str]:
    if re.fullmatch("[-A-Za-z0-9]+", value):
        return []
    words = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [_regex(words, "[-A-Za-z0-9]+", "X-Header-Name")]


def domain_path(value: str) -> list[str]:
    """`acme.io/foo`: a domain and a path (`managedBy` of a Job)."""
    domain, slash, path = value.partition("/")
    if not value:
        return ["must be non-empty"]
    if not slash or not domain or not path:
        return ['must be a domain-prefixed path (such as "acme.io/foo")']
    return dns_subdomain(domain)


# ---- causes


def each(field: str, value: Any, faults: Iterable[str]) -> Causes:
    """A cause for each problem of a text."""
    for fault in faults:
        yield wrong(field, value, fault)


def named(value: str, field: str, rule: Rule) -> Causes:
    """Validate a required text by a rule."""
    if value:
        yield from each(field, value, rule(value))
    else:
        yield required(field)


def in_range(value: int, field: str, low: int, high: int) -> Causes:
    if not low <= value <= high:
        yield wrong(field, value, f"must be between {low} and {high}, inclusive")


def port_number(value: int, field: str) -> Causes:
    yield from in_range(value, field, 1, 65535)


def port(value: Any, field: str) -> Causes:
    """Validate a port's number or name."""
    if isinstance(value, str):
        yield from each(field, value, port_name(value))
    else:
        yield from port_number(value or 0, field)


def not_negative(value: int | None, field: str) -> Causes:
    if (value or 0) < 0:
        yield wrong(field, value, NOT_NEGATIVE)


def validate_meta(resource: Resource, meta: Mapping[str, Any]) -> Causes:
    """Validate name, labels, annotations, owner references, finalizers."""
    rule = _name_rule(resource)
    generated, name = meta.get("generateName", ""), meta.get("name", "")
    if generated:
        masked = f"{generated[:-2]}a" if len(generated) > 1 and generated.endswith("-") else generated
        yield from each("metadata.generateName", generated, rule(masked))
    if name:
        yield from each("metadata.name", name, rule(name))
    else:
        yield required("metadata.name", "name or generateName is required")
    if resource.namespaced and "namespace" in meta:
        yield from each("metadata.namespace", meta["namespace"], dns_label(meta["namespace"]))
    yield from validate_labels(meta.get("labels") or {}, "metadata.labels")
    yield from validate_annotations(meta.get("annotations") or {}, "metadata.annotations")
    yield from _owners(meta.get("ownerReferences") or [])
    strict = resource.custom is None and resource.group not in _FREE_FINALIZERS
    yield from _finalizers(meta.get("finalizers") or [], strict=strict)


def _name_rule(resource: Resource) -> Rule:
    if resource.custom is not None:
        return dns_subdomain
    if resource.kind in _FREE_NAMES:
        return path_segment
    return dns_label if resource.kind in _LABELS else dns_subdomain


def validate_annotations(annotations: Mapping[str, str], field: str) -> Causes:
    for key in annotations:
        yield from each(field, key, qualified(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS:
        yield too_long(field, _ANNOTATIONS)


def _owners(owners: list[Any]) -> Causes:
    field, first = "metadata.ownerReferences", ""
    for owner in owners:
        for name, words in (("apiVersion", "version "), ("kind", ""), ("name", ""), ("uid", "")):
            if not owner.get(name):
                yield wrong(f"{field}.{name}", "", f"{words}must not be empty")
        if owner.get("apiVersion", "").count("/") > 1:  # no group and version can be read
            yield wrong(f"{field}.apiVersion", owner["apiVersion"], "version must not be empty")
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            yield wrong(field, owner, "/v1, Kind=Event is disallowed from being an owner")
        if owner.get("controller"):
            this = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if first:
                yield wrong(
                    field,
                    owners,
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{first} and {this}",
                )
            first = first or this


def _finalizers(finalizers: list[str], *, strict: bool) -> Causes:
    field = "metadata.finalizers"
    for one in finalizers:
        yield from each(field, one, qualified(one))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        yield wrong(field, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")
    for index, one in enumerate(finalizers):
        if strict and "/" not in one and one not in _STANDARD_FINALIZERS:
            yield wrong(f"{field}[{index}]", one, "name is neither a standard finalizer name nor is it fully qualified")


def meta_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Causes:
    """Validate changes of an object's metadata."""
    if "deletionTimestamp" in old:
        fresh = sorted(set(new.get("finalizers") or []) - set(old.get("finalizers") or []))
        if fresh:
            listed = ", ".join(f'"{one}"' for one in fresh)
            yield not_allowed(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{listed}}}",
            )


def validate_label(name: str, field: str) -> Causes:
    """Validate a required DNS label."""
    yield from named(name, field, dns_label)


def validate_label_name(key: str, field: str) -> Causes:
    yield from each(field, key, qualified(key))


def validate_labels(labels: Mapping[str, str], field: str) -> Causes:
    for key, value in sorted(labels.items()):
        yield from each(field, key, qualified(key))
        yield from each(field, value, label_value(value))


def validate_label_selector(selector: Mapping[str, Any] | None, field: str) -> Causes:
    selector = selector or {}
    yield from validate_labels(selector.get("matchLabels") or {}, f"{field}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions") or []):
        where, operator = f"{field}.matchExpressions[{index}]", item.get("operator", "")
        if operator in ("In", "NotIn"):
            if not item.get("values"):
                yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist"):
            if item.get("values"):
                yield not_allowed(
                    f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
        else:
            yield wrong(f"{where}.operator", operator, "not a valid selector operator")
        yield from validate_label_name(item.get("key", ""), f"{where}.key")
        for number, value in enumerate(item.get("values") or []):
            yield from each(f"{where}.values[{number}]", value, label_value(value))


def is_selector(selector: Mapping[str, Any] | None) -> bool:
    """Whether the selector can be evaluated."""
    return not any(True for _ in validate_label_selector(selector, ""))


def shown_selector(selector: Mapping[str, Any]) -> dict[str, Any]:
    """A selector as Kubernetes prints it: keys and operators also where they are empty."""
    rules = [{"key": "", "operator": "", **rule} for rule in selector.get("matchExpressions") or []]
    return {**selector, **({"matchExpressions": rules} if rules else {})}
