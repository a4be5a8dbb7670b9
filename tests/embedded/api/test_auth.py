"""Who may do what: certificates, tokens, RBAC, impersonation, reviews."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from chaos.errors import ApiError
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import World, config_map, pod

pytestmark = pytest.mark.live

RBAC = "rbac.authorization.k8s.io"


def grant(
    cluster: Cluster, namespace: str, subject: dict[str, str], rules: list[dict[str, Any]], name: str = "r"
) -> None:
    cluster.create(
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name, "namespace": namespace}, "rules": rules}
    )
    cluster.create(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [subject],
        }
    )


def token_for(cluster: Cluster, namespace: str, account: str = "default", **spec: Any) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], **spec}}
    answer = cluster.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
    return str(answer["status"]["token"])


def get(world: World, path: str, token: str | None = None, **headers: str) -> tuple[int, Any]:
    pool = world.http(token=token)
    response = pool.request("GET", world.url + path, headers={**pool.headers, **headers})
    return response.status, json.loads(response.data) if response.data.startswith(b"{") else response.data.decode()


def test_anonymous_may_ask_for_health_and_nothing_else(world: World) -> None:
    assert get(world, "/healthz") == (200, "ok")
    code, status = get(world, "/api/v1/namespaces/default/pods")
    assert code == 403
    assert status["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the '
        'namespace "default"'
    )


@pytest.mark.parametrize("token", ["rubbish", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "é"])
def test_a_bad_token_answers_401(world: World, token: str) -> None:
    pool = world.http()
    headers = {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
    response = pool.request("GET", world.url + "/api/v1/pods", headers=headers)
    assert response.status == 401


def test_a_certificate_of_another_authority_is_refused(world: World, tmp_path: Any) -> None:
    from chaos.embedded.api.pki import Authority, kubeconfig

    stranger = Authority().issue("admin", organizations=("system:masters",))
    path = tmp_path / "kubeconfig"
    path.write_bytes(kubeconfig("stranger", world.url, world.authority, stranger, tmp_path))
    with pytest.raises(Exception, match=r"(?i)ssl|connection|alert"):
        Cluster(path).request("GET", "/api/v1/pods", retry=False)


def test_a_kubeconfig_holds_no_key_that_a_client_would_copy_to_a_file_of_its_own(world: World) -> None:
    text = world.kubeconfig.read_text()
    assert "-data" not in text
    assert (world.directory / "test.key").stat().st_mode & 0o077 == 0


def test_a_role_allows_what_it_lists_where_it_is_bound(world: World, namespace: str) -> None:
    cluster, user = world.cluster, world.user("jane")
    grant(
        cluster,
        namespace,
        {"kind": "User", "name": "jane", "apiGroup": RBAC},
        [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["update", "patch"], "resourceNames": ["mine"]},
        ],
    )
    cluster.create(config_map("mine", namespace))
    cluster.create(config_map("other", namespace))
    assert len(user.list("ConfigMap", namespace)) == 3
    user.patch("ConfigMap", "mine", {"data": {"a": "b"}}, namespace)
    for forbidden in (
        lambda: user.patch("ConfigMap", "other", {"data": {"a": "b"}}, namespace),
        lambda: user.list("ConfigMap", "default"),
        lambda: user.list("Secret", namespace),
        lambda: user.create(config_map("new", namespace)),
        lambda: user.delete("ConfigMap", "mine", namespace),
    ):
        with pytest.raises(ApiError, match='User "jane" cannot') as error:
            forbidden()
        assert (error.value.code, error.value.reason) == (403, "Forbidden")


def test_subresources_need_their_own_permission(world: World, namespace: str) -> None:
    user = world.user("joe")
    grant(
        world.cluster,
        namespace,
        {"kind": "User", "name": "joe"},
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}],
    )
    user.create(pod("p", namespace, schedulerName="nobody"))
    with pytest.raises(ApiError, match='resource "pods/log"'):
        user.logs(namespace, "p")
    with pytest.raises(ApiError, match='resource "pods/status"'):
        user.patch("Pod", "p", {"status": {}}, namespace, subresource="status")


def test_a_binding_to_a_role_that_is_missing_is_404_for_whoever_may_not_bind_anything(
    world: World, namespace: str
) -> None:
    """The role is looked up when the check against escalation reads its rules, and only then."""
    rules = [{"apiGroups": [RBAC], "resources": ["rolebindings"], "verbs": ["create"]}]
    grant(world.cluster, namespace, {"kind": "User", "name": "binder"}, rules)
    client = world.user("binder")
    for kind, plural in (("Role", "roles"), ("ClusterRole", "clusterroles")):
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"late-{kind.lower()}", "namespace": namespace},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": "not-yet"},
        }
        with pytest.raises(ApiError, match=rf'{plural}.rbac.authorization.k8s.io "not-yet" not found') as caught:
            client.create(binding)
        assert caught.value.code == 404
        world.cluster.create(binding)


def test_nobody_grants_more_than_he_has(world: World, namespace: str) -> None:
    user = world.user("clerk")
    grant(
        world.cluster,
        namespace,
        {"kind": "User", "name": "clerk"},
        [
            {"apiGroups": [RBAC], "resources": ["roles", "rolebindings"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        ],
    )
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "wide", "namespace": namespace}}
    with pytest.raises(ApiError, match="attempting to grant RBAC permissions not currently held"):
        user.create(role | {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]})
    user.create(role | {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]})
    with pytest.raises(ApiError, match="attempting to grant"):
        user.create(
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "b", "namespace": namespace},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [],
            }
        )


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}], []),
        (
            [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete", "patch"]}],
            ['{APIGroups:[""], Resources:["pods"], Verbs:["delete" "patch"]}'],
        ),
        (
            [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}],
            ['{APIGroups:["*"], Resources:["*"], Verbs:["*"]}', '{NonResourceURLs:["*"], Verbs:["*"]}'],
        ),
        (
            [{"apiGroups": ["a", "b"], "resources": ["x"], "verbs": ["get"]}],
            ['{APIGroups:["a"], Resources:["x"], Verbs:["get"]}', '{APIGroups:["b"], Resources:["x"], Verbs:["get"]}'],
        ),
        (
            [{"apiGroups": [""], "resources": ["x"], "resourceNames": ["n", "m"], "verbs": ["get", "list"]}],
            [
                '{APIGroups:[""], Resources:["x"], ResourceNames:["m"], Verbs:["get" "list"]}',
                '{APIGroups:[""], Resources:["x"], ResourceNames:["n"], Verbs:["get" "list"]}',
            ],
        ),
        (
            [{"nonResourceURLs": ["/a"], "verbs": ["get", "post"]}],
            ['{NonResourceURLs:["/a"], Verbs:["get"]}', '{NonResourceURLs:["/a"], Verbs:["post"]}'],
        ),
    ],
)
def test_every_right_that_is_lacking_is_told_by_resource(
    world: World, namespace: str, rules: list[dict[str, Any]], told: list[str]
) -> None:
    name = f"teller-{namespace}"
    held = [
        {"apiGroups": [RBAC], "resources": ["rolebindings"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]
    grant(world.cluster, namespace, {"kind": "User", "name": name}, held)
    about = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    world.cluster.create(about | {"rules": rules})
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
    }
    if not told:
        world.user(name).create(binding)
        return
    with pytest.raises(ApiError) as caught:
        world.user(name).create(binding)
    assert str(caught.value).partition("not currently held:\n")[2].splitlines() == told


def test_a_bound_token_speaks_for_its_pod_and_dies_with_it(world: World, namespace: str) -> None:
    cluster = world.cluster
    made = cluster.create(pod("p", namespace, nodeName="n"))
    token = token_for(
        cluster,
        namespace,
        boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]},
        audiences=["mesh"],
    )

    def review(audience: str) -> Any:
        return cluster.request(
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [audience]},
            },
        )["status"]

    found = review("mesh")
    assert found["authenticated"]
    assert found["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    extra = found["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [made["metadata"]["uid"]]
    assert extra["authentication.kubernetes.io/node-name"] == ["n"]
    assert not review("else").get("authenticated")
    assert get(world, "/api/v1/pods", token)[0] == 401  # not for the API server
    cluster.delete("Pod", "p", namespace, grace=0)
    assert not review("mesh").get("authenticated")


def test_a_token_changed_by_one_letter_is_worthless(world: World, namespace: str) -> None:
    token = token_for(world.cluster, namespace)
    assert get(world, "/apis", token)[0] == 200
    head, body, signature = token.split(".")
    for forged in (f"{head}.{body[:-2]}AA.{signature}", f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}."):
        assert get(world, "/apis", forged)[0] == 401


def test_a_service_account_is_bound_by_name_and_group(world: World, namespace: str) -> None:
    token = token_for(world.cluster, namespace)
    assert get(world, f"/api/v1/namespaces/{namespace}/pods", token)[0] == 403
    grant(
        world.cluster,
        namespace,
        {"kind": "ServiceAccount", "name": "default", "namespace": namespace},
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    )
    assert get(world, f"/api/v1/namespaces/{namespace}/pods", token)[0] == 200


def test_reviews_answer_as_requests_would(world: World, namespace: str) -> None:
    user = world.user("maya")
    grant(
        world.cluster,
        namespace,
        {"kind": "User", "name": "maya"},
        [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}],
    )

    def can(verb: str, group: str, resource: str, where: str) -> bool:
        answer = user.request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {
                    "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": where}
                },
            },
        )
        return bool(answer["status"]["allowed"])

    assert can("get", "apps", "deployments", namespace)
    assert not can("delete", "apps", "deployments", namespace)
    assert not can("get", "apps", "deployments", "default")
    with pytest.raises(ApiError, match="subjectaccessreviews"):
        user.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"user": "x"}})


def test_impersonation_needs_permission_and_then_acts_as_the_other(world: World, namespace: str) -> None:
    def as_jim(cluster: Cluster) -> int:
        headers = {**cluster._headers(), "Impersonate-User": "jim"}
        return int(
            cluster._pool.request("GET", f"{world.url}/api/v1/namespaces/{namespace}/pods", headers=headers).status
        )

    assert as_jim(world.user("nobody")) == 403
    assert as_jim(world.cluster) == 403
    grant(
        world.cluster,
        namespace,
        {"kind": "User", "name": "jim"},
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    )
    assert as_jim(world.cluster) == 200


def test_every_request_is_in_the_audit_log(world: World, namespace: str) -> None:
    import time

    world.cluster.list("Pod", namespace)
    time.sleep(1.1)
    world.cluster.list("Pod", namespace)
    rows = [json.loads(line) for line in (world.directory / "audit.jsonl").read_text().splitlines()]
    assert any(
        row["user"] == "admin" and row["verb"] == "list" and namespace in row["uri"] and row["code"] == 200
        for row in rows
    )


def test_a_stranger_verifies_tokens_by_the_issuers_published_keys(world: World, namespace: str) -> None:
    token = token_for(world.cluster, namespace, audiences=["vault"], expirationSeconds=900)
    code, document = get(world, "/.well-known/openid-configuration", token_for(world.cluster, namespace))
    assert (code, document["issuer"]) == (200, "https://kubernetes.default.svc.cluster.local")
    assert document["jwks_uri"] == "https://172.30.0.1:6443/openid/v1/jwks"
    code, keys = get(world, "/openid/v1/jwks", token_for(world.cluster, namespace))
    assert code == 200
    named = next(one for one in keys["keys"] if one["kid"] == jwt.get_unverified_header(token)["kid"])
    claims = jwt.decode(token, jwt.PyJWK(named).key, [named["alg"]], audience="vault", issuer=document["issuer"])
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["exp"] - claims["iat"] == 900


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/openid/v1/jwks"])
def test_the_issuers_documents_are_for_service_accounts_and_not_for_the_world(world: World, path: str) -> None:
    assert get(world, path)[0] == 403


def test_a_signing_request_is_refused_in_one_sentence(world: World) -> None:
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "me"},
        "spec": {"request": "", "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
    }
    with pytest.raises(ApiError) as refused:
        world.cluster.request("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", body)
    assert refused.value.code == 501
    assert "certificatesigningrequests" in refused.value.status["message"]
