"""Label selectors of objects (matchLabels and matchExpressions). Selectors in query strings are the API server's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.fields import whole_number


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a metav1.LabelSelector matches; None matches nothing, an empty selector everything."""
    if selector is None:
        return False
    held = labels or {}
    return all(held.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        expression_matches(expression, held) for expression in selector.get("matchExpressions") or []
    )


def expression_matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether one requirement matches: In, NotIn, Exists, DoesNotExist, and (nodes only) Gt and Lt."""
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    present = key in labels
    if operator == "In":
        return present and labels[key] in values
    if operator == "NotIn":
        return not present or labels[key] not in values
    if operator == "Exists":
        return present
    if operator == "DoesNotExist":
        return not present
    if operator in ("Gt", "Lt"):
        number, bound = whole_number(labels.get(key)), whole_number(values[0] if values else None)
        if number is None or bound is None:
            return False
        return number > bound if operator == "Gt" else number < bound
    return False


def selects(service_selector: Mapping[str, str] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a plain map (a Service's selector) matches; an empty one matches nothing."""
    held = labels or {}
    return bool(service_selector) and all(held.get(key) == value for key, value in (service_selector or {}).items())
