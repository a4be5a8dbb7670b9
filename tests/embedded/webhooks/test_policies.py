"""ValidatingAdmissionPolicies and CEL conditions of webhooks: what they let pass, what they say, what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from chaos.errors import ApiError
from tests.embedded.api.conftest import World, config_map, deployment
from tests.embedded.webhooks.conftest import Hooks, attempt, once, rule

PATH = "/apis/admissionregistration.k8s.io/v1"


def policy(*validations: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    constraints = {"resourceRules": [rule(operations=["CREATE", "UPDATE", "DELETE"])]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "guard"},
        "spec": {"matchConstraints": constraints, "validations": list(validations)} | spec,
    }


def binding(*actions: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "everywhere"},
        "spec": {"policyName": "guard", "validationActions": list(actions or ["Deny"])} | spec,
    }


@contextmanager
def standing(world: World, *objects: Mapping[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in objects:
            plural = (
                one["kind"].lower().replace("policy", "policies")
                if one["kind"].endswith("Policy")
                else f"{one['kind'].lower()}s"
            )
            once(world, "POST", f"{PATH}/{plural}", one)
            stack.callback(once, world, "DELETE", f"{PATH}/{plural}/{one['metadata']['name']}")
        yield


BY = "ValidatingAdmissionPolicy 'guard' with binding 'everywhere' denied request: "

# the validation, what is created, the code, what is said
VALIDATIONS: Sequence[tuple[dict[str, Any], dict[str, str], int, str]] = [
    ({"expression": "object.data.a == 'b'"}, {"a": "b"}, 201, ""),
    ({"expression": "object.data.a == 'b'"}, {"a": "c"}, 422, "failed expression: object.data.a == 'b'"),
    ({"expression": "false", "message": "never"}, {}, 422, "never"),
    ({"expression": "false", "reason": "Forbidden", "message": "never"}, {}, 403, "never"),
    ({"expression": "false", "reason": "RequestEntityTooLarge"}, {}, 413, "failed expression: false"),
    ({"expression": "false", "messageExpression": "'a is ' + object.data.a"}, {"a": "c"}, 422, "a is c"),
    ({"expression": "false", "messageExpression": "string(object.data.z)", "message": "m"}, {"a": "c"}, 422, "m"),
    ({"expression": "object.data.z == 'b'"}, {"a": "c"}, 422,
     "expression 'object.data.z == 'b'' resulted in error: no such key: z"),
    ({"expression": "oldObject == null"}, {}, 201, ""),
    ({"expression": "request.operation == 'CREATE' && request.resource.resource == 'configmaps'"}, {}, 201, ""),
    ({"expression": "request.userInfo.username == 'admin'"}, {}, 201, ""),
    ({"expression": "namespaceObject.metadata.name == request.namespace"}, {}, 201, ""),
    ({"expression": "object.data.all(k, k.size() < 3)"}, {"long": "c"}, 422,
     "failed expression: object.data.all(k, k.size() < 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("validation", "data", "code", "said"), VALIDATIONS)
def test_a_policy_says_no_as_kubernetes_says_it(
    hooks: Hooks, namespace: str, validation: dict[str, Any], data: dict[str, str], code: int, said: str
) -> None:
    with standing(hooks.world, policy(validation), binding()):
        got, message = attempt(hooks, namespace, **data)
    assert got == code
    assert message.partition(" is forbidden: ")[2] == (BY + said if said else "")


@pytest.mark.parametrize(
    ("spec", "bound", "code"),
    [
        ({}, {}, 422),
        ({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.z == '1'"}]}, {}, 201),
        ({"matchConditions": [{"name": "named", "expression": "request.name == 'nobody'"}]}, {}, 201),
        ({"matchConditions": [{"name": "named", "expression": "object.data.z == 'x'"}]}, {}, 422),
        ({"matchConditions": [{"name": "z", "expression": "object.data.z == 'x'"}], "failurePolicy": "Ignore"}, {},
         201),
        ({"matchConstraints": {"resourceRules": [rule(resources=["secrets"])]}}, {}, 201),
        ({"matchConstraints": {"resourceRules": [rule()], "excludeResourceRules": [rule()]}}, {}, 201),
        ({}, {"matchResources": {"objectSelector": {"matchLabels": {"none": "such"}}}}, 201),
        ({}, {"matchResources": {"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}},
         201),
        ({}, {"policyName": "another"}, 201),
        ({"variables": [{"name": "yes", "expression": "true"}, {"name": "no", "expression": "!variables.yes"}],
          "validations": [{"expression": "variables.no"}]}, {}, 422),
    ],
)  # fmt: skip
def test_a_policy_means_what_its_rules_selectors_and_conditions_say(
    hooks: Hooks, namespace: str, spec: dict[str, Any], bound: dict[str, Any], code: int
) -> None:
    with standing(hooks.world, policy({"expression": "false"}, **spec), binding(**bound)):
        assert attempt(hooks, namespace, a="1")[0] == code


def test_params_are_what_the_binding_names(hooks: Hooks, namespace: str) -> None:
    hooks.world.cluster.create(config_map("limits", namespace, most="3"))
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    guard = policy(
        {"expression": "request.name == 'limits' || size(object.data) <= int(params.data.most)"}, paramKind=kind
    )

    def bound(name: str, missing: str) -> dict[str, Any]:
        return binding(paramRef={"name": name, "namespace": namespace, "parameterNotFoundAction": missing})

    with standing(hooks.world, guard, bound("limits", "Deny")):
        assert attempt(hooks, namespace, a="1")[0] == 201
        assert attempt(hooks, namespace, a="1", b="2", c="3", d="4")[0] == 422
    with standing(hooks.world, guard, bound("missing", "Deny")):
        why = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        assert attempt(hooks, namespace, a="1")[1].endswith(why)
    with standing(hooks.world, guard, bound("missing", "Allow")):
        assert attempt(hooks, namespace, a="1")[0] == 201


def test_a_policy_may_warn_and_note_instead(hooks: Hooks, namespace: str) -> None:
    note = {"key": "size", "valueExpression": "'it has ' + string(size(object.data))"}
    guard = policy({"expression": "false", "message": "never"}, auditAnnotations=[note])
    with standing(hooks.world, guard, binding("Warn", "Audit")):
        done = hooks.world.kubectl("create", "configmap", "warned", "-n", namespace, "--from-literal=a=b")
    assert done.returncode == 0
    said = "Validation failed for ValidatingAdmissionPolicy 'guard' with binding 'everywhere': never"
    assert done.stderr.strip() == f"Warning: {said}"
    noted = hooks.noted(namespace, '"guard/size"')
    assert noted["guard/size"] == "it has 1"
    assert "never" in noted["validation.policy.admission.k8s.io/validation_failure"]


def test_pods_of_workloads_pass_policies_too(hooks: Hooks, namespace: str) -> None:
    pods = {"resourceRules": [rule(resources=["pods"])]}
    guard = policy({"expression": "object.spec.containers.size() > 1", "message": "too few"}, matchConstraints=pods)
    with standing(hooks.world, guard, binding()):
        hooks.world.cluster.create(deployment("watched", namespace))

        def said() -> list[str]:
            events = hooks.world.cluster.list("Event", namespace)
            return [one["message"] for one in events if one["reason"] == "FailedCreate"]

        hooks.world.cluster.wait("event", said)
    assert said()[0].endswith(f"is forbidden: {BY}too few")


REFUSED: Sequence[tuple[dict[str, Any], str]] = [
    ({"expression": "object."}, "compilation failed"),
    ({"expression": "nothing.here"}, "undeclared reference to 'nothing"),
    ({"expression": "'text'"}, "must evaluate to bool"),
    ({"expression": "params.a"}, "undeclared reference to 'params"),
    ({"expression": "true", "messageExpression": "authorizer.path('/x').check('get').reason()"},
     "undeclared reference to 'authorizer'"),
    ({"expression": "variables.x"}, "undeclared reference to 'variables"),
    ({"expression": "true", "messageExpression": "1"}, "must evaluate to string"),
    ({"expression": "true", "reason": "Because"}, 'supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"'),
    ({"expression": " "}, "spec.validations[0].expression: Required value: expression is not specified"),
]  # fmt: skip


@pytest.mark.parametrize(("validation", "said"), REFUSED)
def test_an_expression_that_cannot_be_evaluated_is_refused_when_it_is_written(
    hooks: Hooks, validation: dict[str, Any], said: str
) -> None:
    with pytest.raises(ApiError) as refused, standing(hooks.world, policy(validation)):
        pass
    assert refused.value.code == 422
    assert said in refused.value.status["message"]


@pytest.mark.parametrize(
    ("conditions", "policy", "code", "said"),
    [
        (["true"], "Fail", 400, "no pets"),
        (["object.data.a == '1'", "request.userInfo.username != 'admin'"], "Fail", 201, ""),
        (["object.data.z == '1'"], "Fail", 403, "expression 'object.data.z == '1'' resulted in error: no such key: z"),
        (["object.data.z == '1'"], "Ignore", 201, ""),
        (["object.data.z == '1'", "false"], "Fail", 201, ""),
    ],
)
def test_a_webhooks_conditions_decide_whether_it_is_asked(
    hooks: Hooks, namespace: str, conditions: list[str], policy: str, code: int, said: str
) -> None:
    named = [{"name": f"c{index}", "expression": text} for index, text in enumerate(conditions)]
    with hooks.configured(hooks.webhook("/deny", matchConditions=named, failurePolicy=policy)):
        got, message = attempt(hooks, namespace, a="1")
    assert got == code
    assert message.endswith(said)
