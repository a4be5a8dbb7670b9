"""Admission webhooks over real TLS: every outcome with each failurePolicy, and whom they are asked about."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.embedded.api.pki import Authority
from chaos.errors import ApiError
from tests.embedded.api.conftest import config_map, deployment, pod
from tests.embedded.webhooks.conftest import Hooks, attempt, files, once, rule, service
from tests.embedded.webhooks.injector import Server

CODE = 500


OUTCOMES = yaml.safe_load(Path(__file__).with_name("outcomes.yaml").read_text())
FAILURES = [(row["path"], row["sort"], row["why"]) for row in OUTCOMES["failures"]]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(("path", "sort", "why"), FAILURES, ids=[f"{row[1]}{row[0]}" for row in FAILURES])
def test_a_webhook_that_gives_no_answer_is_a_500_in_kubernetes_words_or_passed_over(
    hooks: Hooks, namespace: str, path: str, sort: str, why: str, policy: str
) -> None:
    with hooks.configured(hooks.webhook(path, failurePolicy=policy), sort=sort):
        code, message = attempt(hooks, namespace)
    if policy == "Ignore":
        assert (code, message) == (201, "")
    else:
        said = f'Internal error occurred: failed calling webhook "one.hooks.test": {why.replace("{path}", path)}'
        assert (code, message) == (500, said)


DENIALS = [
    ("/deny", 400, 'admission webhook "one.hooks.test" denied the request: no pets'),
    ("/deny-code", 403, 'admission webhook "one.hooks.test" denied the request: no pets'),
    ("/deny-reason", 400, 'admission webhook "one.hooks.test" denied the request: TooManyPets'),
    ("/deny-bare", 400, 'admission webhook "one.hooks.test" denied the request without explanation'),
]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize("sort", ["Mutating", "Validating"])
@pytest.mark.parametrize(("path", "code", "said"), DENIALS)
def test_a_no_is_a_no_whatever_the_failure_policy(
    hooks: Hooks, namespace: str, path: str, code: int, said: str, sort: str, policy: str
) -> None:
    with hooks.configured(hooks.webhook(path, failurePolicy=policy), sort=sort):
        assert attempt(hooks, namespace) == (code, said)


PATCHES = [
    ("/patch-missing", 'add operation does not apply: doc is missing path: "/spec/no/where": missing value'),
    (
        "/patch-remove",
        "error in remove for path: '/metadata/nothing': Unable to remove nonexistent key: nothing: missing value",
    ),
    ("/patch-test", "testing value /kind failed: test failed"),
    ("/patch-replace", "replace operation does not apply: doc is missing key: /metadata/x: missing value"),
    ("/patch-type", "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string"),
]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(("path", "why"), PATCHES)
def test_a_patch_that_does_not_fit_is_a_500_whatever_the_failure_policy(
    hooks: Hooks, namespace: str, path: str, why: str, policy: str
) -> None:
    with hooks.configured(hooks.webhook(path, failurePolicy=policy), sort="Mutating"):
        assert attempt(hooks, namespace) == (500, f"Internal error occurred: {why}")


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A port at which something answers in plain text; nothing listens where `answer` is None."""
    opened = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = opened.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(answer or b"")

    if answer is None:
        port = opened.getsockname()[1]
        opened.close()
        yield port
        return
    threading.Thread(target=serve, daemon=True).start()
    yield opened.getsockname()[1]
    opened.shutdown(socket.SHUT_RDWR)
    opened.close()


def refusal(hooks: Hooks, namespace: str, client: dict[str, Any]) -> str:
    """The words of a call that fails, without what is the same for all; with Ignore it is passed over."""
    with hooks.configured(hooks.webhook("/allow", clientConfig=client, failurePolicy="Ignore")):
        assert attempt(hooks, namespace) == (201, "")
    with hooks.configured(hooks.webhook("/allow", clientConfig=client)):
        code, message = attempt(hooks, namespace)
    assert code == CODE
    return message.removeprefix('Internal error occurred: failed calling webhook "one.hooks.test": ')


