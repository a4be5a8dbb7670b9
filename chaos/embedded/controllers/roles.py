"""ClusterRoles that gather the rules of others by label (`aggregationRule`): admin, edit and view, and users' own.

After k8s.io/kubernetes/pkg/controller/clusterroleaggregation: what they hold themselves is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chaos.embedded.controllers.base import Controller, Source
from chaos.embedded.controllers.labels import matches
from chaos.embedded.resources import CLUSTER_ROLE, Object
from chaos.embedded.store import Key


def gathered(role: Object, others: Iterable[Object]) -> list[dict[str, Any]] | None:
    """The rules of an aggregating role, each once, by selector and then by name; None for a role that gathers none."""
    aggregation = role.get("aggregationRule")
    if aggregation is None:
        return None
    rules: list[dict[str, Any]] = []
    roles = sorted(others, key=lambda one: str(one["metadata"]["name"]))
    for selector in aggregation.get("clusterRoleSelectors") or ():
        for other in roles:
            if other["metadata"]["name"] != role["metadata"]["name"] and matches(
                selector, other["metadata"].get("labels")
            ):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class AggregationController(Controller):
    """Keep the rules of aggregating ClusterRoles."""

    name = "clusterrole-aggregation-controller"

    def sources(self) -> Sequence[Source]:
        def gatherers(_: object) -> list[Key]:
            return [("", one["metadata"]["name"]) for one in self.store.list(CLUSTER_ROLE) if "aggregationRule" in one]

        return [(CLUSTER_ROLE, gatherers)]

    def reconcile(self, key: Key) -> None:
        role = self.store.find(CLUSTER_ROLE, *key)
        rules = None if role is None else gathered(role, self.store.list(CLUSTER_ROLE))
        if role is not None and rules is not None and rules != (role.get("rules") or []):
            self._patch(CLUSTER_ROLE, role, lambda new: new.update(rules=rules))
