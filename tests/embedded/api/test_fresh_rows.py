"""Fresh objects that are one field away from good ones, and the causes that strategies of Kubernetes 1.36.3 give."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from chaos.embedded.api import admission, decode
from chaos.embedded.api.errors import StatusError
from chaos.embedded.resources import NAMESPACE, RESOURCES
from chaos.embedded.store import Store

SELECTOR: dict[str, Any] = {"matchLabels": {"app": "x"}}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
RULES = [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["pods"]}]
BAD = "a valid label must be an empty string or consist of"


def made(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """The object as it would be stored; raises StatusError."""
    (resource,) = (one for one in RESOURCES if f"{one.api_version}/{one.kind}" == kind)
    store = Store()
    store.create(NAMESPACE, {"metadata": {"name": "n"}, "status": {"phase": "Active"}})
    whole = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}} | body
    found = decode.body_object(resource, orjson.dumps(whole), "application/json", strictness="Strict").object
    if resource.namespaced:
        found["metadata"]["namespace"] = "n"
    new = admission.begin_create(store, resource, found)
    admission.finish_create(store, resource, new, dry=True)
    return new


def _strategy(kind: str, name: str, **strategy: Any) -> tuple[str, dict[str, Any]]:
    return f"apps/v1/{kind}", {"spec": {"selector": SELECTOR, "template": TEMPLATE, name: strategy}}


def _policy(port: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"podSelector": {}, "ingress": [{"ports": [port]}]}}


def _hook(url: str) -> dict[str, Any]:
    hook = {"name": "a.b.c", "clientConfig": {"url": url}, "rules": RULES, "sideEffects": "None"}
    return {"webhooks": [hook | {"admissionReviewVersions": ["v1"]}]}


URL = "Required value: url must be a valid URL: parse"
FORM = "; desired format: https://host[/path]"
REFUSED: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    (
        *_strategy("Deployment", "strategy", type="A", rollingUpdate={"maxSurge": "25%", "maxUnavailable": 1}),
        [
            (
                "spec.strategy",
                'Unsupported value: {"Type":"A","RollingUpdate":{"MaxUnavailable":1,"MaxSurge":"25%"}}: '
                'supported values: "Recreate", "RollingUpdate"',
            )
        ],
    ),
    (
        *_strategy("DaemonSet", "updateStrategy", type="A", rollingUpdate={"maxUnavailable": "10%"}),
        [
            (
                "spec.updateStrategy",
                'Unsupported value: {"Type":"A","RollingUpdate":{"MaxUnavailable":"10%","MaxSurge":0}}: '
                'supported values: "RollingUpdate", "OnDelete"',
            )
        ],
    ),
    (
        *_strategy("StatefulSet", "updateStrategy", type="A", rollingUpdate={"partition": 1}),
        [
            (
                "spec.updateStrategy",
                'Invalid value: {"Type":"A","RollingUpdate":{"Partition":1,"MaxUnavailable":null}}: '
                "must be 'RollingUpdate' or 'OnDelete'",
            )
        ],
    ),
    (
        "policy/v1/PodDisruptionBudget",
        {"metadata": {}, "spec": {"minAvailable": "A", "selector": SELECTOR}},
        [("spec.minAvailable", 'Invalid value: "A": a valid percent string must be')],
    ),
    (
        "policy/v1/PodDisruptionBudget",
        {"metadata": {}, "spec": {"minAvailable": 1, "selector": SELECTOR}},
        [("metadata.name", "Required value: name or generateName is required")],
    ),
    (
        "networking.k8s.io/v1/NetworkPolicy",
        _policy({"port": 1, "protocol": ""}),
        [("spec.ingress[0].ports[0].protocol", 'Unsupported value: "": supported values: "TCP", "UDP", "SCTP"')],
    ),
    (
        "rbac.authorization.k8s.io/v1/ClusterRole",
        {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"app": "a."}}]}},
        [
            ("aggregationRule.clusterRoleSelectors[0].matchLabels", f'Invalid value: "a.": {BAD}'),
            ("aggregationRule.clusterRoleSelectors[0]", "Invalid value: null: invalid label selector."),
        ],
    ),
    (
        "storage.k8s.io/v1/StorageClass",
        {"provisioner": "a/b", "allowedTopologies": [{}, {}]},
        [("allowedTopologies[0].matchLabelExpressions", 'Duplicate value: ""')] * 2
        + [("allowedTopologies[1].matchLabelExpressions", 'Duplicate value: ""')] * 3,
    ),
    *(
        (
            "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration",
            _hook(url),
            [("webhooks[0].clientConfig.url", why)],
        )
        for url, why in (
            ("::1", f'{URL} "::1": missing protocol scheme{FORM}'),
            ("1.2.3.4:80", f'{URL} "1.2.3.4:80": first path segment in URL cannot contain colon{FORM}'),
            ("a\nb", f'{URL} "a\\nb": net/url: invalid control character in URL{FORM}'),
        )
    ),
    (
        "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
        {
            "metadata": {},
            "spec": {
                "matchConstraints": {"resourceRules": RULES},
                "auditAnnotations": [{"key": "k", "valueExpression": "'a'"}],
            },
        },
        [
            ("metadata.name", "Required value: name or generateName is required"),
            ("spec.auditAnnotations[0].key", 'Invalid value: "k": requires metadata.name be non-empty'),
        ],
    ),
]


@pytest.mark.parametrize(("kind", "body", "causes"), REFUSED)
def test_what_is_one_field_away_is_refused_in_kubernetes_words(
    kind: str, body: dict[str, Any], causes: list[tuple[str, str]]
) -> None:
    with pytest.raises(StatusError) as refused:
        made(kind, body)
    found = (refused.value.details or {})["causes"]
    assert [one["field"] for one in found] == [field for field, _ in causes]
    for one, (_, words) in zip(found, causes, strict=True):
        assert one["message"].startswith(words), one["message"]


def test_a_limit_range_without_a_name_is_given_one() -> None:
    assert len(made("v1/LimitRange", {"metadata": {}, "spec": {"limits": []}})["metadata"]["name"]) == 36


@pytest.mark.parametrize(
    ("given", "kept"), [("-", "0"), ("+", "0"), ("1n", "1m"), ("0.0001", "1m"), ("1500u", "2m"), ("0.5", "500m")]
)
def test_an_amount_of_a_resource_is_rounded_up_to_a_thousandth(given: str, kept: str) -> None:
    quota = made("v1/ResourceQuota", {"spec": {"hard": {"requests.cpu": given}}})
    assert quota["spec"]["hard"] == {"requests.cpu": kept}


def test_a_sleep_says_its_seconds_though_they_are_none() -> None:
    container = {"name": "c", "image": "i:1", "lifecycle": {"preStop": {"sleep": {}}}}
    spec = {"selector": SELECTOR, "template": TEMPLATE | {"spec": {"containers": [container]}}}
    kept = made("apps/v1/Deployment", {"spec": spec})["spec"]["template"]["spec"]["containers"][0]
    assert kept["lifecycle"] == {"preStop": {"sleep": {"seconds": 0}}}
