"""`authorizer` in expressions of admission: who may do what, the request's own resource, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.api import cel, cel_authorizer, conditions
from chaos.embedded.api.asked import Asked
from chaos.embedded.api.auth import Authorizer, User
from chaos.embedded.api.validation import validate
from chaos.embedded.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    ROLE,
    ROLE_BINDING,
    VALIDATING_POLICY,
)
from chaos.embedded.store import Store

RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
def store() -> Store:
    """Jo may get and update the Deployment web of namespace n, and get /healthz; the account n/robot lists pods."""
    found = Store()
    rule = {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "resourceNames": ["web"]}
    roles: list[tuple[Any, str, dict[str, Any]]] = [
        (ROLE, "n", rule | {"verbs": ["get", "update"]}),
        (CLUSTER_ROLE, "", {"nonResourceURLs": ["/healthz"], "verbs": ["get"]}),
    ]
    jo = {"kind": "User", "apiGroup": RBAC, "name": "jo"}
    for resource, namespace, one in roles:
        meta = {"name": "r", **({"namespace": namespace} if namespace else {})}
        found.create(resource, {"kind": resource.kind, "metadata": meta, "rules": [one]})
        binding = ROLE_BINDING if namespace else CLUSTER_ROLE_BINDING
        reference = {"apiGroup": RBAC, "kind": resource.kind, "name": "r"}
        found.create(binding, {"kind": binding.kind, "metadata": meta, "roleRef": reference, "subjects": [jo]})
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    found.create(CLUSTER_ROLE, {"kind": "ClusterRole", "metadata": {"name": "pods"}, "rules": [pods]})
    robot = {"kind": "ServiceAccount", "namespace": "n", "name": "robot"}
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "pods"}
    held = {"kind": "ClusterRoleBinding", "metadata": {"name": "pods"}, "roleRef": reference, "subjects": [robot]}
    found.create(CLUSTER_ROLE_BINDING, held)
    return found


def evaluated(store: Store, expression: str) -> Any:
    asked = Asked(
        "UPDATE", DEPLOYMENT, User("jo", ("system:authenticated",)), namespace="n", name="web", object={"metadata": {}}
    )
    with cel_authorizer.answering(Authorizer(store)):
        return conditions.evaluated(expression, conditions.scope(), conditions.values(store, asked, DEPLOYMENT), "any")


DEPLOYMENTS = "authorizer.group('apps').resource('deployments')"
ANSWERS: list[tuple[str, Any]] = [
    (f"{DEPLOYMENTS}.namespace('n').name('web').check('get').allowed()", True),
    (f"{DEPLOYMENTS}.namespace('n').name('web').subresource('scale').check('update').allowed()", True),
    (f"{DEPLOYMENTS}.namespace('n').name('web').subresource('scale').subresource('').check('get').allowed()", True),
    (f"{DEPLOYMENTS}.namespace('n').name('web').subresource('status').check('update').allowed()", False),
    (f"{DEPLOYMENTS}.namespace('n').name('other').check('get').allowed()", False),
    (f"{DEPLOYMENTS}.namespace('n').check('get').allowed()", False),
    (f"{DEPLOYMENTS}.namespace('m').name('web').check('get').allowed()", False),
    (f"{DEPLOYMENTS}.namespace('n').name('web').check('delete').allowed()", False),
    (f"{DEPLOYMENTS}.namespace('n').name('web').check('').allowed()", False),
    ("authorizer.group('').resource('deployments').namespace('n').name('web').check('get').allowed()", False),
    (f"{DEPLOYMENTS}.namespace('n').name('web').fieldSelector('a=b').labelSelector('!').check('get').allowed()", True),
    (
        f"{DEPLOYMENTS}.namespace('n').name('web').check('get').reason()",
        'RBAC: allowed by RoleBinding "r/n" of Role "r" to User "jo"',
    ),
    (f"{DEPLOYMENTS}.check('get').reason()", ""),
    (f"{DEPLOYMENTS}.check('get').errored()", False),
    (f"{DEPLOYMENTS}.check('get').error()", ""),
    ("authorizer.requestResource.check('update').allowed()", True),
    ("authorizer.requestResource.check('delete').allowed()", False),
    ("authorizer.requestResource.name('other').check('update').allowed()", False),
    ("authorizer.path('/healthz').check('get').allowed()", True),
    ("authorizer.path('/healthz').check('post').allowed()", False),
    ("authorizer.path('/metrics').check('get').allowed()", False),
    ("authorizer.serviceAccount('n', 'robot').group('').resource('pods').check('list').allowed()", True),
    ("authorizer.serviceAccount('n', 'other').group('').resource('pods').check('list').allowed()", False),
    ("authorizer.serviceAccount('n', 'robot').path('/healthz').check('get').allowed()", False),
    ("['get', 'delete'].map(v, authorizer.requestResource.check(v).allowed())", [True, False]),
]


@pytest.mark.parametrize(("expression", "answer"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_expression_asks_the_authorizer(store: Store, expression: str, answer: Any) -> None:
    assert evaluated(store, expression) == answer


FAILING: list[tuple[str, str]] = [
    ("authorizer.path('').check('get').allowed()", "path must not be empty"),
    ("authorizer.path('  ').check('get').allowed()", "path must not be empty"),
    ("authorizer.group('').resource('').check('get').allowed()", "resource must not be empty"),
    ("authorizer.group('').resource(' ').check('get').allowed()", "resource must not be empty"),
    ("authorizer.serviceAccount('n', 'Not Valid').path('/x').check('x').allowed()", "Invalid service account name"),
    ("authorizer.serviceAccount('a.b', 'x').path('/x').check('x').allowed()", "Invalid service account namespace"),
]


@pytest.mark.parametrize(("expression", "why"), FAILING)
def test_a_question_without_an_object_is_an_error(store: Store, expression: str, why: str) -> None:
    with pytest.raises(cel.EvaluationFailed, match=f"resulted in error: {why}$"):
        evaluated(store, expression)


REFUSED: list[tuple[str, str]] = [
    (
        "authorizer.group('').check('get').allowed()",
        "found no matching overload for 'check' applied to 'kubernetes.authorization.GroupCheck.(string)'",
    ),
    (
        "authorizer.group(1).resource('a').check('get').allowed()",
        "found no matching overload for 'group' applied to 'kubernetes.authorization.Authorizer.(int)'",
    ),
    ("authorizer.path('/x')", "must evaluate to bool but got kubernetes.authorization.PathCheck"),
    ("authorizer.path('/x').check('get')", "must evaluate to bool but got kubernetes.authorization.Decision"),
]


def _policy(expression: str, **more: Any) -> list[str]:
    rules = [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}]
    constraints = {"resourceRules": rules, "namespaceSelector": {}, "objectSelector": {}, "matchPolicy": "Equivalent"}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": constraints,
        "validations": [{"expression": expression} | more],
    }
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
    return [
        f"{one.field}: {one.message}"
        for one in validate(VALIDATING_POLICY, body | {"metadata": {"name": "p"}, "spec": spec})
    ]


@pytest.mark.parametrize(("expression", "why"), REFUSED)
def test_a_misused_authorizer_is_refused_when_the_policy_is_written(expression: str, why: str) -> None:
    (cause,) = _policy(expression)
    assert cause.startswith("spec.validations[0].expression: ")
    assert why in cause


def test_a_policy_may_ask_the_authorizer_and_its_messages_may_not() -> None:
    expression = "authorizer.requestResource.check('x').allowed()"
    assert _policy(expression) == []
    (cause,) = _policy(expression, messageExpression="authorizer.path('/x').check('get').reason()")
    assert cause.startswith("spec.validations[0].messageExpression: ")
    assert cause.count("undeclared reference") == cause.count("undeclared reference to 'authorizer'") == 1
