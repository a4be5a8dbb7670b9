"""What ClusterRoles gather from others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chaos.embedded.controllers.roles import gathered
from chaos.embedded.resources import CLUSTER_ROLE
from tests.embedded.controllers.harness import world

ONE, TWO, THREE = ({"apiGroups": [""], "resources": [name], "verbs": ["get"]} for name in ("pods", "secrets", "events"))


def role(name: str, rules: list[dict[str, Any]], *labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": dict.fromkeys(labels, "true")}, "rules": rules}


def gathering(*selectors: dict[str, Any], name: str = "all", labels: tuple[str, ...] = ()) -> dict[str, Any]:
    return {**role(name, [], *labels), "aggregationRule": {"clusterRoleSelectors": list(selectors)}}


VIEW, EDIT = ({"matchLabels": {label: "true"}} for label in ("view", "edit"))


@pytest.mark.parametrize(
    ("mine", "others", "rules"),
    [
        (gathering(VIEW), [role("b", [TWO], "view"), role("a", [ONE], "view")], [ONE, TWO]),  # by name
        (gathering(EDIT, VIEW), [role("a", [ONE], "view"), role("b", [TWO], "edit")], [TWO, ONE]),  # by selector first
        (gathering(VIEW), [role("a", [ONE, TWO], "view"), role("b", [TWO, THREE], "view")], [ONE, TWO, THREE]),
        (gathering(VIEW), [role("a", [ONE], "edit")], []),
        (gathering(VIEW, labels=("view",)), [role("all", [THREE], "view"), role("a", [ONE], "view")], [ONE]),  # itself
        (gathering({}), [role("a", [ONE])], [ONE]),  # an empty selector is everybody
        (gathering({"matchExpressions": [{"key": "view", "operator": "Exists"}]}), [role("a", [ONE], "view")], [ONE]),
        (role("plain", [ONE]), [role("a", [TWO], "view")], None),
    ],
)
def test_a_role_gathers_the_rules_of_those_it_selects(
    mine: dict[str, Any], others: list[dict[str, Any]], rules: list[dict[str, Any]] | None
) -> None:
    assert gathered(mine, others) == rules


def test_a_role_that_comes_or_goes_changes_those_that_gather_it() -> None:
    async def check() -> None:
        async with world() as w:
            w.create(CLUSTER_ROLE, gathering({"matchLabels": {"through": "true"}}, name="outer"))
            w.create(CLUSTER_ROLE, gathering(VIEW, name="inner", labels=("through",)))
            w.create(CLUSTER_ROLE, role("part", [ONE], "view"))
            await w.until(lambda: w.store.get(CLUSTER_ROLE, "", "outer")["rules"] == [ONE])
            w.store.remove(CLUSTER_ROLE, "", "part")
            await w.until(lambda: w.store.get(CLUSTER_ROLE, "", "outer")["rules"] == [])

    asyncio.run(check())
