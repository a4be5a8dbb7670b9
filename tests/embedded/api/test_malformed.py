"""Nothing that a client sends is answered with a 5xx, and nothing that it sends leaves a stuck object."""

from __future__ import annotations

import contextlib
import json
import os
import random
import string
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from chaos.embedded.api import discovery
from chaos.embedded.clock import micro_stamp, stamp
from chaos.embedded.network.policies import plan_policies, render_policies
from chaos.embedded.network.services import plan_host_ports, plan_services, render_services
from chaos.embedded.resources import ENDPOINT_SLICE, NAMESPACE, NETWORK_POLICY, POD, SERVICE
from chaos.embedded.store import copy
from chaos.errors import ApiError
from tests.embedded.api.conftest import World, config_map, deployment, pod

pytestmark = pytest.mark.live

WEIRD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**70,
    1e308,
    -0.5,
    "",
    "\x00",
    "é" * 300,
    "a" * 5000,
    [],
    {},
    [[]],
    {"": ""},
    {"$patch": "delete"},
    [{"$patch": "replace"}],
    "../..",
    "%00",
    "1e999",
    {"a": {"b": {"c": []}}},
    [None],
    ["x", 1],
]
_CHECKED: set[str] = set()
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
TYPES = (
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/html",
    "",
    ";;",
)


def mutated(chance: random.Random, value: Any, rate: float = 0.12) -> Any:
    if chance.random() < rate:
        return chance.choice(WEIRD)
    if isinstance(value, dict):
        result = {key: mutated(chance, item, rate) for key, item in value.items() if chance.random() > 0.04}
        if chance.random() < 0.1:
            result["".join(chance.choices(string.printable, k=4))] = chance.choice(WEIRD)
        return result
    if isinstance(value, list):
        return [mutated(chance, item, rate) for item in value for _ in range(chance.choice((1, 1, 1, 2, 0)))]
    return value


def seeds(namespace: str) -> list[dict[str, Any]]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}
    rich = pod(
        "rich",
        namespace,
        nodeSelector={"a": "b"},
        tolerations=[{"key": "k", "operator": "Exists"}],
        initContainers=[
            {"name": "i", "image": "x", "restartPolicy": "Always", "startupProbe": {"httpGet": {"port": 1}}}
        ],
        volumes=[
            {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "w", "emptyDir": {}},
        ],
    )
    rich["spec"]["containers"][0] |= {
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "ports": [{"containerPort": 80}],
        "volumeMounts": [{"name": "w", "mountPath": "/w"}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "livenessProbe": {"tcpSocket": {"port": "http"}},
        "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
    }
    meta = {"name": "x", "namespace": namespace}
    return [
        config_map("x", namespace, a="b"),
        rich,
        deployment("x", namespace, 0),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": meta,
            "spec": {
                "template": template,
                "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "x"}]}]},
            },
        },
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": meta,
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": meta,
            "spec": {
                "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
                "ingress": [
                    {
                        "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24"]}}],
                        "ports": [{"port": 1, "endPort": 9}],
                    }
                ],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta,
            "spec": {"minAvailable": "50%", "selector": {}},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}],
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": meta,
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"port": 1}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": meta,
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}},
            },
        },
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": {"leaseDurationSeconds": 1, "renewTime": "2026-01-01T00:00:00.000000Z"},
        },
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": meta,
            "involvedObject": {"kind": "Pod", "namespace": namespace},
            "count": 1,
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"a": "Yg=="}, "stringData": {"b": "c"}},
    ]


def collection(body: dict[str, Any], namespace: str) -> str:
    resource = next(
        one for one in discovery.SERVED.values() if (one.api_version, one.kind) == (body["apiVersion"], body["kind"])
    )
    prefix = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
    return f"{prefix}/namespaces/{namespace}/{resource.plural}"


