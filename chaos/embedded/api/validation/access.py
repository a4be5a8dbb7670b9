"""Validation of Roles and their bindings."""

from __future__ import annotations

from typing import Final

from chaos.embedded.api.errors import required, unsupported, wrong
from chaos.embedded.api.validation.names import Causes, dns_subdomain, each, path_segment, validate_label_selector
from chaos.embedded.resources import Object

_GROUP: Final = "rbac.authorization.k8s.io"


def rules(obj: Object) -> Causes:
    for index, rule in enumerate(obj.get("rules") or []):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{where}.verbs", "verbs must contain at least one value")
        if urls := rule.get("nonResourceURLs"):
            if obj["kind"] == "Role":
                words = "namespaced rules cannot apply to non-resource URLs"
                yield wrong(f"{where}.nonResourceURLs", urls, words)
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                words = "rules cannot apply to both regular resources and non-resource URLs"
                yield wrong(f"{where}.nonResourceURLs", urls, words)
            continue
        if not rule.get("apiGroups"):
            yield required(f"{where}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{where}.resources", "resource rules must supply at least one resource")
    if (aggregated := obj.get("aggregationRule")) is not None:
        where, selectors = "aggregationRule.clusterRoleSelectors", aggregated.get("clusterRoleSelectors") or []
        if not selectors:
            yield required(where, "at least one clusterRoleSelector required if aggregationRule is non-nil")
        for index, selector in enumerate(selectors):
            faults = [*validate_label_selector(selector, f"{where}[{index}]")]
            yield from faults
            if faults:
                yield wrong(f"{where}[{index}]", None, "invalid label selector.")


def binding(obj: Object) -> Causes:
    reference, namespaced = obj.get("roleRef") or {}, obj["kind"] == "RoleBinding"
    if reference.get("apiGroup", "") != _GROUP:
        yield unsupported("roleRef.apiGroup", reference.get("apiGroup", ""), (_GROUP,))
    allowed = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    if reference.get("kind", "") not in allowed:
        yield unsupported("roleRef.kind", reference.get("kind", ""), allowed)
    if not reference.get("name"):
        yield required("roleRef.name")
    else:
        yield from each("roleRef.name", reference["name"], path_segment(reference["name"]))
    for index, subject in enumerate(obj.get("subjects") or []):
        where, kind, name = f"subjects[{index}]", subject.get("kind", ""), subject.get("name", "")
        if not name:
            yield required(f"{where}.name")
        if kind == "ServiceAccount":
            yield from each(f"{where}.name", name, dns_subdomain(name) if name else [])
            if subject.get("apiGroup"):
                yield unsupported(f"{where}.apiGroup", subject["apiGroup"], ("",))
            if not namespaced and not subject.get("namespace"):
                yield required(f"{where}.namespace")
        elif kind in ("User", "Group"):
            if subject.get("apiGroup", "") != _GROUP:
                yield unsupported(f"{where}.apiGroup", subject.get("apiGroup", ""), (_GROUP,))
        else:
            yield unsupported(f"{where}.kind", kind, ("ServiceAccount", "User", "Group"))