def test_a_service_that_leads_nowhere_is_told_as_kube_apiserver_tells_it(hooks: Hooks, namespace: str) -> None:
    service(hooks.world, "empty", None)
    address = hooks.world.cluster.get("Service", "empty", "hooks")["spec"]["clusterIP"]

    def said(name: str, **more: Any) -> str:
        return refusal(hooks, namespace, hooks.client("/allow", name=name, **more))

    def post(name: str, port: int = 443) -> str:
        return f'failed to call webhook: Post "https://{name}.hooks.svc:{port}/allow?timeout=2s": '

    assert said("missing") == post("missing") + 'service "missing" not found'
    assert said("injector", port=8443) == post("injector", 8443) + 'no service port 8443 found for service "injector"'
    assert said("empty") == post("empty") + f"dial tcp {address}:443: connect: connection refused"


def test_what_is_no_webhook_is_told_as_go_tells_it(hooks: Hooks, namespace: str) -> None:
    def said(url: str, bundle: str | None = None) -> str:
        return refusal(hooks, namespace, {"url": url, "caBundle": bundle or hooks.bundle})

    with listening(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        url = f"https://127.0.0.1:{port}/a"
        assert said(url).endswith(f'Post "{url}?timeout=2s": http: server gave HTTP response to HTTPS client')
    with listening(None) as port:
        url = f"https://127.0.0.1:{port}/a"
        why = f'Post "{url}?timeout=2s": dial tcp 127.0.0.1:{port}: connect: connection refused'
        assert said(url) == f"failed to call webhook: {why}"
    url = f"https://127.0.0.1:{hooks.server.port}"
    nothing = base64.b64encode(b"nothing").decode()
    why = "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block"
    assert said(url, nothing) == why


def test_a_certificate_that_is_not_to_be_believed_is_refused_in_gos_words(hooks: Hooks, namespace: str) -> None:
    def said(client: dict[str, Any]) -> str:
        return refusal(hooks, namespace, client).partition("tls: failed to verify certificate: ")[2]

    stranger = base64.b64encode(Authority().pem).decode()
    service(hooks.world, "renamed", hooks.server.port)
    assert said(hooks.client("/allow", name="renamed")) == (
        "x509: certificate is valid for injector.hooks.svc, not renamed.hooks.svc"
    )
    assert said(hooks.client("/allow") | {"caBundle": stranger}).startswith(
        "x509: certificate signed by unknown authority"
    )
    url = f"https://127.0.0.1:{hooks.server.port}/allow"
    assert said({"url": url, "caBundle": hooks.bundle}) == (
        "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
    )


def test_an_answer_to_another_question_is_none(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(hooks.webhook("/uid")):
        code, message = attempt(hooks, namespace)
    asked = hooks.server.asked[-1]["uid"]
    why = f'received invalid webhook response: expected response.uid="{asked}", got "another"'
    assert (code, message) == (500, f'Internal error occurred: failed calling webhook "one.hooks.test": {why}')


def test_kubectl_shows_a_failure_and_a_no_as_it_does_on_any_cluster(hooks: Hooks, namespace: str) -> None:
    def shown(path: str) -> str:
        with hooks.configured(hooks.webhook(path)):
            body = json.dumps(config_map("shown", namespace))
            return hooks.world.kubectl("create", "-f", "-", stdin=body).stderr.strip()

    begin = 'error when creating "STDIN": '
    why = "failed to call webhook: the server could not find the requested resource"
    failed = f'failed calling webhook "one.hooks.test": {why}'
    denied = 'admission webhook "one.hooks.test" denied the request: no pets'
    assert shown("/404") == f"Error from server (InternalError): {begin}Internal error occurred: {failed}"
    assert shown("/deny") == f"Error from server: {begin}{denied}"
    assert shown("/deny-code") == f"Error from server (Forbidden): {begin}{denied}"


def test_a_webhook_by_url_is_called_and_its_certificate_checked(hooks: Hooks, namespace: str) -> None:
    server = Server(*files(hooks.directory, hooks.authority, "url", addresses=("127.0.0.1",)))
    server.start()
    try:
        client = {"url": f"https://127.0.0.1:{server.port}/deny", "caBundle": hooks.bundle}
        with hooks.configured(hooks.webhook("", clientConfig=client)):
            assert attempt(hooks, namespace) == (400, 'admission webhook "one.hooks.test" denied the request: no pets')
        assert server.asked[-1]["path"] == "/deny?timeout=2s"
    finally:
        server.stop()


def test_a_webhook_is_asked_who_does_what_with_what(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(hooks.webhook("/allow")):
        hooks.world.cluster.create(config_map("one", namespace, a="b"))
    asked = hooks.server.asked[-1]
    assert asked["operation"] == "CREATE"
    assert asked["name"] == "one"
    assert asked["namespace"] == namespace
    assert asked["kind"] == asked["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert asked["resource"] == asked["requestResource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert asked["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert asked["object"]["data"] == {"a": "b"}
    assert asked["object"]["metadata"]["name"] == "one"
    assert asked["oldObject"] is None
    assert asked["dryRun"] is False
    assert asked["options"]["kind"] == "CreateOptions"


def test_updates_and_deletions_are_asked_about_with_what_was(hooks: Hooks, namespace: str) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["*"], "operations": ["*"], "resources": ["configmaps"]}
    held = hooks.world.cluster.create(config_map("two", namespace, a="b"))
    with hooks.configured(hooks.webhook("/allow", rules=[rule])):
        hooks.world.cluster.patch("ConfigMap", "two", {"data": {"a": "c"}}, namespace)
        update = hooks.server.asked[-1]
        hooks.world.cluster.delete("ConfigMap", "two", namespace)
        deletion = hooks.server.asked[-1]
    assert (update["operation"], update["object"]["data"], update["oldObject"]["data"]) == (
        "UPDATE", {"a": "c"}, {"a": "b"},
    )  # fmt: skip
    assert update["oldObject"]["metadata"]["uid"] == held["metadata"]["uid"]
    assert (deletion["operation"], deletion["object"]) == ("DELETE", None)
    assert deletion["oldObject"]["data"] == {"a": "c"}
    assert deletion["options"] == {
        "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background",
    }  # fmt: skip
    with hooks.configured(hooks.webhook("/deny", rules=[rule])):
        code, _ = attempt(hooks, namespace)
    assert code == 400


def test_a_webhooks_labels_are_those_of_its_namespace_and_of_the_object(hooks: Hooks, namespace: str) -> None:
    hooks.world.cluster.patch("Namespace", namespace, {"metadata": {"labels": {"team": "a"}}})
    cases: list[tuple[dict[str, Any], int]] = [
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, 400),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, 201),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}}, 201),
        ({"objectSelector": {"matchLabels": {"app": "x"}}}, 201),
        ({"objectSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}, 400),
        ({"rules": [rule(operations=["UPDATE"])]}, 201),
        ({"rules": [rule(resources=["secrets"])]}, 201),
        ({"rules": [rule(resources=["*"])]}, 400),
        ({"rules": [rule(resources=["configmaps/status"])]}, 201),
        ({"rules": [rule(scope="Cluster")]}, 201),
        ({"rules": [rule(scope="Namespaced")]}, 400),
        ({"rules": [rule(apiGroups=["apps"])]}, 201),
        ({"rules": [rule(apiVersions=["v2"])]}, 201),
    ]
    for change, code in cases:
        with hooks.configured(hooks.webhook("/deny", **change)):
            assert attempt(hooks, namespace)[0] == code, change


def test_what_a_mutating_webhook_changes_is_stored_and_validated(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(hooks.webhook("/label"), sort="Mutating"):
        made = hooks.world.cluster.create(config_map("labelled", namespace))
    assert made["metadata"]["labels"] == {"by": "webhook"}


def test_webhooks_speak_in_the_order_of_their_configurations_names(hooks: Hooks, namespace: str) -> None:
    with (
        hooks.configured(hooks.webhook("/label"), sort="Mutating", name="b"),
        hooks.configured(hooks.webhook("/label-again"), sort="Mutating", name="a"),
    ):
        made = hooks.world.cluster.create(config_map("ordered", namespace))
    assert made["metadata"]["labels"] == {"by": "webhook"}  # a said another, then b


@pytest.mark.parametrize(("policy", "asked", "seen"), [("IfNeeded", "2", "2"), ("Never", "1", "1")])
def test_a_webhook_is_asked_again_when_another_changed_the_object_after_it(
    hooks: Hooks, namespace: str, policy: str, asked: str, seen: str
) -> None:
    pods = [rule(resources=["pods"])]
    with hooks.configured(
        hooks.webhook("/seen", name="a.hooks.test", rules=pods, reinvocationPolicy=policy),
        hooks.webhook("/inject", name="b.hooks.test", rules=pods),
        sort="Mutating",
    ):
        made = hooks.world.cluster.create(pod(f"again-{policy.lower()}", namespace))
    labels = made["metadata"]["labels"]
    assert (labels["asked"], labels["containers"]) == (asked, seen)
    sidecar = next(one for one in made["spec"]["containers"] if one["name"] == "sidecar")
    assert sidecar["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"


def test_warnings_reach_the_client_once_each_and_annotations_the_audit_log(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(hooks.webhook("/warn")):
        done = hooks.world.kubectl("create", "configmap", "warned", "-n", namespace)
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["Warning: careful", "Warning: really"]
    assert hooks.noted(namespace, "one.hooks.test/")["one.hooks.test/why"] == "so"
    with hooks.configured(hooks.webhook("/warn-deny")):
        done = hooks.world.kubectl("create", "configmap", "refused", "-n", namespace)
    assert done.stderr.splitlines() == [
        "Warning: careful",
        'error: failed to create configmap: admission webhook "one.hooks.test" denied the request without explanation',
    ]


def test_the_audit_log_says_who_changed_an_object_and_who_was_passed_over(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(
        hooks.webhook("/label", name="a.hooks.test"),
        hooks.webhook("/500", name="b.hooks.test", failurePolicy="Ignore"),
        sort="Mutating",
    ):
        assert attempt(hooks, namespace)[0] == 201
    noted = hooks.noted(namespace, "a.hooks.test")
    prefix = "mutation.webhook.admission.k8s.io/round_0_index_"
    changed = {"configuration": "test", "webhook": "a.hooks.test", "mutated": True}
    assert json.loads(noted[f"{prefix}0"]) == changed
    assert json.loads(noted[f"{prefix}1"]) == changed | {"webhook": "b.hooks.test", "mutated": False}
    assert noted[f"failed-open.{prefix}1"] == "b.hooks.test"


def test_a_talkative_webhook_is_cut_short(hooks: Hooks, namespace: str) -> None:
    body = json.dumps(config_map("talkative", namespace)).encode()
    with hooks.configured(hooks.webhook("/warn-much")):
        response = hooks.world.cluster.open("POST", f"/api/v1/namespaces/{namespace}/configmaps", body=body)
    warnings = response.headers.getlist("Warning")
    assert len(warnings) == 16
    assert all(len(one) < 300 for one in warnings)


@pytest.mark.parametrize(
    ("effects", "code", "said"),
    [
        ("None", 400, 'admission webhook "one.hooks.test" denied the request: no pets'),
        ("NoneOnDryRun", 400, 'admission webhook "one.hooks.test" denied the request: no pets'),
        ("Some", 422, ""),
    ],
)
def test_a_dry_run_asks_webhooks_without_side_effects(
    hooks: Hooks, namespace: str, effects: str, code: int, said: str
) -> None:
    if code == 422:
        with pytest.raises(ApiError) as refused, hooks.configured(hooks.webhook("/deny", sideEffects=effects)):
            pass
        assert refused.value.code == 422
        return
    with hooks.configured(hooks.webhook("/deny", sideEffects=effects)):
        done = hooks.world.kubectl("create", "configmap", "dry", "-n", namespace, "--dry-run=server")
    assert said in done.stderr
    assert hooks.server.asked[-1]["dryRun"] is True


def test_pods_of_a_replica_set_pass_the_webhooks_too(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(hooks.webhook("/inject", rules=[rule(resources=["pods"])]), sort="Mutating"):
        hooks.world.cluster.create(deployment("injected", namespace, replicas=3))
        hooks.world.cluster.wait("pods", lambda: len(pods_of(hooks, namespace)) == 3)
    assert all(
        [one["name"] for one in made["spec"]["containers"]] == ["app", "sidecar"] for made in pods_of(hooks, namespace)
    )
    asked = [one for one in hooks.server.asked if one["namespace"] == namespace]
    assert {one["userInfo"]["username"] for one in asked} == {"system:serviceaccount:kube-system:replicaset-controller"}
    assert len(asked) == 3


def job(name: str, namespace: str) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "example:1"}]}}
    spec = {"parallelism": 3, "completions": 3, "completionMode": "Indexed", "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def stateful_set(name: str, namespace: str) -> dict[str, Any]:
    labels = {"matchLabels": {"app": name}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "example:1"}]}}
    spec = {
        "replicas": 2,
        "podManagementPolicy": "Parallel",
        "selector": labels,
        "serviceName": name,
        "template": template,
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}


