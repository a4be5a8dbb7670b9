"""Calls of one's own applications, live: every protocol that a target file can say, and what a load that does not
become healthy says of each cause that is planted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from chaos.cluster.consent import Consent
from chaos.cluster.providers import open_cluster
from chaos.engine.deployment import Deployment
from chaos.engine.external import external_deployment
from chaos.engine.progress import Silent
from chaos.engine.settings import Settings
from chaos.errors import EnvironmentUnfit, NotReady
from chaos.external.file import parse_target
from chaos.kube.applying import apply_all, is_ready
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.ca import Authority
from chaos.mesh.policy import policy_config_map
from chaos.mesh.snapshot import Rule
from chaos.names import LABEL_POLICY
from tests.external import odd_servers as odd
from tests.stranger import foreign_mesh as foreign

pytestmark = pytest.mark.privileged

Object = dict[str, Any]
HERE, THERE = "node-1", "node-2"
GRPC: Final[Object] = {"protocol": "grpc", "path": "/their.Service/Call"}


@contextmanager
def loaded(
    cluster: Cluster, calls: list[Object], mesh: Any = "none", spaces: tuple[str, ...] = ("shop",)
) -> Iterator[Deployment]:
    """A target of one tenant, `shop`, under its load; taken away again."""
    document = {"version": 1, "tenants": [{"name": "shop", "namespaces": list(spaces)}], "mesh": mesh, "calls": calls}
    target = parse_target(document, source="test")
    settings = Settings(consent=Consent(namespaces=(*spaces, f"{foreign.NAME}-system")))
    deployment = external_deployment(cluster, target, run="calls", settings=settings, progress=Silent())
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


def call(client: str, server: str, /, **said: Any) -> Object:
    ends = {"client": f"shop/{client}", "server": f"shop/{server}", "reach": f"{server}.shop:80"}
    return {**ends, "rate": 40, **said}


def await_ready(cluster: Cluster, objects: list[Object], seconds: float = 60) -> None:
    names = [
        (one["kind"], one["metadata"]["name"], one["metadata"]["namespace"])
        for one in objects
        if one["kind"] in ("Deployment", "DaemonSet")
    ]
    cluster.wait("servers", lambda: all(is_ready(cluster.get(*one)) for one in names), seconds=seconds)


def reference(name: str = "web") -> list[Object]:
    """The reference server as an application of somebody else's: a Deployment and its Service with both ports."""
    kept = []
    for obj in manifests.tenant("x", client_nodes=[HERE], server_nodes=[THERE], servers=1):
        if obj["metadata"]["name"] != "server" or obj["kind"] not in ("Deployment", "Service"):
            continue
        obj["metadata"] = {"name": name, "namespace": "shop"}
        if obj["kind"] == "Service":
            obj["spec"]["selector"] = {"app": name}
        else:
            obj["spec"]["selector"] = {"matchLabels": {"app": name}}
            obj["spec"]["template"]["metadata"] = {"labels": {"app": name}}
            obj["spec"]["template"]["spec"].pop("serviceAccountName")
            obj["spec"]["template"]["spec"].pop("topologySpreadConstraints")
        kept.append(obj)
    return kept


