"""Every mode, installed in an embedded cluster: real proxies, real traffic, and nothing left afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos.cluster.providers import open_cluster
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.model.fate import fate_group, identities_held
from chaos.model.modes import MODES, Balancing
from chaos.names import IMAGE, LABEL_RUN, SYSTEM_NAMESPACE, spiffe_id

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

LIFE = 9.0  # seconds of a certificate: renewed after six

CALLS = """
import collections, json, sys, time, urllib.request
seen = collections.Counter()
end = time.monotonic() + float(sys.argv[3])
for number in range(10**6):
    if number >= int(sys.argv[2]) and time.monotonic() >= end:
        break
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=3) as answer:
            seen[answer.headers["x-pod"]] += 1
    except OSError as error:
        seen[f"error {error}"] += 1
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster("embedded", name="mctl", nodes=2) as found:
        yield found


@pytest.fixture(scope="module", params=list(MODES))
def mesh(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Mesh]:
    found = Mesh(cluster, request.param, run=f"t-{request.param}", certificate_seconds=LIFE)
    try:
        found.start(manifests.reference(*sorted(n["metadata"]["name"] for n in cluster.list("Node"))))
        yield found
    finally:
        found.uninstall()
        assert cluster.list("Pod", labels=f"{LABEL_RUN}={found.run}") == []
        assert [
            n for n in cluster.list("Namespace") if n["metadata"]["name"].startswith(("tenant-", "sharedfate"))
        ] == []


def calls(mesh: Mesh, namespace: str, pod: str, url: str, count: int = 20, *, seconds: float = 0) -> Counter[str]:
    result = mesh.cluster.exec(
        namespace,
        pod,
        ["python", "-c", CALLS, url, str(count), str(seconds)],
        container="client" if pod.startswith("client") else None,
    )
    assert result.code == 0, result.stderr
    return Counter(json.loads(result.stdout))


def clients(mesh: Mesh) -> list[tuple[str, str]]:
    return [(p.namespace, p.name) for p in mesh.placement().pods if p.role == "client"]


def test_every_client_reaches_its_own_servers_and_no_call_fails(mesh: Mesh) -> None:
    placement = mesh.placement()
    for namespace, name in clients(mesh):
        servers = {p.name for p in placement.pods if p.role == "server" and p.namespace == namespace}
        seen = calls(mesh, namespace, name, "http://server/")
        assert set(seen) <= servers, seen
        if mesh.mode.balancing is Balancing.REQUEST:
            assert set(seen) == servers, seen


def test_plain_text_from_outside_the_mesh_is_refused(mesh: Mesh) -> None:
    server = next(p for p in mesh.placement().pods if p.role == "server")
    outsider = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "outsider", "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "outsider", "image": IMAGE, "command": ["sleep", "600"]}],
        },
    }
    mesh.cluster.apply(outsider)
    try:
        mesh.wait_ready([outsider], seconds=20)
        seen = calls(mesh, "default", "outsider", f"http://{server.ip}:8080/", 3)
        refused = all(key.startswith("error") for key in seen)
        assert refused == bool(mesh.mode.hops), seen
    finally:
        mesh.cluster.delete("Pod", "outsider", "default", grace=0)


def test_each_proxy_was_handed_exactly_the_identities_that_it_holds(mesh: Mesh) -> None:
    calls_made = [calls(mesh, namespace, name, "http://server/", 4) for namespace, name in clients(mesh)]
    assert calls_made
    log = mesh.control_plane()["identities"]
    placement = mesh.placement()
    for instance in placement.proxies:
        handed = {line["identity"] for line in log if line["proxy_uid"] == instance.uid and not line["refused"]}
        assert handed == {spiffe_id(*held) for held in identities_held(placement, instance)}
    assert [line for line in log if line["refused"]] == []


def test_every_ready_proxy_has_its_budget(mesh: Mesh) -> None:
    def limits() -> bool:
        wanted, found = [], []
        for instance in mesh.placement().proxies:
            pod = mesh.cluster.get("Pod", instance.pod, instance.namespace)
            spec = next(
                c
                for field in ("containers", "initContainers")
                for c in pod["spec"].get(field) or []
                if c["name"] == instance.container
            )
            wanted.append(f"{instance.cpu_millicores}m")
            found.append((spec["resources"].get("limits") or {}).get("cpu"))
        return wanted == found

    mesh.cluster.wait("budgets are set", limits, seconds=5)


def test_the_placebo_shares_fate_with_nobody(mesh: Mesh) -> None:
    placement = mesh.placement()
    groups = [fate_group(placement, instance) for instance in placement.proxies]
    assert groups
    assert any(groups) == bool(mesh.mode.hops)


