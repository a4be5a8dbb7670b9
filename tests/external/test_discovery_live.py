"""`sharedfate target --discover`, and what `target` says of the file that it wrote: on the reference mesh, and on one
that stands in for Istio. Well laid out tenants get no advice; each flaw that is planted gives one piece more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.kube.applying import apply_all, is_ready
from chaos.kube.client import Cluster
from chaos.kube.objects import is_live
from chaos.mesh import manifests
from tests.external.stand_in import WAYPOINTS, installed
from tests.stranger.clusters import command, embedded

pytestmark = pytest.mark.privileged

Object = dict[str, Any]
NODES = ("node-1", "node-2")
SPACES = ("tenant-a", "tenant-b")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with embedded() as client:
        yield client


def tenants() -> list[Object]:
    """Two, well laid out: two servers each, on two nodes, of which a drain leaves one."""
    found = []
    for name in ("a", "b"):
        found += manifests.tenant(name, client_nodes=NODES[:1], server_nodes=NODES)
        found.append(budget(f"tenant-{name}"))
    return found


def budget(namespace: str) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "server"}}},
    }


def rendered(mode: str, folder: Path) -> list[Object]:
    file = folder / "apps.yaml"
    file.write_text(manifests.dump(tenants()))
    words = [sys.executable, "-m", "chaos.cli", "render", "--mode", mode, "-f", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return manifests.parse(done.stdout, source="rendered")


def await_ready(cluster: Cluster, objects: list[Object]) -> None:
    workloads = [obj for obj in objects if obj["kind"] in ("Deployment", "DaemonSet")]

    def ready() -> bool:
        names = [(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"]) for obj in workloads]
        return all(is_ready(cluster.get(*name)) for name in names)

    cluster.wait("the tenants and their mesh", ready, seconds=120)


def discovered(cluster: Cluster, folder: Path) -> Path:
    """A target file, as it is written, and with the calls that are made."""
    file = folder / "target.yaml"
    done = command(
        "target", "--discover", "--namespaces", ",".join(SPACES), "--cluster", f"embedded:{cluster.name}", str(file)
    )
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(file.read_text())
    pairs = [(call["client"], call["server"], call["reach"]) for call in document["calls"]]
    assert pairs == [(f"{one}/client", f"{to}/server", f"server.{to}:80") for one in SPACES for to in SPACES]
    document["calls"] = [call for call in document["calls"] if call["client"][:8] == call["server"][:8]]
    file.write_text(yaml.safe_dump(document))
    return file


def described(cluster: Cluster, file: Path) -> tuple[str, list[str]]:
    """(all that `target` prints, the advice in it)."""
    done = command("target", str(file), "--cluster", f"embedded:{cluster.name}")
    assert done.returncode == 0, done.stderr
    assert "CONTRADICTS" not in done.stdout
    return done.stdout, [line.strip() for line in done.stdout.partition("\nadvice\n")[2].splitlines()]


def scale(cluster: Cluster, kind: str, name: str, namespace: str, replicas: int) -> None:
    cluster.patch(kind, name, {"spec": {"replicas": replicas}}, namespace)

    def done() -> bool:
        labels = cluster.get(kind, name, namespace)["spec"]["selector"]["matchLabels"]
        pods = cluster.list("Pod", namespace, labels=",".join(f"{key}={value}" for key, value in labels.items()))
        live = [pod for pod in pods if is_live(pod)]
        return len(live) == replicas and is_ready(cluster.get(kind, name, namespace))

    cluster.wait(f"{replicas} of {namespace}/{name}", done, seconds=60)


def placed(nodes: tuple[str, ...]) -> Object:
    """Where a Deployment's pods may run, and as many as like on one node."""
    terms = {"nodeSelectorTerms": manifests.name_terms(nodes)}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"spec": {"template": {"spec": {"affinity": affinity, "topologySpreadConstraints": None}}}}


def move(cluster: Cluster, name: str, namespace: str, nodes: tuple[str, ...]) -> None:
    cluster.patch("Deployment", name, placed(nodes), namespace)

    def done() -> bool:
        pods = [pod for pod in cluster.list("Pod", namespace, labels=f"app={name}") if is_live(pod)]
        here = all(pod["spec"].get("nodeName") in nodes for pod in pods)
        return len(pods) == 2 and here and is_ready(cluster.get("Deployment", name, namespace))

    cluster.wait(f"{namespace}/{name} on {', '.join(nodes)}", done, seconds=60)


