"""Claims on a cluster with real nodes and stock kubectl: what a pod writes stays while its claim lives, on one node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded import provider
from chaos.kube.client import Cluster
from chaos.names import IMAGE
from tests.embedded.stock import standing, stock_kubectl

pytestmark = pytest.mark.privileged

NAME = "claims-test"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with standing(NAME) as found:
        yield found


def run(*arguments: str, stdin: str | None = None) -> str:
    done = stock_kubectl(NAME, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(*objects: dict[str, Any]) -> None:
    run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def stateful_set(name: str, replicas: int = 1, **more: Any) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": IMAGE,
        "command": ["sh", "-c", "id -u >> /data/starts; exec sleep 3600"],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "data", "mountPath": "/part", "subPath": "a/b"},
        ],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            **more,
        },
    }


def starts(pod: str) -> list[str]:
    return run("exec", pod, "--", "cat", "/data/starts").split()


def node_of(pod: str) -> str:
    return run("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")


def directories() -> list[Path]:
    return sorted((provider.RUN / NAME).glob("nodes/*/kubelet/claims/*"))


def ready(name: str, replicas: int = 1) -> None:
    run("rollout", "status", f"sts/{name}", "--timeout=40s")
    assert run("get", "sts", name, "-o", "jsonpath={.status.readyReplicas}") == str(replicas)


def test_what_a_pod_wrote_is_there_for_its_successor_and_gone_with_its_claim(cluster: Cluster) -> None:
    apply(stateful_set("kept"))
    ready("kept")
    where = node_of("kept-0")
    claim, _volume, capacity, modes, storage = run("get", "pvc", "data-kept-0", "--no-headers").split()[1:6]
    assert (claim, capacity, modes, storage) == ("Bound", "1Gi", "RWO", "standard")
    run("exec", "kept-0", "--", "sh", "-c", "echo here > /part/file")
    for times in (2, 3):
        run("delete", "pod", "kept-0")
        ready("kept")
        assert (node_of("kept-0"), len(starts("kept-0"))) == (where, times)
    assert run("exec", "kept-0", "--", "cat", "/data/a/b/file") == "here\n"
    (directory,) = directories()
    assert where in directory.parts
    run("delete", "sts", "kept")
    assert run("get", "pvc", "-o", "name") == "persistentvolumeclaim/data-kept-0\n"
    assert directories() == [directory]
    run("delete", "pvc", "data-kept-0")
    cluster.wait("the volume goes", lambda: not run("get", "pv", "-o", "name"), seconds=20)
    assert directories() == []


def test_a_claim_outlives_its_nodes_power(cluster: Cluster) -> None:
    apply(stateful_set("dark"))
    ready("dark")
    where = node_of("dark-0")
    for operation in ("power-off", "power-on"):
        run("create", "--raw", f"/embedded/nodes/{where}/{operation}", "-f", "-", stdin="{}")
    cluster.wait("it is back", lambda: _started_again("dark-0", 2), seconds=60)
    assert node_of("dark-0") == where
    run("delete", "sts", "dark")
    run("delete", "pvc", "--all")
    cluster.wait("nothing is left", lambda: not directories(), seconds=20)


def _started_again(pod: str, times: int) -> bool:
    try:
        return len(starts(pod)) == times
    except AssertionError:
        return False


def test_kubectl_shows_classes_volumes_and_claims(cluster: Cluster) -> None:
    lines = run("get", "sc").splitlines()
    assert lines[0].split() == [
        "NAME",
        "PROVISIONER",
        "RECLAIMPOLICY",
        "VOLUMEBINDINGMODE",
        "ALLOWVOLUMEEXPANSION",
        "AGE",
    ]
    assert lines[1].split()[:6] == [
        "standard",
        "(default)",
        "sharedfate.io/directory",
        "Delete",
        "WaitForFirstConsumer",
        "false",
    ]
    apply(stateful_set("shown"))
    ready("shown")
    head, row = run("get", "pv").splitlines()
    names = "NAME CAPACITY ACCESS_MODES RECLAIM_POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE"
    assert head.split() == names.replace("_", " ").split()
    assert row.split()[1:7] == ["1Gi", "RWO", "Delete", "Bound", "default/data-shown-0", "standard"]
    told = run("describe", "pvc", "data-shown-0")
    assert "Used By:       shown-0" in told
    assert "ProvisioningSucceeded" in told
    run("delete", "sts", "shown")
    run("delete", "pvc", "--all")
    cluster.wait("nothing is left", lambda: not directories(), seconds=20)


@pytest.mark.parametrize("user", [0, 65532])
def test_a_claim_can_be_written_by_whoever_the_pod_runs_as_and_a_read_only_one_by_nobody(
    cluster: Cluster, user: int
) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": f"c{user}"}, "spec": spec}
    apply(claim, reader_and_writer(f"w{user}", f"c{user}", user))
    cluster.wait("it has run", lambda: _phase(f"w{user}") in ("Succeeded", "Failed"), seconds=30)
    assert run("logs", f"w{user}", "-c", "writes") == "written\n"
    assert run("logs", f"w{user}", "-c", "reads") == "written\nread-only\n"
    run("delete", "pod", f"w{user}")
    run("delete", "pvc", f"c{user}")


def _phase(pod: str) -> str:
    return run("get", "pod", pod, "-o", "jsonpath={.status.phase}")


def reader_and_writer(name: str, claim: str, user: int) -> dict[str, Any]:
    def container(part: str, script: str, volume: str) -> dict[str, Any]:
        mount = [{"name": volume, "mountPath": "/d"}]
        return {"name": part, "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": mount}

    read = "cat /d/f; touch /d/g 2>/dev/null || echo read-only"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": user},
            "initContainers": [container("writes", "echo written | tee /d/f", "rw")],
            "containers": [container("reads", read, "ro")],
            "volumes": [
                {"name": "rw", "persistentVolumeClaim": {"claimName": claim}},
                {"name": "ro", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            ],
        },
    }


@pytest.mark.parametrize(
    "plant",
    ["rm -r /data/a; ln -s / /data/a", "ln -s /etc /data/x; mkfifo /data/a2", "mkdir -p /data/deep/$(seq -s/ 1 400)"],
)
def test_nothing_that_a_pod_plants_in_its_claim_is_followed(cluster: Cluster, plant: str, tmp_path: Path) -> None:
    apply(stateful_set("planted"))
    ready("planted")
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    run("exec", "planted-0", "--", "sh", "-c", plant)
    run("exec", "planted-0", "--", "sh", "-c", f"ln -s {tmp_path} /data/out; true")
    run("delete", "pod", "planted-0")
    settled = _settled("planted-0")
    cluster.wait("it runs or cannot", settled, seconds=40)
    run("delete", "sts", "planted")
    run("delete", "pvc", "--all")
    cluster.wait("nothing is left", lambda: not directories(), seconds=20)
    assert canary.read_text() == "untouched"


def _settled(pod: str) -> Callable[[], bool]:
    def look() -> bool:
        found = json.loads(run("get", "pods", "-o", "json"))["items"]
        states = [one for item in found if item["metadata"]["name"] == pod
                  for one in item.get("status", {}).get("containerStatuses", [])]  # fmt: skip
        return any("running" in one["state"] or one["state"].get("waiting", {}).get("message") for one in states)

    return look