def one_request(chance: random.Random, namespace: str) -> tuple[str, str, bytes, str]:
    """A request that is wrong in some way."""
    body = chance.choice(seeds(namespace))
    path = collection(body, namespace)
    kind = chance.randrange(8)
    changed = mutated(chance, copy(body))
    data = json.dumps(changed).encode()
    if kind == 0:
        return "POST", path, data, "application/json"
    if kind == 1:
        return "PUT", f"{path}/x", data, "application/json"
    if kind == 2 and isinstance(changed, dict):
        status = {"podIP": "10.244.1.9", "podIPs": [{"ip": "10.244.1.9"}], "phase": "Running"}
        changed = {**changed, "status": mutated(chance, status)}
        return (
            "PATCH",
            f"{path}/{body['metadata']['name']}{chance.choice(('', '/status'))}",
            json.dumps(changed).encode(),
            chance.choice(TYPES[2:4]),
        )
    if kind == 3:
        operations = [
            {
                "op": chance.choice(("add", "remove", "replace", "move", "copy", "test", "x")),
                "path": chance.choice(
                    (
                        "/spec",
                        "/metadata/labels/a",
                        "/spec/containers/0",
                        "/spec/containers/-",
                        "/metadata",
                        "",
                        "/spec/replicas",
                        7,
                    )
                ),
                "value": chance.choice(WEIRD),
                "from": chance.choice(("/spec", "", None)),
            }
            for _ in range(chance.randrange(4))
        ]
        return "PATCH", f"{path}/{body['metadata']['name']}", json.dumps(operations).encode(), TYPES[4]
    if kind == 4:
        return "PATCH", f"{path}/{body['metadata']['name']}?fieldManager=m&force=true", data, TYPES[5]
    if kind == 5:
        junk = bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
        return (
            chance.choice(METHODS),
            path + chance.choice(("", "/x", "/x/status", "/x/scale")),
            junk,
            chance.choice(TYPES),
        )
    if kind == 6:
        names = (
            "limit",
            "continue",
            "labelSelector",
            "fieldSelector",
            "resourceVersion",
            "timeoutSeconds",
            "dryRun",
            "fieldValidation",
            "propagationPolicy",
            "gracePeriodSeconds",
            "container",
            "tailLines",
            "sinceTime",
            "ports",
            "command",
            "pretty",
        )
        values = ("", "1", "-1", "x", "%00", "a in (", "%ff", "=", "null", "9" * 30)
        query = "&".join(f"{chance.choice(names)}={chance.choice(values)}" for _ in range(3))
        tail = chance.choice(
            (
                "",
                "/x",
                "/x/log",
                "/x/exec",
                "/x/portforward",
                "/x/proxy/a",
                "/x/token",
                "/x/eviction",
                "/x/binding",
                "/x/resize",
                "/x/attach",
            )
        )
        return chance.choice(METHODS[:5]), f"{path}{tail}?{query}", b"", "application/json"
    parts = [
        "api",
        "apis",
        "v1",
        "apps",
        "namespaces",
        namespace,
        "pods",
        "..",
        "%2e",
        "%00",
        "x:y:z",
        "",
        "status",
        "proxy",
        "é",
    ]
    return (
        chance.choice(METHODS),
        "/" + "/".join(chance.choices(parts, k=chance.randrange(1, 7))),
        data,
        chance.choice(TYPES),
    )