def test_traffic_goes_on_while_the_control_plane_restarts_and_certificates_are_renewed(mesh: Mesh) -> None:
    namespace, client = clients(mesh)[1]
    calls(
        mesh, namespace, client, "http://server/", 4
    )  # running traffic: an identity's first use needs the control plane
    with ThreadPoolExecutor(1) as pool:
        traffic = pool.submit(calls, mesh, namespace, client, "http://server/", seconds=LIFE + 1)
        [old] = mesh.cluster.list("Pod", SYSTEM_NAMESPACE, labels="app=control-plane")
        mesh.cluster.delete("Pod", old["metadata"]["name"], SYSTEM_NAMESPACE)
        seen = traffic.result()
    assert not [key for key in seen if key.startswith("error")], seen
    if mesh.mode.hops:
        handed = mesh.control_plane()["identities"]
        per_proxy = Counter((line["proxy_uid"], line["identity"]) for line in handed)
        assert max(per_proxy.values()) > 1, "no certificate was renewed"


def test_a_namespace_that_is_not_ours_is_released_and_stays(cluster: Cluster) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    objects = [
        o
        for o in manifests.load(
            "apps/tenant.yaml",
            {
                "tenant": "shop",
                "client_nodes": ["node-1"],
                "server_nodes": ["node-1"],
                "client_replicas": 1,
                "server_replicas": 1,
                "client_cpu": 500,
                "server_cpu": 500,
            },
        )
        if o["kind"] != "Namespace"
    ]
    for obj in objects:
        obj["metadata"]["namespace"] = "shop"
    mesh = Mesh(cluster, "node", run="t-shop")
    try:
        mesh.start(objects)
        bare = mesh.cluster.list("Pod", "shop", labels="app=server")[0]
        # stands for a pod that outlives the mesh: it loses the owner and the label by which it would be deleted
        cluster.patch(
            "Pod",
            bare["metadata"]["name"],
            {
                "metadata": {
                    "ownerReferences": None,
                    "labels": {LABEL_RUN: None, "pod-template-hash": None, "app": "kept"},
                }
            },
            "shop",
        )
        mesh.uninstall()
        labels = cluster.get("Namespace", "shop")["metadata"].get("labels") or {}
        assert not [label for label in labels if label.startswith("sharedfate.io")]
        seen = Counter(
            json.loads(
                cluster.exec(
                    "shop",
                    bare["metadata"]["name"],
                    ["python", "-c", CALLS, f"http://{bare['status']['podIP']}:8080/", "3", "0"],
                ).stdout
            )
        )
        assert set(seen) == {bare["metadata"]["name"]}
        assert {
            o["kind"]
            for kind in ("Deployment", "Service", "ServiceAccount")
            for o in cluster.list(kind, "shop")
            if LABEL_RUN in (o["metadata"].get("labels") or {})
        } == set()
    finally:
        mesh.uninstall()
        cluster.delete("Namespace", "shop")


@pytest.mark.parametrize("mode", list(MODES))
def test_what_render_prints_is_a_working_mesh_by_kubectl_alone(cluster: Cluster, mode: str, tmp_path: Path) -> None:
    objects = manifests.tenant("k", client_nodes=["node-1"], server_nodes=["node-1", "node-2"])
    mesh = Mesh(cluster, mode, run="rendered")
    app, file = tmp_path / "app.yaml", tmp_path / "mesh.yaml"
    app.write_text(manifests.dump(objects))
    command = Path(sys.executable).with_name("sharedfate")
    file.write_text(
        subprocess.run(
            [command, "render", "--mode", mode, "-f", str(app)], capture_output=True, text=True, check=True
        ).stdout
    )
    kubectl = next(Path(sys.executable).parent.glob("kubectl*"))
    try:
        done = subprocess.run(
            [kubectl, "--kubeconfig", str(cluster.kubeconfig), "apply", "-f", str(file)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        mesh.wait_ready([*mesh.system_manifests(), *mesh.inject(objects)], seconds=60)
        cluster.wait("a proxy at every hop", mesh._is_whole, seconds=30)
        [(namespace, client)] = clients(mesh)
        assert not [key for key in calls(mesh, namespace, client, "http://server/") if key.startswith("error")]
        shown = subprocess.run(
            [command, "status", "--cluster", f"embedded:{cluster.name}"], capture_output=True, text=True, check=True
        )
        assert f"mode {mode}: {len(mesh.placement().proxies)} proxies, 3 application pods" in shown.stdout
        assert all(f"{proxy}  node {proxy.node}" in shown.stdout for proxy in mesh.placement().proxies)
        assert "have the newest configuration" in shown.stdout
    finally:
        mesh.uninstall()