@pytest.mark.parametrize(
    ("make", "count", "account"), [(job, 3, "job-controller"), (stateful_set, 2, "statefulset-controller")]
)
def test_every_workloads_pods_pass_the_webhooks_once_each(
    hooks: Hooks, namespace: str, make: Any, count: int, account: str
) -> None:
    hooks.server.asked.clear()
    with hooks.configured(hooks.webhook("/inject", rules=[rule(resources=["pods"])]), sort="Mutating"):
        hooks.world.cluster.create(make("workload", namespace))
        hooks.world.cluster.wait("pods", lambda: len(pods_of(hooks, namespace)) == count)
    assert {len(one["spec"]["containers"]) for one in pods_of(hooks, namespace)} == {2}
    assert [one["userInfo"]["username"] for one in hooks.server.asked] == [
        f"system:serviceaccount:kube-system:{account}"
    ] * count


def pods_of(hooks: Hooks, namespace: str) -> list[dict[str, Any]]:
    return [one for one in hooks.world.cluster.list("Pod", namespace) if "deletionTimestamp" not in one["metadata"]]


def test_a_replica_set_whose_pods_are_refused_says_so_and_tries_again(hooks: Hooks, namespace: str) -> None:
    with hooks.configured(hooks.webhook("/deny", rules=[rule(resources=["pods"])])):
        hooks.world.cluster.create(deployment("refused", namespace))

        def said() -> list[str]:
            return [
                one["message"]
                for one in hooks.world.cluster.list("Event", namespace)
                if one["reason"] == "FailedCreate"
            ]

        hooks.world.cluster.wait("event", said)
        assert said()[0] == 'Error creating: admission webhook "one.hooks.test" denied the request: no pets'
        assert pods_of(hooks, namespace) == []
    hooks.world.cluster.wait("pod", lambda: pods_of(hooks, namespace))


