"""Webhooks and policies on kinds that a CustomResourceDefinition brings, in each of its versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chaos.errors import ApiError
from tests.embedded.webhooks.conftest import Hooks, once, rule
from tests.embedded.webhooks.injector import ANSWERS, add, patch, reply
from tests.embedded.webhooks.test_policies import binding, policy, standing

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCHEMA = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1}}}},
}
WIDGETS = {
    "apiGroups": ["hooks.test"],
    "apiVersions": ["v1"],
    "resources": ["widgets"],
    "operations": ["CREATE", "UPDATE"],
}


def version(name: str, *, storage: bool = False) -> dict[str, Any]:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": SCHEMA}}


@pytest.fixture(scope="module")
def widgets(hooks: Hooks) -> Iterator[Hooks]:
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    spec = {
        "group": "hooks.test",
        "scope": "Namespaced",
        "names": names,
        "versions": [version("v1alpha1"), version("v1", storage=True)],
    }
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    once(hooks.world, "POST", DEFINITIONS, kind | {"metadata": {"name": "widgets.hooks.test"}, "spec": spec})

    def established() -> bool:
        conditions = (
            once(hooks.world, "GET", f"{DEFINITIONS}/widgets.hooks.test").get("status", {}).get("conditions", [])
        )
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    hooks.world.cluster.wait("definition", established)
    yield hooks
    once(hooks.world, "DELETE", f"{DEFINITIONS}/widgets.hooks.test")


def create(hooks: Hooks, namespace: str, of: str, name: str = "w", **spec: Any) -> tuple[int, Any]:
    body = {"apiVersion": f"hooks.test/{of}", "kind": "Widget", "metadata": {"name": name}, "spec": spec}
    try:
        return 201, once(hooks.world, "POST", f"/apis/hooks.test/{of}/namespaces/{namespace}/widgets", body)
    except ApiError as error:
        return error.code, error.status["message"]


@pytest.mark.parametrize(("match", "code"), [("Equivalent", 400), ("Exact", 201)])
def test_a_webhook_of_one_version_is_asked_about_another_when_it_wants_equivalents(
    widgets: Hooks, namespace: str, match: str, code: int
) -> None:
    with widgets.configured(widgets.webhook("/deny", rules=[WIDGETS], matchPolicy=match)):
        assert create(widgets, namespace, "v1alpha1")[0] == code
        assert create(widgets, namespace, "v1", "other")[0] == 400
    if match == "Equivalent":
        asked = widgets.server.asked[-2]
        assert asked["object"]["apiVersion"] == "hooks.test/v1"
        assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v1alpha1")
        assert (asked["resource"]["version"], asked["requestResource"]["version"]) == ("v1", "v1alpha1")


def test_what_a_webhook_changes_of_a_custom_object_is_pruned_defaulted_and_stored(
    widgets: Hooks, namespace: str
) -> None:
    ANSWERS["/grow"] = lambda request: reply(request, **patch(add("/spec", {"size": 7, "unknown": 1})))
    with widgets.configured(widgets.webhook("/grow", rules=[WIDGETS]), sort="Mutating"):
        code, made = create(widgets, namespace, "v1alpha1")
    assert (code, made["apiVersion"], made["spec"]) == (201, "hooks.test/v1alpha1", {"size": 7})
    ANSWERS["/break"] = lambda request: reply(request, **patch(add("/spec", {"size": "large"})))
    with widgets.configured(widgets.webhook("/break", rules=[WIDGETS]), sort="Mutating"):
        code, said = create(widgets, namespace, "v1", "broken")
    assert code == 422
    assert "spec.size" in said


def test_a_custom_object_is_seen_with_its_defaults_by_webhooks_and_policies(widgets: Hooks, namespace: str) -> None:
    guard = policy({"expression": "object.spec.size == 1"}, matchConstraints={"resourceRules": [WIDGETS]})
    with standing(widgets.world, guard, binding()), widgets.configured(widgets.webhook("/allow", rules=[WIDGETS])):
        assert create(widgets, namespace, "v1")[0] == 201
        assert create(widgets, namespace, "v1", "large", size=2)[0] == 422
    assert widgets.server.asked[-1]["object"]["spec"] == {"size": 1}


def test_params_may_be_of_a_custom_kind(widgets: Hooks, namespace: str) -> None:
    assert create(widgets, namespace, "v1", "limit", size=3)[0] == 201
    kind = {"apiVersion": "hooks.test/v1", "kind": "Widget"}
    constraints = {"resourceRules": [rule()]}
    guard = policy(
        {"expression": "size(object.data) <= params.spec.size"}, paramKind=kind, matchConstraints=constraints
    )
    reference = {"name": "limit", "namespace": namespace, "parameterNotFoundAction": "Deny"}
    with standing(widgets.world, guard, binding(paramRef=reference)):
        path, meta = f"/api/v1/namespaces/{namespace}/configmaps", {"name": "small"}
        once(widgets.world, "POST", path, {"metadata": meta, "data": {"a": "1"}})
        large = {"metadata": {"name": "large"}, "data": {str(n): "1" for n in range(4)}}
        with pytest.raises(ApiError, match="failed expression: size"):
            once(widgets.world, "POST", path, large)
