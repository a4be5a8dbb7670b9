"""Which requests match a webhook or a policy: rules, namespace selector, object selector. Pure.

k8s.io/apiserver/pkg/admission/plugin/webhook/predicates. `matchPolicy: Equivalent` also matches the same objects under
another path: a custom kind's other versions, the other group of Events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api.asked import Asked
from chaos.embedded.api.errors import not_found
from chaos.embedded.controllers.labels import matches as labels_match
from chaos.embedded.resources import (
    AUTOSCALER_V1,
    EVENT,
    EVENTS_EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    NAMESPACE,
    Object,
    Resource,
)
from chaos.embedded.store import Store

Rule = Mapping[str, Any]
REGISTRATION: Final = "admissionregistration.k8s.io"
_EQUIVALENT: Final = {
    EVENT.kind: (EVENT, EVENTS_EVENT),
    HORIZONTAL_POD_AUTOSCALER.kind: (HORIZONTAL_POD_AUTOSCALER, AUTOSCALER_V1),
}


def is_exempt(asked: Asked) -> bool:
    """Whether admission is never called: webhook configurations and policies must stay editable."""
    return asked.resource.group == REGISTRATION and not asked.subresource


def matched_resource(store: Store, hook: Mapping[str, Any], rules: Sequence[Rule], asked: Asked) -> Resource | None:
    """The resource as which the request matches a rule: its own, or with `Equivalent` another of the same objects."""
    if any(rule_matches(rule, asked, asked.resource) for rule in rules):
        return asked.resource
    if hook.get("matchPolicy", "Equivalent") == "Equivalent":
        for other in _equivalents(store, asked.resource):
            if other != asked.resource and any(rule_matches(rule, asked, other) for rule in rules):
                return other
    return None


def _equivalents(store: Store, resource: Resource) -> Sequence[Resource]:
    if resource.custom is None:
        return _EQUIVALENT.get(resource.kind, ())
    same = (resource.group, resource.plural)
    return [one for one in store.kinds.custom() if (one.group, one.plural) == same]


def rule_matches(rule: Rule, asked: Asked, resource: Resource) -> bool:
    """Whether scope, operation, group, version, resource and (where given) names match."""
    named = rule.get("resourceNames") or []
    return (
        _in_scope(rule.get("scope", "*"), asked)
        and _has(rule.get("operations"), asked.operation)
        and _has(rule.get("apiGroups"), resource.group)
        and _has(rule.get("apiVersions"), resource.version)
        and any(_names(one, resource.plural, asked.subresource) for one in rule.get("resources") or [])
        and (not named or asked.name in named)
    )


def _has(items: Sequence[str] | None, wanted: str) -> bool:
    return any(item in ("*", wanted) for item in items or ())


def _in_scope(scope: str, asked: Asked) -> bool:
    cluster_wide = asked.resource is NAMESPACE or not asked.namespace
    return scope == "*" or cluster_wide == (scope == "Cluster")


def _names(pattern: str, resource: str, subresource: str) -> bool:
    wanted, _, sub = pattern.partition("/")
    return wanted in ("*", resource) and sub in ("*", subresource)


def in_namespace(store: Store, selector: Mapping[str, Any], asked: Asked) -> bool:
    """Whether the namespace's labels match; always for cluster-scoped objects. Raises StatusError 404 without the
    namespace.
    """
    if not asked.within or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    if asked.resource is NAMESPACE and not asked.subresource and asked.operation in ("CREATE", "UPDATE"):
        labels = (asked.object or {}).get("metadata", {}).get("labels")
    else:
        namespace = store.find(NAMESPACE, "", asked.within)
        if namespace is None:
            raise not_found(NAMESPACE, asked.within)
        labels = namespace["metadata"].get("labels")
    return labels_match(selector, labels)


def is_chosen(selector: Mapping[str, Any], asked: Asked) -> bool:
    """Whether the labels of the new or the old object match."""
    if not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    both: tuple[Object | None, Object | None] = (asked.object, asked.old)
    return any(one is not None and labels_match(selector, one.get("metadata", {}).get("labels")) for one in both)
