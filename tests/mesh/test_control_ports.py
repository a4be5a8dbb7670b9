"""A tenant under test turns no knob of its own verdict: whoever has not the token of the pod's namespace is refused."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from chaos.cluster.providers import open_cluster
from chaos.control_key import HEADER, VARIABLE, ControlKey, Gate
from chaos.errors import Forbidden, Misuse
from chaos.external.description import LoaderRule
from chaos.external.loaders import plan_loader
from chaos.kube.client import Cluster
from chaos.kube.control_key import opened_http, read_key, stored_key
from chaos.load.client import LoaderClient, ServerClient
from chaos.mesh import manifests
from chaos.mesh.controlplane.status import start_status
from chaos.mesh.inject import pod_template, told_digests
from chaos.mesh.install import Mesh
from chaos.names import CONTROL_SECRET, PORT_AGENT, PORT_CONTROL, PORT_XDS_STATUS, SYSTEM_NAMESPACE
from tests.load.programs import KEY, Programs, programs

__all__ = ["programs"]

TOKEN = KEY.token("tenant-a")
KNOBS = {
    "loader": ("/state", "/samples", "/samples?from=0", "/flows", "/stop", "/aggressor", "/nothing"),
    "server": ("/stats", "/misbehave", "/nothing"),
    "control plane": ("/debug", "/debug?x=1", "/nothing"),
}
OPEN = {"loader": ("/healthz",), "server": ("/healthz", "/sentinel"), "control plane": ("/healthz", "/readyz")}
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "get", "X")
# The path as others write it: whoever cuts it otherwise than the one that answers opens a door.
SPELLED = (
    "{}",
    "{}?healthz",
    "{}#/healthz",
    "http://x{}",
    "//healthz{}",
    "/healthz/..{}",
    "/healthz{}",
    "/healthz%2f..{}",
)
# fmt: off
HEADERS = (
    "",
    f"{HEADER}: ",
    f"{HEADER}: {KEY.token('tenant-b')}",  # another namespace's
    f"{HEADER}: {KEY.digest('tenant-a')}",  # what its pods hold
    f"{HEADER}: {TOKEN[:-1]}",
    f"{HEADER}: {TOKEN}, x",
    f"{HEADER}: Bearer {TOKEN}",
    f"{HEADER}: {TOKEN.upper()}",
    f"{HEADER}: \xff\xfe",
    f"{HEADER}:\r\nauthorization: Bearer {TOKEN}",
    f"x-sharedfate_token: {TOKEN}",
    f"x{HEADER}: {TOKEN}",
    "x-forwarded-for: 127.0.0.1",
    "host: 127.0.0.1",
)
TAKEN = (f"{HEADER}: {TOKEN}", f"{HEADER.upper()}: {TOKEN}", f"X-SharedFate-Token:{TOKEN}", f"{HEADER}:  {TOKEN} ")
# fmt: on


def exchange(port: int, text: str) -> tuple[int, bytes]:
    """What is answered to these bytes: (0, b"") for a connection that ends without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(text.encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer and (data := sock.recv(65_536)):
            answer += data
    found = re.match(rb"HTTP/1\.1 (\d+)", answer)
    return (int(found[1]), answer) if found else (0, b"")


def request(method: str, path: str, headers: str = "", body: str = "") -> str:
    lines = [f"{method} {path} HTTP/1.1", *([headers] if headers else []), f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", body])


@contextmanager
def serving(who: str, programs: Programs) -> Iterator[int]:
    """A port of theirs, told the digest of tenant a's token."""
    if who == "loader":
        yield programs.loader().control
    elif who == "server":
        yield programs.server().control
    else:
        with asyncio.Runner() as runner:
            pages: dict[str, Any] = {path: lambda: (200, {}) for path in ("/healthz", "/readyz", "/debug")}
            gate = Gate(KEY.digest("tenant-a"))
            server = runner.run(start_status(pages, host="127.0.0.1", port=0, gate=gate))
            loop = runner.get_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            try:
                yield server.sockets[0].getsockname()[1]
            finally:
                loop.call_soon_threadsafe(server.close)
                loop.call_soon_threadsafe(loop.stop)
                thread.join()


@pytest.mark.parametrize("who", KNOBS)
def test_no_knob_is_turned_without_the_token_in_any_language_of_request(who: str, programs: Programs) -> None:
    tried = [
        request(method, spelled.format(path), headers)
        for path in KNOBS[who]
        for method in METHODS
        for spelled in SPELLED
        for headers in ("", HEADERS[3])
    ]
    tried += [request("POST", path, headers, "[]") for path in KNOBS[who] for headers in HEADERS]
    tried += [request("POST", KNOBS[who][0], "", "x" * 100_000), request("POST", KNOBS[who][0], "", "x" * 5_000_000)]
    tried += [f"GET {path} HTTP/1.1\n{HEADER}: x\n\n\r\n\r\n" for path in KNOBS[who]]
    with serving(who, programs) as port:
        for text in tried:
            try:
                status, answer = exchange(port, text)
            except ConnectionError:  # it was hung up on before all was sent
                continue
            assert status in (0, 400, 403, 404), f"{text[:200]!r}: {answer[:300]!r}"
            assert status != 404 or "/healthz" in text.split(" ")[1] or who == "control plane", text[:200]
        for path in OPEN[who]:
            assert exchange(port, request("GET", path))[0] == 200
        for path in KNOBS[who]:
            for headers in TAKEN:
                expected = 404 if path == "/nothing" else 200
                assert exchange(port, request("GET", path, headers))[0] == expected, (path, headers)


def test_a_pod_that_was_told_no_digest_answers_probes_alone() -> None:
    gate = Gate("")
    assert not any(gate.admits(token) for token in (b"", b"x", TOKEN.encode(), b"\xff"))
    assert VARIABLE in gate.refusal


def test_a_key_and_what_pods_hold_of_it_say_nothing_of_a_token() -> None:
    key = ControlKey.new()
    seen = [repr(key), str(key), key.digest("a"), key.digest("b")]
    assert not any(secret in text for text in seen for secret in (key.token("a"), key.token("b"), key.secret.hex()))
    assert len({key.token("a"), key.token("b"), key.digest("a"), key.digest("b")}) == 4


def test_every_control_port_that_a_run_deploys_is_told_its_namespaces_digest_and_no_token() -> None:
    beside = {"spec": {"nodeName": "n", "containers": []}}
    loader = plan_loader("shop/front", "shop", beside, LoaderRule(), run="r")
    found = {}
    for obj in told_digests([*manifests.reference("n1", "n2"), loader], KEY):
        for container in (pod_template(obj) or {}).get("spec", {}).get("containers", []):
            env = {one["name"]: one.get("value") for one in container["env"]}
            found[obj["metadata"]["namespace"], container["name"]] = env[VARIABLE]
        assert not any(KEY.token(f"tenant-{name}") in json.dumps(obj) for name in "abc")
    assert len(found) == 7
    assert found["shop", "client"] == KEY.digest("shop")
    assert found["tenant-a", "client"] == found["tenant-a", "server"] != found["tenant-b", "server"]
    assert len(set(found.values())) == 4


# ---- live

PROBE = """
import http.client, itertools, json, sys
answers = []
for host, port, path in json.loads(sys.argv[1]):
    for method, headers in itertools.product(("GET", "POST", "PUT"), json.loads(sys.argv[2])):
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request(method, path, body=b"[]" if method != "GET" else None, headers=headers)
            answers.append((port, path, method, connection.getresponse().status))
        finally:
            connection.close()
print(json.dumps(answers))
"""


@pytest.mark.privileged
def test_a_tenants_pods_reach_no_knob_of_anybodys_and_the_runner_reaches_all() -> None:
    with open_cluster("embedded", name="control-ports", nodes=2) as cluster:
        first, second = sorted(node["metadata"]["name"] for node in cluster.list("Node"))
        mesh = Mesh(cluster, "node", run="ports")
        mesh.start(
            [obj for name in "ab" for obj in manifests.tenant(name, client_nodes=[first], server_nodes=[second])]
        )
        key = read_key(cluster)
        assert key is not None
        pods = {(p["metadata"]["namespace"], p["metadata"]["labels"]["app"]): p for p in cluster.list("Pod")}
        client = pods["tenant-a", "client"]
        own = json.dumps(client["spec"]) + cluster.exec("tenant-a", client["metadata"]["name"], ["env"]).stdout
        assert key.digest("tenant-a") in own
        assert not any(key.token(name) in own for name in ("tenant-a", "tenant-b", SYSTEM_NAMESPACE))

        def address(namespace: str, app: str) -> str:
            return str(pods[namespace, app]["status"]["podIP"])

        targets = [(address(f"tenant-{t}", "client"), PORT_CONTROL, p) for t in "ab" for p in KNOBS["loader"]]
        targets += [(address(f"tenant-{t}", "server"), PORT_CONTROL, p) for t in "ab" for p in KNOBS["server"]]
        targets += [(address(SYSTEM_NAMESPACE, "control-plane"), PORT_XDS_STATUS, p) for p in KNOBS["control plane"]]
        headers = [{}, {HEADER: key.digest("tenant-a")}, {HEADER.upper(): key.digest("tenant-b")}]
        agent = address(SYSTEM_NAMESPACE, "node-proxy")
        for role in ("client", "server"):
            name = pods["tenant-a", role]["metadata"]["name"]
            command = [
                "python",
                "-c",
                PROBE,
                json.dumps([*targets, (agent, PORT_AGENT, "/debug")]),
                json.dumps(headers),
            ]
            done = cluster.exec("tenant-a", name, command, container=role)
            answers = json.loads(done.stdout)
            assert len(answers) == 9 * (len(targets) + 1)
            assert {status for port, *_, status in answers if port != PORT_AGENT} == {403}
            assert {status for port, *_, status in answers if port == PORT_AGENT} <= {404, 501}

        for tenant in ("tenant-a", "tenant-b"):
            assert LoaderClient.of(cluster, tenant, pods[tenant, "client"]["metadata"]["name"]).state()["epoch"]
            assert "pod" in ServerClient.of(cluster, tenant, pods[tenant, "server"]["metadata"]["name"]).stats()
        assert mesh.control_plane()["proxies"]

        # a pod that is sent the token of its own namespace opens no other's
        with pytest.raises(Forbidden, match="token"):
            cluster.pod_http(
                "tenant-b",
                pods["tenant-b", "client"]["metadata"]["name"],
                PORT_CONTROL,
                "/state",
                headers={HEADER: key.token("tenant-a")},
            )
        for account in ("client", "server"):
            assert not cluster_may(cluster, f"system:serviceaccount:tenant-a:{account}")

        # another key: what it opens is other pods, not these
        cluster.delete("Secret", CONTROL_SECRET, SYSTEM_NAMESPACE)
        other = stored_key(cluster, run="ports")
        assert other != key
        with pytest.raises(Forbidden, match="token"):
            opened_http(cluster, "tenant-b", pods["tenant-b", "client"]["metadata"]["name"], PORT_CONTROL, "/state")
        text = "".join(
            cluster.logs(p["metadata"]["namespace"], p["metadata"]["name"], container=c["name"])
            for p in pods.values()
            for c in p["spec"]["containers"]
        )
        assert not any(key.token(name) in text for name in ("tenant-a", "tenant-b", SYSTEM_NAMESPACE))


def cluster_may(cluster: Cluster, user: str) -> bool:
    """Whether that account may read Secrets of its own or of our namespace."""
    answers = [
        cluster.request(
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user,
                    "groups": ["system:serviceaccounts", "system:serviceaccounts:tenant-a", "system:authenticated"],
                    "resourceAttributes": {"verb": verb, "resource": "secrets", "namespace": namespace},
                },
            },
        )["status"]["allowed"]
        for verb in ("get", "list", "watch")
        for namespace in ("tenant-a", SYSTEM_NAMESPACE)
    ]
    return any(answers)


def test_a_secret_that_holds_no_key_is_said_and_not_believed() -> None:
    class Holding:
        """A cluster with one Secret."""

        def __init__(self, data: Any) -> None:
            self.data = data

        def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
            return {"data": self.data}

    for data in ({}, None, {"key": "%"}, {"key": 5}):
        with pytest.raises(Misuse, match=CONTROL_SECRET):
            read_key(cast(Cluster, Holding(data)))