def test_a_write_whose_object_changed_while_webhooks_were_asked_is_made_again(hooks: Hooks, namespace: str) -> None:
    hooks.world.cluster.create(config_map("shared", namespace, a="1"))
    slow = hooks.webhook("/slow", rules=[rule(operations=["UPDATE"])], timeoutSeconds=5)
    hooks.server.asked.clear()
    with hooks.configured(slow | {"objectSelector": {"matchLabels": {"slow": "yes"}}}):
        done: list[Any] = []

        def patch() -> None:
            change = {"metadata": {"labels": {"slow": "yes"}}, "data": {"b": "2"}}
            done.append(hooks.world.user("patcher", "system:masters").patch("ConfigMap", "shared", change, namespace))

        thread = threading.Thread(target=patch)
        thread.start()
        hooks.world.cluster.wait("webhook asked", lambda: hooks.server.asked)
        hooks.world.cluster.patch("ConfigMap", "shared", {"data": {"c": "3"}}, namespace)
        thread.join(20)
    held = hooks.world.cluster.get("ConfigMap", "shared", namespace)
    assert held["data"] == {"a": "1", "b": "2", "c": "3"}
    assert len(hooks.server.asked) == 2


def test_configurations_themselves_are_asked_about_by_nobody(hooks: Hooks) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    with hooks.configured(
        hooks.webhook("/deny", rules=[everything], namespaceSelector={"matchLabels": {"none": "such"}})
    ):
        path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/test"
        held = once(hooks.world, "GET", path)
        changed = once(hooks.world, "PUT", path, held | {"metadata": held["metadata"] | {"labels": {"a": "b"}}})
        assert changed["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(("change", "said"), [(row["change"], row["said"]) for row in OUTCOMES["invalid"]])
def test_a_configuration_that_kubernetes_refuses_is_refused(hooks: Hooks, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refused, hooks.configured(hooks.webhook("/allow") | change):
        pass
    message = refused.value.status["message"]
    assert message == f'ValidatingWebhookConfiguration.admissionregistration.k8s.io "test" is invalid: {said}'
