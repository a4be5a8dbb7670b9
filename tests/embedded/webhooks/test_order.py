"""Mutating webhooks, then validation and the built-in plugins, then validating webhooks, then the quota."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from chaos.errors import ApiError
from tests.embedded.api.conftest import pod
from tests.embedded.webhooks.conftest import Hooks, once, rule
from tests.embedded.webhooks.injector import ANSWERS, add, patch, reply

PODS = [rule(resources=["pods"])]


def answering(path: str, *operations: Mapping[str, Any]) -> str:
    """A path that changes the object so."""
    ANSWERS[path] = lambda request: reply(request, **patch(*operations))
    return path


def create(hooks: Hooks, namespace: str, name: str = "p", **spec: Any) -> tuple[int, str]:
    """Make a pod: the answer's code and, of a refusal, its message."""
    try:
        once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/pods", pod(name, namespace, **spec))
    except ApiError as error:
        return error.code, error.status["message"]
    return 201, ""


def test_what_a_webhook_makes_of_a_pod_is_validated_before_other_webhooks_are_asked(
    hooks: Hooks, namespace: str
) -> None:
    bad = answering("/bad", add("/spec/containers/0/name", "Bad_Name"))
    hooks.server.asked.clear()
    with (
        hooks.configured(hooks.webhook(bad, rules=PODS), sort="Mutating"),
        hooks.configured(hooks.webhook("/deny", rules=PODS)),
    ):
        code, message = create(hooks, namespace)
    assert code == 422
    assert "spec.containers[0].name" in message
    assert [one["path"].partition("?")[0] for one in hooks.server.asked] == ["/bad"]


def test_a_webhook_sees_defaults_limits_and_the_token(hooks: Hooks, namespace: str) -> None:
    limit = {"type": "Container", "default": {"memory": "64Mi"}, "defaultRequest": {"memory": "32Mi"}}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [limit]}}
    once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/limitranges", body)
    with hooks.configured(hooks.webhook("/allow", rules=PODS), sort="Mutating"):
        assert create(hooks, namespace)[0] == 201
    seen = hooks.server.asked[-1]["object"]
    assert seen["spec"]["containers"][0]["resources"]["limits"] == {"memory": "64Mi"}
    assert seen["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert any(one["name"].startswith("kube-api-access-") for one in seen["spec"]["volumes"])
    assert "uid" not in seen["metadata"]


def test_an_injected_container_has_the_namespaces_limits_too(hooks: Hooks, namespace: str) -> None:
    limit = {"type": "Container", "default": {"memory": "64Mi"}}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [limit]}}
    once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/limitranges", body)
    with hooks.configured(hooks.webhook("/inject", rules=PODS), sort="Mutating"):
        assert create(hooks, namespace)[0] == 201
    made = hooks.world.cluster.get("Pod", "p", namespace)
    assert [one["resources"]["limits"] for one in made["spec"]["containers"]] == [{"memory": "64Mi"}] * 2


def test_pod_security_judges_what_a_webhook_made(hooks: Hooks, namespace: str) -> None:
    hooks.world.cluster.patch(
        "Namespace", namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    )
    assert create(hooks, namespace, "before")[0] == 201
    unsafe = answering("/unsafe", add("/spec/containers/0/securityContext", {"privileged": True}))
    with hooks.configured(hooks.webhook(unsafe, rules=PODS), sort="Mutating"):
        code, message = create(hooks, namespace)
    assert code == 403
    assert 'violates PodSecurity "baseline:latest": privileged' in message


def test_a_quota_is_the_last_word_and_counts_what_webhooks_added(hooks: Hooks, namespace: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"requests.memory": "100Mi"}},
    }
    once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/resourcequotas", body)
    more = answering("/more", add("/spec/containers/0/resources", {"requests": {"memory": "200Mi"}}))
    with hooks.configured(hooks.webhook(more, rules=PODS), sort="Mutating"):
        with hooks.configured(hooks.webhook("/deny", rules=PODS)):
            assert create(hooks, namespace)[1].startswith('admission webhook "one.hooks.test" denied')
        code, message = create(hooks, namespace)
    assert code == 403
    assert "exceeded quota: q, requested: requests.memory=200Mi" in message


def test_a_pod_of_a_generated_name_has_none_when_it_is_changed_and_one_when_it_is_judged(
    hooks: Hooks, namespace: str
) -> None:
    body = pod("p", namespace)
    body["metadata"] = {"generateName": "made-", "namespace": namespace}
    hooks.server.asked.clear()
    with (
        hooks.configured(hooks.webhook("/allow", rules=PODS), sort="Mutating"),
        hooks.configured(hooks.webhook("/allow", rules=PODS)),
    ):
        made = once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/pods", body)
    before, after = hooks.server.asked
    assert "name" not in before["object"]["metadata"]
    assert after["object"]["metadata"]["name"] == made["metadata"]["name"]
    assert "name" not in before


