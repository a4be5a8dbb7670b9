"""Clusters made odd on purpose: what the doctor says of each is what a run does there, and nothing of ours is left.

A row is an oddity: how it is made, and what both should say ("" when they should run).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.history.store import History
from chaos.kube.client import Cluster
from chaos.names import LABEL_POD_SECURITY, LABEL_RUN
from tests.kube.weather import before
from tests.stranger.clusters import CONTEXT, Stranger, command, stranger
from tests.stranger.gates import Gate, default_deny

pytestmark = pytest.mark.privileged

Patch = dict[str, Any]
HOST = "kubernetes.io/hostname"


CONTROL_PLANE: Patch = {"spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}
# name -> (patches of nodes, what is said when it cannot run)
NODES: dict[str, tuple[dict[str, Patch], str]] = {
    "as kind and kubeadm make it, and hostnames as some clouds have them": (
        {
            "node-1": CONTROL_PLANE,
            "node-2": {"metadata": {"labels": {HOST: "ip-10-0-0-2"}}},
            "node-3": {"metadata": {"labels": {HOST: "ip-10-0-0-3"}}},
        },
        "",
    ),
    "one node is left": (
        {"node-1": CONTROL_PLANE, "node-2": {"metadata": {"labels": {"kubernetes.io/os": "windows"}}}},
        "1 node takes our pods: sharing needs at least 2 (node-1: taint "
        "node-role.kubernetes.io/control-plane:NoSchedule; node-2: its operating system is windows)",
    ),
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with stranger(tmp_path_factory.mktemp("stranger"), nodes=3) as cluster:
        yield cluster


@pytest.fixture
def nodes(theirs: Stranger) -> Iterator[Cluster]:
    """The cluster; its nodes are as they were afterwards."""
    before = {node["metadata"]["name"]: node for node in theirs.admin.list("Node")}
    yield theirs.admin
    for name, node in before.items():
        spec = {"taints": node["spec"].get("taints"), "unschedulable": None}
        theirs.admin.patch("Node", name, {"metadata": {"labels": node["metadata"]["labels"]}, "spec": spec})


def left(cluster: Cluster) -> list[str]:
    """Everything of ours."""
    return [
        f"{kind} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        for kind in ("Namespace", "Pod", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment")
        for obj in cluster.list(kind, labels=LABEL_RUN)
    ]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if said else [pytest.mark.slow]) for name, (_, said) in NODES.items()]
)
def test_the_doctor_and_the_run_say_the_same_of_odd_nodes(
    name: str, nodes: Cluster, theirs: Stranger, tmp_path: Path
) -> None:
    patches, said = NODES[name]
    for node, patch in patches.items():
        nodes.patch("Node", node, patch)
    where = ("--cluster", f"context:{CONTEXT}")
    config = str(theirs.kubeconfig)
    doctor = command("doctor", *where, KUBECONFIG=config)
    run = command(
        *("run", *where, "--modes", "none", "--scenarios", "proxy-paused", "--out", str(tmp_path / "out")),
        *("--", "--chaos-inconclusive=skip"),
        KUBECONFIG=config,
    )
    if said:
        assert (doctor.returncode, run.returncode) == (4, 4), run.stdout[-2000:] + run.stderr[-2000:]
        assert said in doctor.stdout
        assert said in run.stdout + run.stderr
    else:
        assert doctor.returncode == 0, doctor.stdout
        assert run.returncode == 0, run.stdout[-3000:]
    assert left(nodes) == []


PROXY, FORWARD, EXEC = (rf"(GET|POST) .*/pods/[^/]+/{name}" for name in ("proxy", "portforward", "exec"))
# name -> (what stands in front of the API server, modes of the run, what is said)
POLICIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "every namespace is held to baseline, whatever its labels": (
        {"labels": {LABEL_POD_SECURITY: "baseline"}},
        "sidecar",
        'violates PodSecurity "baseline:latest": non-default capabilities (container "capture" must not include '
        '"NET_ADMIN"',
    ),
    "a policy that shuts each new namespace, and none may be made": (
        {"made": default_deny, "shut": {r"POST .*/networkpolicies$": "broken"}},
        "none",
        "gets no answer from",
    ),
    "nodes have an image of another build": (
        {"answers": {r"GET .*/proxy/build$": b'{"build": "0123456789ab"}'}},
        "none",
        "image: the image is of build 0123456789ab, and this runner of build ",
    ),
    "neither pods nor kubelets are reached from the API server": (
        {"shut": {PROXY: "broken", FORWARD: "broken", EXEC: "broken"}},
        "none",
        "let the API server reach port 9990 of pods",
    ),
}


TRIED_AT_LENGTH = list(POLICIES)[:2]  # what they refuse is waited for


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in TRIED_AT_LENGTH else []) for name in POLICIES]
)
def test_what_a_policy_refuses_is_found_by_the_preflight_in_the_clusters_words(
    name: str, theirs: Stranger, tmp_path: Path
) -> None:
    does, modes, said = POLICIES[name]
    gate = Gate(theirs.admin, **does)
    with before(gate, tmp_path) as (_, kubeconfig):
        config = str(kubeconfig)
        doctor = command("doctor", "--try", "--cluster", "context:w", KUBECONFIG=config)
        run = command(
            *("run", "--cluster", "context:w", "--modes", modes, "--scenarios", "proxy-paused,job-completes"),
            *("--out", str(tmp_path / "out")),
            KUBECONFIG=config,
        )
    assert said in doctor.stdout, doctor.stdout + doctor.stderr
    assert run.returncode == 4, run.stdout[-3000:] + run.stderr[-2000:]
    assert said in run.stdout
    assert "1 error" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    theirs.admin.wait("nothing is left", lambda: left(theirs.admin) == [], seconds=30)


# name -> (what is shut, and how; by which way samples are fetched then)
WAYS: dict[str, tuple[dict[str, str], str]] = {
    "pods are not reached, kubelets are": ({PROXY: "unavailable"}, "port-forward"),
    "packets to pods are dropped, and port-forward is refused": ({PROXY: "hung", FORWARD: "broken"}, "exec"),
}


@pytest.mark.parametrize("name", WAYS)
def test_samples_take_the_way_that_is_open(name: str, theirs: Stranger, tmp_path: Path) -> None:
    shut, way = WAYS[name]
    with before(Gate(theirs.admin, shut=shut), tmp_path) as (_, kubeconfig):
        doctor = command("doctor", "--try", "--cluster", "context:w", KUBECONFIG=str(kubeconfig))
    assert f"samples are fetched by {way}: pods/proxy: " in doctor.stdout
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


@pytest.mark.slow
def test_a_run_without_pods_proxy_in_shut_namespaces_opens_them_measures_by_port_forward_and_says_so(
    theirs: Stranger, tmp_path: Path
) -> None:
    with before(Gate(theirs.admin, shut={PROXY: "unavailable"}, made=default_deny), tmp_path) as (_, kubeconfig):
        run = command(
            *("run", "--cluster", "context:w", "--modes", "none", "--scenarios", "proxy-paused"),
            *("--out", str(tmp_path / "out"), "--", "--chaos-inconclusive=skip"),
            KUBECONFIG=str(kubeconfig),
        )
    assert "samples are fetched by port-forward: pods/proxy: " in run.stderr
    assert (
        "each new namespace gets NetworkPolicy default-deny: one that opens it is put into each of ours" in run.stderr
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert len(History.load(tmp_path / "out/trials/none/proxy-paused").samples) > 1000
    assert left(theirs.admin) == []
