"""Who may do what: Roles and their bindings."""

from __future__ import annotations

from chaos.embedded.api.errors import required, unsupported, wrong
from chaos.embedded.api.validation.names import Causes
from chaos.embedded.resources import Object


def rules(obj: Object) -> Causes:
    for index, rule in enumerate(obj.get("rules") or []):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{where}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if obj["kind"] == "Role":
                yield wrong(
                    f"{where}.nonResourceURLs",
                    rule["nonResourceURLs"],
                    "namespaced rules cannot apply to non-resource URLs",
                )
            continue
        if not rule.get("apiGroups"):
            yield required(f"{where}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{where}.resources", "resource rules must supply at least one resource")


def binding(obj: Object) -> Causes:
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
        elif (
            subject["kind"] == "ServiceAccount" and not subject.get("namespace") and obj["kind"] == "ClusterRoleBinding"
        ):
            yield required(f"{where}.namespace")