def one_server(cluster: Cluster, namespace: str) -> Object:
    """That beside the client: without it, the node's proxy is shared as before."""
    pods = [pod for pod in cluster.list("Pod", namespace, labels="app=server") if is_live(pod)]
    return next(pod for pod in pods if pod["spec"]["nodeName"] == NODES[0])


def mark(cluster: Cluster, pod: Object, **changes: Any) -> None:
    cluster.patch("Pod", pod["metadata"]["name"], {"metadata": changes}, pod["metadata"]["namespace"])


def test_the_reference_mesh_gets_no_advice_and_each_planted_flaw_exactly_one(cluster: Cluster, tmp_path: Path) -> None:
    objects = rendered("ambient-namespace", tmp_path)
    apply_all(cluster, objects)
    await_ready(cluster, objects)
    for space in SPACES:
        scale(cluster, "Deployment", "waypoint", space, 2)
    file = discovered(cluster, tmp_path)
    assert yaml.safe_load(file.read_text())["mesh"] == "sharedfate"
    text, said = described(cluster, file)
    assert said == []
    assert "tenant-a/waypoint" in text

    def flaw(words: str, plant: Callable[[], object], mend: Callable[[], object]) -> None:
        plant()
        _, found = described(cluster, file)
        mend()
        assert len(found) == 1, (words, found)
        assert words in found[0]

    flaw(
        "waypoint tenant-a has one instance",
        lambda: scale(cluster, "Deployment", "waypoint", "tenant-a", 1),
        lambda: scale(cluster, "Deployment", "waypoint", "tenant-a", 2),
    )
    flaw(
        "tenant-b/server has one replica",
        lambda: scale(cluster, "Deployment", "server", "tenant-b", 1),
        lambda: scale(cluster, "Deployment", "server", "tenant-b", 2),
    )
    path = "/apis/policy/v1/namespaces/tenant-a/poddisruptionbudgets/server"
    flaw(
        "tenant-a/server has no PodDisruptionBudget",
        lambda: cluster.request("DELETE", path),
        lambda: apply_all(cluster, [budget("tenant-a")]),
    )
    pod = one_server(cluster, "tenant-a")
    flaw(
        "pods of tenant-a/server are carried in 2 ways",
        lambda: mark(cluster, pod, labels={"sharedfate.io/mode": None}),
        lambda: mark(cluster, pod, labels={"sharedfate.io/mode": "ambient-namespace"}),
    )
    assert described(cluster, file)[1] == []
    flaw(
        "all 2 replicas of tenant-b/server are on node node-2",
        lambda: move(cluster, "server", "tenant-b", NODES[1:]),
        lambda: None,
    )


def test_a_mesh_that_stands_in_for_istio_is_told_and_each_of_its_flaws_once(tmp_path: Path) -> None:
    with embedded() as client, installed(client, WAYPOINTS):
        objects = tenants()
        for obj in objects:
            if obj["kind"] == "Namespace":
                obj["metadata"]["labels"] |= {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
        apply_all(client, [*objects, *map(gateway, SPACES)])
        await_ready(client, objects)
        client.wait("waypoints", lambda: all(is_bound(client, space) for space in SPACES), seconds=60)
        scale(client, "Deployment", "waypoint", "tenant-b", 2)
        file = discovered(client, tmp_path)
        assert yaml.safe_load(file.read_text())["mesh"] == "istio"
        text, (unlimited, *others) = described(client, file)
        assert unlimited.startswith("standin-system/node-proxy-")  # as the other's chart has it
        assert unlimited.endswith("have no CPU limit and are shared by tenant-a, tenant-b: one may slow the others")
        flaw = "waypoint tenant-a/waypoint has one instance: its restart stops every call that is bound to it"
        assert others == [flaw]
        assert "tenant-b/waypoint" in text
        scale(client, "Deployment", "waypoint", "tenant-a", 2)
        assert described(client, file)[1] == [unlimited]
        mark(client, one_server(client, "tenant-a"), annotations={"ambient.istio.io/redirection": "pending"})
        (said,) = [one for one in described(client, file)[1] if one != unlimited]
        assert said.startswith("pods of tenant-a/server are carried in 2 ways")


def gateway(namespace: str) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "waypoint", "namespace": namespace},
        "spec": {"gatewayClassName": "istio-waypoint"},
    }


def is_bound(cluster: Cluster, namespace: str) -> bool:
    found = cluster.get("Service", "server", namespace).get("status") or {}
    return any(one["type"] == "istio.io/WaypointBound" for one in found.get("conditions") or [])
