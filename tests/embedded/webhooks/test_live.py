"""A webhook that is a pod of the cluster, reached by its Service; and what node agents of meshes are made of."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster.providers import open_cluster
from chaos.embedded.api.pki import Authority
from chaos.errors import ApiError
from chaos.kube.client import Cluster
from chaos.names import IMAGE

pytestmark = pytest.mark.privileged
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
HOOKS = "hooks"


def once(cluster: Cluster, method: str, path: str, body: Any = None) -> Any:
    """One exchange: a 500 that is an answer is not asked for again."""
    response = cluster.open(method, path, body=None if body is None else json.dumps(body).encode())
    return json.loads(response.read())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster("embedded", name="webhook-test") as cluster:
        for name, labels in ((HOOKS, {}), ("mesh", {"inject": "yes"})):
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        install(cluster)
        yield cluster


def install(cluster: Cluster) -> None:
    """The injector: its certificate, its program, a Deployment of two, a Service and the configuration."""
    authority = Authority()
    pair = authority.issue("injector", names=(f"injector.{HOOKS}.svc",))
    where = {"namespace": HOOKS}
    secret = {"tls.crt": pair.certificate, "tls.key": pair.key}
    program = Path(__file__).with_name("injector.py").read_text()
    volumes = [
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "program", "configMap": {"name": "program"}},
    ]
    container = {
        "name": "injector",
        "image": IMAGE,
        "command": ["python", "/program/injector.py", "/keys/tls.crt", "/keys/tls.key", "8443"],
        "env": [{"name": "SIDECAR_IMAGE", "value": IMAGE}],
        "ports": [{"containerPort": 8443}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "keys", "mountPath": "/keys", "readOnly": True},
            {"name": "program", "mountPath": "/program", "readOnly": True},
        ],
    }
    for body in (
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", **where},
         "data": {name: base64.b64encode(data).decode() for name, data in secret.items()}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "program", **where},
         "data": {"injector.py": program}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "injector", **where},
         "spec": {"selector": {"app": "injector"}, "ports": [{"port": 443, "targetPort": 8443}]}},
        workload("injector", HOOKS, container, volumes=volumes, terminationGracePeriodSeconds=1),
    ):  # fmt: skip
        cluster.create(body)
    cluster.wait("injector", lambda: is_available(cluster, "injector", HOOKS), seconds=60)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hook = {
        "name": "inject.hooks.test",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"inject": "yes"}},
        "clientConfig": {
            "caBundle": base64.b64encode(authority.pem).decode(),
            "service": {"name": "injector", "namespace": HOOKS, "path": "/inject"},
        },
    }
    kind = "MutatingWebhookConfiguration"
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "injector"}}
    once(cluster, "POST", CONFIGURATIONS, body | {"webhooks": [hook]})


def workload(name: str, namespace: str, container: dict[str, Any], kind: str = "Deployment", **spec: Any) -> Any:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **spec}}
    meta = {"name": name, "namespace": namespace}
    body = {"selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": body}


def is_available(cluster: Cluster, name: str, namespace: str) -> bool:
    return bool(cluster.get("Deployment", name, namespace).get("status", {}).get("availableReplicas"))


def test_a_deployments_pods_run_with_the_sidecar_that_a_webhook_in_the_cluster_gives_them(cluster: Cluster) -> None:
    server = {"name": "app", "image": IMAGE, "command": ["sleep", "infinity"]}
    cluster.create(workload("shop", "mesh", server))
    cluster.wait("shop", lambda: is_available(cluster, "shop", "mesh"), seconds=60)
    pods = cluster.list("Pod", "mesh", labels="app=shop")
    assert [[one["name"] for one in pod["spec"]["containers"]] for pod in pods] == [["app", "sidecar"]]
    said = cluster.exec("mesh", pods[0]["metadata"]["name"], ["printenv", "BY"], container="sidecar")
    assert said.stdout == "injector\n"


def test_a_webhook_whose_pods_are_gone_is_refused_by_its_services_address(cluster: Cluster) -> None:
    address = cluster.get("Service", "injector", HOOKS)["spec"]["clusterIP"]
    cluster.patch("Deployment", "injector", {"spec": {"replicas": 0}}, HOOKS)

    def empty() -> bool:
        slices = cluster.list("EndpointSlice", HOOKS)
        return not any(one["conditions"].get("serving") for piece in slices for one in piece.get("endpoints") or [])

    try:
        cluster.wait("no endpoints", empty, seconds=60)
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone", "namespace": "mesh"},
                "spec": {"containers": [{"name": "app", "image": IMAGE}]}}  # fmt: skip
        with pytest.raises(ApiError) as refused:
            once(cluster, "POST", "/api/v1/namespaces/mesh/pods", body)
    finally:
        cluster.patch("Deployment", "injector", {"spec": {"replicas": 1}}, HOOKS)
    url = f"https://injector.{HOOKS}.svc:443/inject?timeout=10s"
    why = f'Post "{url}": dial tcp {address}:443: connect: connection refused'
    assert refused.value.status["message"] == (
        f'Internal error occurred: failed calling webhook "inject.hooks.test": failed to call webhook: {why}'
    )


def test_a_daemon_set_of_the_nodes_networks_serves_its_host_ports_on_every_node(cluster: Cluster) -> None:
    agent = {
        "name": "agent",
        "image": IMAGE,
        "command": ["python", "-m", "http.server", "15099"],
        "ports": [{"containerPort": 15099, "hostPort": 15099}],
        "readinessProbe": {"httpGet": {"port": 15099}, "periodSeconds": 1},
    }
    cluster.create(workload("agent", HOOKS, agent, "DaemonSet", hostNetwork=True))
    nodes = [
        next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
        for node in cluster.list("Node")
    ]
    status = {"numberReady": len(nodes), "desiredNumberScheduled": len(nodes)}
    cluster.wait(
        "agents",
        lambda: status.items() <= cluster.get("DaemonSet", "agent", HOOKS).get("status", {}).items(),
        seconds=60,
    )
    caller = cluster.list("Pod", "mesh", labels="app=shop")[0]["metadata"]["name"]
    ask = (
        "import sys, urllib.request\n"
        "for one in sys.argv[1:]: print(urllib.request.urlopen(f'http://{one}:15099/').status)"
    )
    said = cluster.exec("mesh", caller, ["python", "-c", ask, *nodes], container="app")
    assert said.stdout.split() == ["200"] * len(nodes), said.stderr