def test_a_webhook_cannot_move_an_object_nor_say_what_the_server_says(hooks: Hooks, namespace: str) -> None:
    away = answering("/away", add("/metadata/namespace", "default"))
    with hooks.configured(hooks.webhook(away, rules=PODS), sort="Mutating"):
        assert create(hooks, namespace) == (
            400, "the namespace of the provided object does not match the namespace sent on the request",
        )  # fmt: skip
    claims = answering("/claims", add("/metadata/uid", "mine"), add("/metadata/generation", 7))
    with hooks.configured(hooks.webhook(claims, rules=PODS), sort="Mutating"):
        assert create(hooks, namespace)[0] == 201
    meta = hooks.world.cluster.get("Pod", "p", namespace)["metadata"]
    assert (meta["uid"] != "mine", meta.get("generation") != 7) == (True, True)
    renamed = answering("/renamed", add("/metadata/name", "q"))
    updates = [rule(resources=["pods"], operations=["UPDATE"])]
    with hooks.configured(hooks.webhook(renamed, rules=updates), sort="Mutating"), pytest.raises(ApiError) as refused:
        hooks.world.cluster.patch("Pod", "p", {"metadata": {"labels": {"a": "b"}}}, namespace)
    assert refused.value.code == 422
    assert "metadata.name" in refused.value.status["message"]


def test_a_deletion_cannot_be_changed(hooks: Hooks, namespace: str) -> None:
    assert create(hooks, namespace)[0] == 201
    change = answering("/change", add("/metadata/labels", {}))
    deletions = [rule(resources=["pods"], operations=["DELETE"])]
    with hooks.configured(hooks.webhook(change, rules=deletions), sort="Mutating"), pytest.raises(ApiError) as refused:
        once(hooks.world, "DELETE", f"/api/v1/namespaces/{namespace}/pods/p")
    why = 'admission webhook "one.hooks.test" attempted to modify the object, which is not supported for this operation'
    assert (refused.value.code, refused.value.status["message"]) == (500, f"Internal error occurred: {why}")


def test_a_namespace_is_judged_by_its_own_labels_as_they_are_to_be(hooks: Hooks, namespace: str) -> None:
    spaces = [rule(resources=["namespaces"])]
    chosen = {"matchLabels": {"team": "a"}}
    with hooks.configured(hooks.webhook("/deny", rules=spaces, namespaceSelector=chosen)):
        for labels, code in (({"team": "a"}, 400), ({"team": "b"}, 201)):
            meta = {"name": f"{namespace}-{labels['team']}", "labels": labels}
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
            try:
                once(hooks.world, "POST", "/api/v1/namespaces", body)
                got = 201
            except ApiError as error:
                got = error.code
            assert got == code
    assert hooks.server.asked[-1]["namespace"] == f"{namespace}-a"


def test_a_webhook_of_the_first_version_needs_no_patch_type(hooks: Hooks, namespace: str) -> None:
    def answer(request: Mapping[str, Any]) -> tuple[int, Any]:
        response = {"allowed": True, "patch": patch(add("/metadata/labels", {"by": "beta"}))["patch"]}
        return 200, {"response": response}

    ANSWERS["/first"] = answer
    with hooks.configured(
        hooks.webhook("/first", rules=PODS, admissionReviewVersions=["v1beta1", "v1"]), sort="Mutating"
    ):
        assert create(hooks, namespace)[0] == 201
    assert hooks.world.cluster.get("Pod", "p", namespace)["metadata"]["labels"] == {"by": "beta"}


@pytest.mark.parametrize(
    ("path", "body", "resources", "kind"),
    [
        ("pods/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction"}, "pods/eviction", "Eviction"),
        ("serviceaccounts/default/token", {"spec": {}}, "serviceaccounts/token", "TokenRequest"),
        ("pods/p/binding", {"target": {"name": "nowhere"}}, "pods/binding", "Binding"),
    ],
)
def test_subresources_are_asked_about_as_what_they_are(
    hooks: Hooks, namespace: str, path: str, body: dict[str, Any], resources: str, kind: str
) -> None:
    assert create(hooks, namespace)[0] == 201
    rules = [rule(resources=[resources])]
    whole = {"metadata": {"name": "p", "namespace": namespace}} | body
    with hooks.configured(hooks.webhook("/deny", rules=rules)), pytest.raises(ApiError) as refused:
        once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/{path}", whole)
    assert refused.value.status["message"].endswith("denied the request: no pets")
    asked = hooks.server.asked[-1]
    assert (asked["kind"]["kind"], asked["subResource"]) == (kind, resources.partition("/")[2])


def test_scaling_and_connecting_are_asked_about_too(hooks: Hooks, namespace: str) -> None:
    from tests.embedded.api.conftest import deployment

    hooks.world.cluster.create(deployment("d", namespace))
    scale = [rule(apiGroups=["apps"], resources=["deployments/scale"], operations=["UPDATE"])]
    with hooks.configured(hooks.webhook("/deny", rules=scale)):
        done = hooks.world.kubectl("scale", "deployment", "d", "--replicas=3", "-n", namespace)
    assert "denied the request: no pets" in done.stderr
    asked = hooks.server.asked[-1]
    assert (asked["kind"]["kind"], asked["object"]["spec"], asked["oldObject"]["spec"]) == (
        "Scale", {"replicas": 3}, {"replicas": 1},
    )  # fmt: skip
    create(hooks, namespace)
    connect = [rule(resources=["pods/exec"], operations=["CONNECT"])]
    with hooks.configured(hooks.webhook("/deny", rules=connect)):
        done = hooks.world.kubectl("exec", "p", "-n", namespace, "--", "ls", "-l")
    assert "denied the request: no pets" in done.stderr
    asked = hooks.server.asked[-1]
    assert (asked["operation"], asked["object"]["command"]) == ("CONNECT", ["ls", "-l"])