SPACE: Final[Object] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def sentences(deployment: Deployment, servers: list[str]) -> dict[str, str]:
    """What is said of each server's flow that does not become healthy; all of them are waited for at once."""
    said: dict[str, str] = {}

    def look(tenant: Any) -> None:
        try:
            deployment.restore_load([tenant])
            said[tenant.server] = "healthy"
        except NotReady as error:
            said[tenant.server] = str(error)

    wanted = [tenant for tenant in deployment.tenants if tenant.server.partition("/")[2] in servers]
    threads = [threading.Thread(target=look, args=(tenant,)) for tenant in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {key.partition("/")[2]: text for key, text in said.items()}


def test_every_protocol_that_a_call_can_say_is_answered_by_a_server_that_speaks_it(tmp_path: Path) -> None:
    authority = Authority.new()
    issued = authority.issue_server("vault.shop", seconds=3600)
    pair = (issued.certificate + issued.key).decode()
    clients = ["http", "posting", "closed", "http2", "grpc", "tcp", "kept", "handshake", "tls", "anybody"]
    objects = [
        SPACE,
        *reference(),
        *odd.deployment("pong", "shop", node=THERE, KIND="pong"),
        *odd.deployment("vault", "shop", node=THERE, KIND="pong", PAIR=pair),
        *odd.deployment("shut", "shop", node=THERE, KIND="503"),
        *(one for name in clients for one in odd.client(name, "shop", node=HERE)),
    ]
    ping: Object = {"send": "PING\r\n", "answer": 7}
    calls = [
        call("http", "web", headers={"x-mine": "yes"}, path="/headers"),
        call("posting", "web", method="PUT", **{"body-bytes": 1000}),
        call("closed", "shut", status=503, path="/"),
        call("http2", "web", protocol="http2"),
        call("grpc", "web", **GRPC, **{"body-bytes": 20}),
        call("tcp", "pong", protocol="tcp", **ping),
        call("kept", "pong", protocol="tcp", **ping, keep=True),
        call("handshake", "vault", protocol="tls", ca=authority.root_pem.decode()),
        call("tls", "vault", protocol="tls", ca=authority.root_pem.decode(), **ping, keep=True),
        call("anybody", "vault", protocol="tls", insecure=True, **ping),
    ]
    with open_cluster("embedded", nodes=2, name="calls-test") as cluster:
        apply_all(cluster, objects)
        await_ready(cluster, objects)
        with loaded(cluster, calls) as deployment:
            assert deployment.restore_load() == []
            counts = {tenant.client: deployment._counters(tenant) for tenant in deployment.tenants}
    for client, seen in counts.items():
        assert seen["ok"] > 10, (client, seen)
        assert seen["ok"] >= 0.95 * seen["done"], (client, seen)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that will never be healthy is given up sooner: what is said of it is told by the first requests."""
    monkeypatch.setattr("chaos.engine.deployment.RESTORE_SECONDS", 6.0)


@pytest.mark.usefixtures("impatient")
def test_a_load_that_is_stuck_says_how_its_requests_ended_and_the_cause_that_was_planted() -> None:
    causes: dict[str, tuple[Object, str]] = {
        "closed": ({"reach": "closed.shop:81"}, "refused.*nothing listens there"),
        "silent": ({}, "timeout.*no answer in time: .*protocol detection that waits for a client whose server speaks"),
        "resets": ({}, "reset.*the other side closed it: mutual TLS is demanded .*opaque ports, protocol detection"),
        "unavailable": ({}, "status 503.*no header of a proxy is in that answer: the application itself"),
        "nowhere": ({"reach": "elsewhere.shop:80"}, "dns.*is `reach` right"),
        "plain": ({"protocol": "tls", "insecure": True}, "tls.*it speaks no TLS there: are `ca`, `sni` and the port"),
        "waiting": (
            {"protocol": "tls", "insecure": True},
            "connect timeout.*over TLS, a server that speaks none there",
        ),
        "short": ({"protocol": "tcp", "send": "PING\r\n", "answer": 3}, "wrong body.*more bytes than was said"),
        "barred": ({}, "connect timeout.*packets are dropped on the way: a NetworkPolicy, or a policy of the mesh"),
    }
    kinds = {
        "resets": "resets",
        "unavailable": "503",
        "plain": "503",
        "waiting": "silent",
        "short": "pong",
        "silent": "silent",
    }
    objects = [SPACE]
    for name in causes:
        objects += odd.deployment(name, "shop", node=THERE, KIND=kinds.get(name, "pong"))
        objects += odd.client(f"to-{name}", "shop", node=HERE)
    closed = next(one for one in objects if one["kind"] == "Service" and one["metadata"]["name"] == "closed")
    closed["spec"]["ports"].append({"name": "shut", "port": 81, "targetPort": 7999})
    calls = [call(f"to-{name}", name, **said) for name, (said, _) in causes.items()]
    with open_cluster("embedded", nodes=2, name="stuck-test") as cluster:
        apply_all(cluster, objects)
        await_ready(cluster, objects)
        with loaded(cluster, calls) as deployment:
            apply_all(cluster, [denial("barred")])  # before the load it would be named, and the run refused
            said = sentences(deployment, list(causes))
    assert wrong(causes, said) == {}


def wrong(causes: dict[str, tuple[Object, str]], said: dict[str, str]) -> dict[str, str]:
    """What is said of those causes that are not named as they should be."""
    for name, text in said.items():
        print(f"{name}: {text}")
    return {name: said[name] for name, (_, words) in causes.items() if not re.search(words, said[name])}


def denial(app: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"no-{app}", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"]},
    }


def rendered(objects: list[Object], folder: Path) -> list[Object]:
    """With the foreign mesh, in mode node."""
    file = folder / "apps.yaml"
    file.write_text(manifests.dump(objects))
    words = [sys.executable, "-m", "chaos.cli", "render", "--mode", "node", "-f", str(file)]
    environment = {**os.environ, "SHAREDFATE_NAME": foreign.NAME}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return manifests.parse(done.stdout, source="rendered")


@pytest.mark.usefixtures("impatient")
def test_behind_a_mesh_its_proxies_answers_are_told_from_the_applications_and_each_cause_is_named(
    tmp_path: Path,
) -> None:
    causes: dict[str, tuple[Object, str]] = {
        "unready": ({}, "status 503.*a proxy has no endpoint for it.*a proxy of the mesh made that answer"),
        "outside": ({}, "status 503.*or not enrolled as its callers take it.*a proxy of the mesh made that answer"),
        "denied": ({}, "status 403.*a policy of the mesh denies it.*a proxy of the mesh made that answer"),
        "greeter": ({"protocol": "tcp", "answer": "any"}, "timeout.*protocol detection that waits for a client whose"),
    }
    objects = [SPACE, {**SPACE, "metadata": {"name": "vault"}}]
    bare: list[Object] = []
    for name in causes:
        space = "vault" if name == "denied" else "shop"
        kind = "greets" if name == "greeter" else "503"
        made = odd.deployment(name, space, node=THERE, KIND=kind)
        made[1]["spec"]["ports"][0] |= {"name": "http", "appProtocol": "http"}
        if name == "unready":
            (container,) = made[0]["spec"]["template"]["spec"]["containers"]
            container["readinessProbe"] = {"exec": {"command": ["false"]}, "periodSeconds": 1}
        (bare if name == "outside" else objects).extend(made)
        objects += odd.client(f"to-{name}", "shop", node=HERE)
    policy = policy_config_map("vault", "only", [Rule(paths=("/only",))], run="calls")
    policy["metadata"]["labels"] = {LABEL_POLICY.replace("sharedfate", foreign.NAME): "enabled"}
    calls = []
    for name, (said, _) in causes.items():
        one = call(f"to-{name}", name, **said)
        if name == "denied":
            one |= {"server": "vault/denied", "reach": "denied.vault:80"}
        calls.append(one)
    looks = {**foreign.LOOKS["node"], "loader": {"copied": [f"{foreign.NAME}.io/*"]}}  # carried as its client is
    mesh = {"name": "theirs", "reply-headers": ["server: envoy", "x-envoy-"], **looks}
    with open_cluster("embedded", nodes=2, name="stuck-behind-test") as cluster:
        everything = rendered(objects, tmp_path)
        apply_all(cluster, [*everything, *bare, policy])
        unready = [one for one in everything if one["metadata"]["name"] != "unready"]
        await_ready(cluster, [*unready, *bare])
        with loaded(cluster, calls, mesh, spaces=("shop", "vault")) as deployment:
            said_of = sentences(deployment, list(causes))
    assert wrong(causes, said_of) == {}


def test_a_policy_that_stands_before_the_load_is_named_with_what_allows_it() -> None:
    objects = [SPACE, *odd.deployment("web", "shop", node=THERE, KIND="503"), *odd.client("app", "shop", node=HERE)]
    with open_cluster("embedded", nodes=2, name="cut-test") as cluster:
        apply_all(cluster, [*objects, denial("web")])
        await_ready(cluster, objects)
        words = "NetworkPolicy shop/no-web: shop/web takes nothing from shop/sharedfate-app"
        with pytest.raises(EnvironmentUnfit, match=words), loaded(cluster, [call("app", "web")]):
            pass
