"""Stock kubectl, and the official clients, against a whole embedded cluster: what people type works unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded import provider
from chaos.names import IMAGE
from tests.embedded.api.conftest import kubectl

pytestmark = pytest.mark.privileged
NAME = f"kubectl-{os.getpid()}"
SERVE = (
    "import http.server; "
    "http.server.ThreadingHTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
)
WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {IMAGE}
        workingDir: /etc
        command: [python, -u, -c, "{SERVE}"]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
"""

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def config() -> Iterator[Path]:
    try:
        yield provider.up(NAME, nodes=2)
    finally:
        provider.down(NAME)


def run(config: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    cache = str(config.parent / "kubectl-cache")
    command = [kubectl(), "--kubeconfig", str(config), "--cache-dir", cache, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def k(config: Path) -> Kubectl:
    def call(*arguments: str, stdin: str | None = None) -> str:
        done = run(config, *arguments, stdin=stdin)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    return call


@pytest.fixture(scope="module")
def web(k: Kubectl) -> str:
    """A Deployment behind a Service, ready; name of one of its pods."""
    assert k("apply", "-f", "-", stdin=WEB) == "deployment.apps/web created\nservice/web created\n"
    k("rollout", "status", "deployment/web", "--timeout=30s")
    return k("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")


def ready_pod(k: Kubectl) -> str:
    """A pod of the Deployment that is ready and stays."""
    k("rollout", "status", "deployment/web", "--timeout=30s")
    pods = json.loads(k("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    return next(
        str(one["metadata"]["name"])
        for one in pods
        if "deletionTimestamp" not in one["metadata"]
        and any(
            condition["type"] == "Ready" and condition["status"] == "True" for condition in one["status"]["conditions"]
        )
    )


def test_get_prints_kubernetes_columns(k: Kubectl, web: str) -> None:
    assert k("get", "nodes").splitlines()[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    rows = k("get", "pods", "-l", "app=web", "-o", "wide").splitlines()
    assert rows[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert all(row.split()[1:4] == ["1/1", "Running", "0"] for row in rows[1:])
    assert re.search(r"^deployment.apps/web +2/2 +2 +2 ", k("get", "all"), re.MULTILINE)
    assert k("get", "po,svc", "-A", "--no-headers")
    assert len(json.loads(k("get", "deploy", "web", "-o", "json"))["status"]["conditions"]) == 2
    assert k("get", "pods", "-o", "custom-columns=N:.metadata.name", "--sort-by=.metadata.name")


def test_describe_tells_about_pods_nodes_and_services(k: Kubectl, web: str) -> None:
    text = k("describe", "pod", web)
    assert "Started" in text
    assert re.search(r"Ready +True", text)
    assert "Allocated resources" in k("describe", "node", "node-1")
    assert re.search(r"Endpoints: +10\.244\.\d+\.\d+:8080,", k("describe", "svc", "web"))
    assert "NewReplicaSet" in k("describe", "deploy", "web")


def test_applying_again_merges_and_changes_only_what_differs(k: Kubectl, web: str) -> None:
    assert k("apply", "-f", "-", stdin=WEB) == "deployment.apps/web unchanged\nservice/web unchanged\n"
    changed = WEB.replace("name: web, labels: {app: web}", "name: web, labels: {app: web, colour: red}", 1)
    assert k("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\nservice/web unchanged\n"
    k("apply", "-f", "-", stdin=WEB)
    assert json.loads(k("get", "deploy", "web", "-o", "json"))["metadata"]["labels"] == {"app": "web"}


def test_an_unknown_field_is_refused_by_the_server(config: Path, web: str) -> None:
    done = run(config, "apply", "-f", "-", stdin=WEB.replace("replicas: 2", "replicaz: 2"))
    assert done.returncode == 1
    assert 'unknown field "spec.replicaz"' in done.stderr


def test_server_side_apply_owns_its_fields_and_tells_conflicts(config: Path, k: Kubectl) -> None:
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {a: '1', b: '2'}\n"
    assert "serverside-applied" in k("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=body)
    k("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=body.replace(", b: '2'", ""))
    assert json.loads(k("get", "cm", "ssa", "-o", "json"))["data"] == {"a": "1"}
    done = run(config, "apply", "--server-side", "--field-manager=two", "-f", "-", stdin=body.replace("'1'", "'9'"))
    assert done.returncode == 1
    assert 'conflict with "one": .data.a' in done.stderr
    k("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=body.replace("'1'", "'9'"))
    assert json.loads(k("get", "cm", "ssa", "-o", "json"))["data"] == {"a": "9", "b": "2"}


def test_diff_shows_what_an_apply_would_do(config: Path, web: str) -> None:
    done = run(config, "diff", "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: 3"))
    assert done.returncode == 1, done.stderr
    assert "+  replicas: 3" in done.stdout


def test_logs_exec_and_cp_reach_the_container(config: Path, k: Kubectl, web: str, tmp_path: Path) -> None:
    assert k("exec", web, "--", "sh", "-c", "echo out; echo err >&2") == "out\n"
    assert k("exec", "-i", web, "--", "cat", stdin="through standard input\n") == "through standard input\n"
    assert run(config, "exec", web, "--", "sh", "-c", "exit 7").returncode == 7
    (tmp_path / "file").write_text("carried\n")
    k("cp", str(tmp_path / "file"), f"{web}:/tmp/carried")
    assert k("exec", web, "--", "cat", "/tmp/carried") == "carried\n"
    k("cp", f"{web}:/tmp/carried", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "carried\n"
    talk = "for i in 1 2 3; do echo line $i; done"
    k("run", "talker", f"--image={IMAGE}", "--restart=Never", "--command", "--", "sh", "-c", talk)
    k("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/talker", "--timeout=20s")
    assert k("logs", "-f", "talker") == "line 1\nline 2\nline 3\n"
    assert k("logs", "talker", "--tail=1", "--timestamps").split()[1:] == ["line", "3"]


def test_a_terminal_is_a_terminal(config: Path, web: str) -> None:
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [kubectl(), "--kubeconfig", str(config), "exec", "-it", web, "--", "sh", "-c", "tty; stty size"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    assert process.wait(20) == 0
    with contextlib.closing(os.fdopen(master, "rb", buffering=0)) as terminal:
        assert b"/dev/pts/" in terminal.read(4096)


def test_port_forward_carries_http(config: Path, web: str) -> None:
    with subprocess.Popen(
        [kubectl(), "--kubeconfig", str(config), "port-forward", f"pod/{web}", ":8080"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"127.0.0.1:(\d+) -> 8080", line)
            assert match, line
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/hostname", timeout=10) as answer:
                    assert answer.read().decode().strip() == web
        finally:
            process.terminate()


def test_rollouts_scale_restart_and_undo(k: Kubectl, web: str) -> None:
    k("scale", "deployment/web", "--replicas=1")
    k("rollout", "status", "deployment/web", "--timeout=30s")
    before = k("get", "pods", "-l", "app=web", "-o", "name")
    k("rollout", "restart", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=30s")
    assert k("rollout", "history", "deployment/web").count("\n") >= 4
    k("rollout", "undo", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=30s")
    assert k("get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name") != before
    k("scale", "deployment/web", "--replicas=2")


def test_label_annotate_patch_set_and_edit_forms(k: Kubectl, web: str) -> None:
    k("label", "deployment/web", "tier=front")
    k("annotate", "deployment/web", "note=hello")
    k("patch", "deployment/web", "-p", '{"metadata":{"labels":{"tier":"back"}}}')
    k("patch", "deployment/web", "--type=json", "-p", '[{"op":"remove","path":"/metadata/annotations/note"}]')
    meta = json.loads(k("get", "deploy", "web", "-o", "json"))["metadata"]
    assert meta["labels"]["tier"] == "back"
    assert "note" not in meta["annotations"]


def test_create_forms_make_their_objects(k: Kubectl) -> None:
    k("create", "namespace", "made")
    k("create", "configmap", "c", "-n", "made", "--from-literal=a=b")
    k("create", "secret", "generic", "s", "-n", "made", "--from-literal=p=q")
    k("create", "serviceaccount", "robot", "-n", "made")
    k("create", "role", "r", "-n", "made", "--verb=get", "--resource=pods")
    k("create", "rolebinding", "rb", "-n", "made", "--role=r", "--serviceaccount=made:robot")
    assert k("auth", "can-i", "get", "pods", "-n", "made", "--as=system:serviceaccount:made:robot").strip() == "yes"
    assert k("create", "token", "robot", "-n", "made").count(".") == 2
    assert "pods" in k("auth", "can-i", "--list", "-n", "made", "--as=system:serviceaccount:made:robot")
    assert "kubernetes-admin" in k("auth", "whoami")
    k("create", "cronjob", "cj", "-n", "made", f"--image={IMAGE}", "--schedule=0 0 1 1 *", "--", "true")
    k("create", "job", "once", "-n", "made", "--from=cronjob/cj")
    k("wait", "--for=condition=complete", "job/once", "-n", "made", "--timeout=30s")
    k("delete", "namespace", "made", "--timeout=30s")


def test_explain_and_api_resources_read_what_is_published(k: Kubectl) -> None:
    assert "maxUnavailable" in k("explain", "deployment.spec.strategy.rollingUpdate")
    listed = k("api-resources", "--no-headers")
    assert re.search(r"^pods +po +v1 +true +Pod$", listed, re.MULTILINE)
    assert "v1.36" in k("version")


def test_cordon_and_drain_move_pods_away(k: Kubectl, web: str) -> None:
    k("cordon", "node-2")
    assert "SchedulingDisabled" in k("get", "node", "node-2")
    k("drain", "node-2", "--ignore-daemonsets", "--force", "--timeout=30s")
    deadline = time.monotonic() + 20
    while "node-2" in (left := k("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}")):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    k("uncordon", "node-2")
    k("rollout", "status", "deployment/web", "--timeout=30s")


def test_top_tells_use_of_pods_and_nodes(config: Path, k: Kubectl, web: str) -> None:
    deadline = time.monotonic() + 30
    while (done := run(config, "top", "pods", "--no-headers")).returncode or "web-" not in done.stdout:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)
    assert re.search(r"web-\S+ +\d+m +\d+Mi", done.stdout)
    assert re.search(r"node-1 +\d+m +\d+% +\d+Mi", k("top", "nodes", "--no-headers"))


def test_events_are_listed_and_selected(k: Kubectl, web: str) -> None:
    pod = k("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
    assert "Started" in k("events", "--for", f"pod/{pod}")
    assert "ScalingReplicaSet" in k("get", "events", "--field-selector=reason=ScalingReplicaSet")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client leaves sockets to the collector
def test_the_official_client_watches_execs_and_forwards(config: Path, web: str) -> None:
    from kubernetes import client, watch
    from kubernetes import config as loader
    from kubernetes.stream import portforward, stream

    configuration = client.Configuration()
    loader.load_kube_config(str(config), client_configuration=configuration)
    with client.ApiClient(configuration) as api:
        core = client.CoreV1Api(api)
        pod = core.list_namespaced_pod("default", label_selector="app=web").items[0].metadata.name
        made: list[str] = []
        core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="seen")))
        for event in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=20):
            made.append(event["object"].metadata.name)
            if "seen" in made:
                break
        assert "seen" in made
        told = stream(
            core.connect_get_namespaced_pod_exec, pod, "default", command=["cat", "/etc/hostname"], stdout=True
        )
        assert told.strip() == pod
    with client.ApiClient(configuration) as api:
        forward = portforward(
            client.CoreV1Api(api).connect_get_namespaced_pod_portforward, pod, "default", ports="8080"
        )
        tunnel: socket.socket = forward.socket(8080)
        tunnel.settimeout(10)
        tunnel.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := tunnel.recv(4096):
            answer += chunk
        assert pod.encode() in answer
        tunnel.close()
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
def test_the_asynchronous_client_lists_and_watches(config: Path, web: str) -> None:
    from kubernetes_asyncio import client, watch
    from kubernetes_asyncio import config as loader

    async def main() -> tuple[int, Any]:
        await loader.load_kube_config(str(config))
        async with client.ApiClient() as api:
            core = client.CoreV1Api(api)
            count = len((await core.list_namespaced_pod("default", label_selector="app=web")).items)
            async with watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=20) as events:
                async for event in events:
                    return count, event["type"]
        return count, None

    count, first = asyncio.run(main())
    assert count >= 2  # one that was replaced may still be ending
    assert first == "ADDED"
    gc.collect()


CHAOS_TOOLKIT = """
from chaosk8s.deployment.actions import scale_deployment
from chaosk8s.deployment.probes import deployment_fully_available
from chaosk8s.node.actions import cordon_node, uncordon_node
from chaosk8s.pod.actions import exec_in_pods, terminate_pods
from chaosk8s.pod.probes import count_pods, pods_in_phase

assert pods_in_phase("app=web", phase="Running", ns="default")
told = exec_in_pods(cmd="echo hi", label_selector="app=web", ns="default", qty=1, container_name="web")
assert [(one["exit_code"], one["stdout"].strip()) for one in told] == [(0, "hi")], told
terminate_pods(label_selector="app=web", ns="default", qty=1, grace_period=0)
assert deployment_fully_available("web", ns="default", timeout=60)
scale_deployment("web", 3, ns="default")
assert deployment_fully_available("web", ns="default", timeout=60)
assert count_pods("app=web", ns="default") == 3
scale_deployment("web", 2, ns="default")
cordon_node(name="node-2")
uncordon_node(name="node-2")
"""


def test_chaos_toolkits_kubernetes_extension_works_unchanged(config: Path, web: str) -> None:
    environment = {**os.environ, "KUBECONFIG": str(config)}
    command = [sys.executable, "-c", CHAOS_TOOLKIT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_pods_reach_the_api_server_with_their_token(k: Kubectl, web: str) -> None:
    script = (
        "import json, ssl, urllib.request as u; d = '/var/run/secrets/kubernetes.io/serviceaccount/'; "
        "c = ssl.create_default_context(cafile=d + 'ca.crt'); "
        "h = {'Authorization': 'Bearer ' + open(d + 'token').read()}; "
        "r = u.Request('https://kubernetes.default.svc/apis', headers=h); "
        "print(json.load(u.urlopen(r, context=c))['kind'])"
    )
    pod = ready_pod(k)
    assert k("exec", pod, "--", "python", "-c", script) == "APIGroupList\n"


def test_the_proxy_reaches_pods_and_services(k: Kubectl, web: str) -> None:
    pod = ready_pod(k)
    assert k("get", "--raw", f"/api/v1/namespaces/default/pods/{pod}:8080/proxy/hostname").strip() == pod
    assert k("get", "--raw", "/api/v1/namespaces/default/services/web:80/proxy/hostname").strip().startswith("web-")