def check_rules(world: World, namespace: str, where: object) -> None:
    """Whatever was stored can be made into a node's rules, and those are such that nftables takes them."""
    store = world.store

    def plan() -> str:
        services = plan_services(store.list(SERVICE), store.list(ENDPOINT_SLICE), "node-1")
        pods = [copy(pod) for pod in store.list(POD)]
        for number, one in enumerate(pods):  # as if a node ran them
            one["spec"]["nodeName"] = "node-1"
            one.setdefault("status", {})["phase"] = "Running"
            one["status"].setdefault("podIP", f"10.244.1.{number % 250 + 2}")
        policies = plan_policies(store.list(NETWORK_POLICY), pods, store.list(NAMESPACE), "node-1")
        return render_services(services + plan_host_ports(pods, "node-1")) + render_policies(policies)

    text = world.call(plan)
    if os.geteuid() == 0 and text not in _CHECKED:
        _CHECKED.add(text)
        done = subprocess.run(
            ["unshare", "--net", "nft", "--check", "-f", "-"], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (where, done.stderr[:500], text[-1500:])


def _is_kubernetes_own(body: bytes) -> bool:
    """Kubernetes answers 500 without a reason where its own code returns a bare error; ours has the reason."""
    return "reason" not in json.loads(body)


def attack(world: World, namespace: str, count: int, seed: int) -> None:
    chance = random.Random(seed)
    cluster = world.cluster
    for body in seeds(namespace):
        if body["kind"] not in ("CronJob", "Service"):
            cluster.request("POST", collection(body, namespace), body)
    for number in range(count):
        if number % 50 == 0:
            check_rules(world, namespace, (seed, number))
        method, path, sent, content_type = one_request(chance, namespace)
        query = "&" if "?" in path else "?"
        response = cluster._pool.request(
            method,
            world.url + path.replace(" ", "+") + f"{query}timeoutSeconds=1",
            body=sent,
            headers={"Content-Type": content_type},
            timeout=10.0,
        )
        text = response.data[:300]
        honest = (
            (501, 503) if "/proxy" in path else (501,)
        )  # a Service without endpoints is unavailable, as in Kubernetes
        assert response.status < 500 or response.status in honest or _is_kubernetes_own(response.data), (
            seed,
            number,
            method,
            path,
            content_type,
            sent[:1500],
            text,
        )
        said = response.status >= 400 and method != "HEAD"
        if said and response.data != b"404 page not found\n":  # of what is no part of the API
            assert json.loads(response.data)["kind"] == "Status", (seed, number, method, path)
    everything = cluster.request("GET", "/openapi/v3")
    assert everything["paths"]
    cluster.delete("Namespace", namespace)
    cluster.wait(
        f"namespace {namespace} gone (seed {seed})", lambda: cluster.find("Namespace", namespace) is None, seconds=20
    )


@pytest.mark.parametrize("seed", range(4))
def test_malformed_requests_are_never_a_fault_of_the_server(world: World, namespace: str, seed: int) -> None:
    attack(world, namespace, 500, seed)


@pytest.mark.slow
def test_ten_thousand_malformed_requests_are_never_a_fault_of_the_server(world: World, namespace: str) -> None:
    attack(world, namespace, 10_000, 4711)


DIGITS = ("٣", "²", "１", "1_0", " 1", "9" * 5_000, "-" + "9" * 5_000, "--5", "1e3", "0x10", "")
"""What some reader of numbers takes for one, or stumbles over."""


@pytest.mark.parametrize("text", DIGITS, ids=[ascii(one)[:12] for one in DIGITS])
def test_digits_of_any_kind_are_never_a_fault_of_the_server(world: World, namespace: str, text: str) -> None:
    world.cluster.create(pod("p", namespace) | {"metadata": {"name": "p", "namespace": namespace}})
    where = f"/api/v1/namespaces/{namespace}/pods/p"
    said = quote(text)
    operation = {"path": f"/spec/containers/{text}", "from": f"/spec/containers/{text}/name", "value": "x"}
    requests: list[tuple[str, str, Any]] = [
        *(("GET", f"{where}/log?{name}={said}", None) for name in ("sinceSeconds", "tailLines", "limitBytes")),
        *(("GET", f"{where[:-2]}?{name}={said}", None) for name in ("limit", "continue")),
        ("GET", f"{where[:-2]}?labelSelector=a%3E{said}", None),
        ("POST", f"{where}/portforward?ports={said}", None),
        ("GET", f"{where}:{said}/proxy/", None),
        *(
            ("PATCH", where, [operation | {"op": kind}])
            for kind in ("add", "move", "copy", "remove", "test", "replace")
        ),
        (
            "PUT",
            where,
            pod("p", namespace, nodeName="")
            | {"metadata": {"name": "p", "annotations": {"controller.kubernetes.io/pod-deletion-cost": text}}},
        ),
    ]
    for method, path, body in requests:
        content = TYPES[4] if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        answer = world.cluster._pool.request(method, world.url + path, body=data, headers={"Content-Type": content})
        assert answer.status < 500 or answer.status == 503, (method, path, answer.data[:300])


TIMES = (
    "2020-02-30T00:00:00Z", "2020-01-01T00:00:60Z", "2020-01-01T24:00:00Z", "2020-01-01t00:00:00z", "2020-01-01",
    "20200101T000000Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0000-01-01T00:00:00Z",
    "2020-01-01T00:00:00+24:00", "2020-01-01T00:00:00", "٢020-01-01T00:00:00Z",
)  # fmt: skip
"""Times of no calendar, and of none that everybody who reads them knows."""


@pytest.mark.parametrize("text", TIMES)
def test_a_time_that_is_none_is_refused_before_anybody_reads_it(world: World, namespace: str, text: str) -> None:
    event = {"metadata": {"name": "e", "namespace": namespace}, "involvedObject": {"namespace": namespace}}
    with pytest.raises(ApiError) as caught:
        world.cluster.create({"apiVersion": "v1", "kind": "Event", **event, "firstTimestamp": text})
    assert caught.value.code == 400
    assert world.kubectl("get", "events", "-n", namespace).returncode == 0
    log = world.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/p/log?sinceTime={quote(text)}")
    assert "Internal error" not in log.stderr


def test_the_first_year_is_written_with_four_digits(world: World, namespace: str) -> None:
    event = {"metadata": {"name": "e", "namespace": namespace}, "involvedObject": {"namespace": namespace}}
    world.cluster.create({"apiVersion": "v1", "kind": "Event", **event, "firstTimestamp": "0001-01-01T00:00:00Z"})
    assert stamp(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"
    assert micro_stamp(datetime(999, 1, 1, tzinfo=UTC)) == "0999-01-01T00:00:00.000000Z"
    assert world.kubectl("get", "events", "-n", namespace).returncode == 0


LONG: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "variables of one name": lambda names: {"env": [{"name": "A", "value": ""} for _ in names]},
    "variables": lambda names: {"env": [{"name": name, "value": ""} for name in names]},
    "ports of one number, each with another of the node": lambda names: {
        "ports": [{"containerPort": 1, "hostPort": index + 1} for index, _ in enumerate(names)]
    },
    "ports of one number": lambda names: {"ports": [{"containerPort": 1} for _ in names]},
    "mounts": lambda names: {"volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in names]},
}


@pytest.mark.parametrize("what", LONG)
def test_a_list_of_any_length_costs_in_proportion(world: World, namespace: str, what: str) -> None:
    """Four times as many entries may take eight times the CPU time of server and client, and not sixteen times."""
    took = []
    for count in (2_000, 8_000):
        body = pod("p", namespace)
        body["spec"]["containers"][0] |= LONG[what]([f"x{index}" for index in range(count)])
        began = time.process_time()
        with contextlib.suppress(ApiError):
            world.cluster.create(body)
        took.append(time.process_time() - began)
        with contextlib.suppress(ApiError):
            world.cluster.delete("Pod", "p", namespace)
    assert took[1] < 8 * took[0] + 0.5, took


def test_a_body_over_three_megabytes_is_refused(world: World, namespace: str) -> None:
    body = json.dumps(config_map("big", namespace, a="x" * (4 << 20))).encode()
    response = world.cluster._pool.request("POST", f"{world.url}/api/v1/namespaces/{namespace}/configmaps", body=body)
    assert response.status == 413


def test_a_text_that_unfolds_is_refused(world: World, namespace: str) -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    response = world.cluster._pool.request(
        "POST",
        f"{world.url}/api/v1/namespaces/{namespace}/configmaps",
        body=bomb,
        headers={"Content-Type": "application/yaml"},
    )
    assert response.status == 400
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    assert (
        world.cluster._pool.request("POST", f"{world.url}/api/v1/namespaces/{namespace}/configmaps", body=deep).status
        == 400
    )
