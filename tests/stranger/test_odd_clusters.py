"""Clusters made odd on purpose: what the doctor says of each is what a run does there, and nothing of ours is left.

A row is an oddity: how it is made, and what both should say ("" when they should run). With SHAREDFATE_TEST_CLUSTER, of
that cluster.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.history.store import History
from chaos.kube.client import Cluster
from chaos.names import LABEL_POD_SECURITY, LABEL_RUN
from tests.kube.weather import before
from tests.stranger.clusters import CONTEXT, Stranger, command, kubectl, stranger
from tests.stranger.gates import Gate, default_deny

pytestmark = pytest.mark.privileged

Patch = dict[str, Any]
HOST = "kubernetes.io/hostname"


CONTROL_PLANE: Patch = {"spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}}


@dataclass(frozen=True, slots=True)
class Nodes:
    """Patches of the first nodes by name, and what is said when the cluster cannot run it, {0} for the first's name."""

    patches: Sequence[Patch]
    said: str = ""


NODES = {
    "as kind and kubeadm make it, and hostnames as some clouds have them": Nodes(
        (
            CONTROL_PLANE,
            {"metadata": {"labels": {HOST: "ip-10-0-0-2"}}},
            {"metadata": {"labels": {HOST: "ip-10-0-0-3"}}},
        )
    ),
    "one node is left": Nodes(
        (CONTROL_PLANE, {"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
        "1 node takes our pods: sharing needs at least 2 ({0}: taint "
        "node-role.kubernetes.io/control-plane:NoSchedule; {1}: taint gpu=yes:NoSchedule)",
    ),
    "one has gone into maintenance": Nodes(
        (CONTROL_PLANE, {}, {"spec": {"unschedulable": True}}),
        "1 node takes our pods: sharing needs at least 2 ({0}: taint "
        "node-role.kubernetes.io/control-plane:NoSchedule; {2}: ",
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
    "name", [pytest.param(name, marks=[] if one.said else [pytest.mark.slow]) for name, one in NODES.items()]
)
def test_the_doctor_and_the_run_say_the_same_of_odd_nodes(
    name: str, nodes: Cluster, theirs: Stranger, tmp_path: Path
) -> None:
    row = NODES[name]
    names = sorted(node["metadata"]["name"] for node in nodes.list("Node"))
    for node, patch in zip(names, row.patches, strict=False):
        nodes.patch("Node", node, patch)
    where = ("--cluster", f"context:{CONTEXT}")
    config = str(theirs.kubeconfig)
    doctor = command("doctor", *where, KUBECONFIG=config)
    run = command(
        *("run", *where, "--modes", "none", "--scenarios", "proxy-paused", "--out", str(tmp_path / "out")),
        *("--", "--chaos-inconclusive=skip"),
        KUBECONFIG=config,
    )
    if said := row.said.format(*names):
        assert (doctor.returncode, run.returncode) == (4, 4), run.stdout[-2000:] + run.stderr[-2000:]
        assert said in doctor.stdout
        assert said in run.stdout + run.stderr
    else:
        assert doctor.returncode == 0, doctor.stdout
        assert run.returncode == 0, run.stdout[-3000:]
    assert left(nodes) == []


PROXY, FORWARD, EXEC = (rf"(GET|POST) .*/pods/[^/]+/{name}" for name in ("proxy", "portforward", "exec"))


@dataclass(frozen=True, slots=True)
class Policy:
    """What refuses something of ours, and the words that are said.

    Args:
        gate: what stands in front of the API server.
        objects: of the cluster's own administrators.
        environment: of the doctor and of the run.
        enforced: it takes a network plugin that enforces NetworkPolicies.
        at_length: what is refused is waited for, or the kind of refusal has another row.
    """

    said: str
    modes: str = "none"
    scenarios: str = "proxy-paused,job-completes"
    gate: Mapping[str, Any] = field(default_factory=dict)
    objects: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    enforced: bool = False
    at_length: bool = False


def admission_policy(name: str, expression: str, message: str, **rule: list[str]) -> tuple[Mapping[str, Any], ...]:
    """A ValidatingAdmissionPolicy of that rule, and its binding, on every namespace that is ours."""
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], **rule}]
    spec: dict[str, Any] = {
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": expression, "message": message}],
    }
    ours = {"matchExpressions": [{"key": LABEL_RUN, "operator": "Exists"}]}
    return (
        {"kind": "ValidatingAdmissionPolicy", "spec": spec, **kind},
        {
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": ours}},
            **kind,
        },
    )


def in_each_namespace(kind: str, spec: Mapping[str, Any]) -> Callable[[str], Mapping[str, Any]]:
    return lambda namespace: {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "theirs", "namespace": namespace},
        "spec": spec,
    }


POLICIES = {
    "every namespace is held to baseline, whatever its labels": Policy(
        'violates PodSecurity "baseline:latest": non-default capabilities (container "capture" must not include '
        '"NET_ADMIN"',
        modes="sidecar",
        gate={"labels": {LABEL_POD_SECURITY: "baseline"}},
        at_length=True,
    ),
    "a policy that shuts each new namespace, and none may be made": Policy(
        "gets no answer from",
        gate={"made": default_deny, "shut": {r"POST .*/networkpolicies$": "broken"}},
        enforced=True,
        at_length=True,
    ),
    "nodes have an image of another build": Policy(
        "image: the image is of build 0123456789ab, and this runner of build ",
        gate={"answers": {r"GET .*/proxy/build$": b'{"build": "0123456789ab"}'}},
    ),
    "no Service is carried, as where kube-proxy fails": Policy(
        "gets an answer from another pod there at its address, and none from it by its Service, app",
        gate={"answers": {r"(POST|PATCH) .*/sharedfate-preflight/services": b'{"kind": "Service", "metadata": {}}'}},
    ),
    "another preflight goes on": Policy(
        "namespace sharedfate-preflight already exists (run 0a1b2c3d): another doctor or run tries this cluster",
        objects=(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "sharedfate-preflight", "labels": {LABEL_RUN: "0a1b2c3d"}},
            },
        ),
    ),
    "neither pods nor kubelets are reached from the API server": Policy(
        "let the API server reach port 9990 of pods",
        gate={"shut": {PROXY: "broken", FORWARD: "broken", EXEC: "broken"}},
    ),
    "host namespaces are refused by an admission policy": Policy(
        "no pod enters a node here",
        modes="node",
        objects=admission_policy(
            "no-host",
            "!has(object.spec.hostPID) || !object.spec.hostPID",
            "no pod enters a node here",
            resources=["pods"],
        ),
        at_length=True,
    ),
    "each pod has to have an owner": Policy(
        "say whose it is: label owner",
        objects=admission_policy(
            "owned",
            "has(object.metadata.labels) && 'owner' in object.metadata.labels",
            "say whose it is: label owner",
            resources=["pods"],
        ),
        at_length=True,
    ),
    "namespaces are made by a team alone": Policy(
        "ask the platform team for a namespace",
        objects=admission_policy(
            "no-namespaces", "false", "ask the platform team for a namespace", resources=["namespaces"]
        ),
    ),
    "nobody may run a command in a pod": Policy(
        "no commands here",
        scenarios="identities-exposed",
        modes="node",
        objects=admission_policy(
            "no-exec", "false", "no commands here", resources=["pods/exec"], operations=["CONNECT"]
        ),
        at_length=True,
    ),
    "each new namespace has a quota of one pod": Policy(
        "exceeded quota: theirs, requested: pods=1",
        gate={"made": in_each_namespace("ResourceQuota", {"hard": {"pods": "1"}})},
        at_length=True,
    ),
    "each new namespace has small limits": Policy(
        "maximum cpu usage per Container is 10m",
        gate={"made": in_each_namespace("LimitRange", {"limits": [{"type": "Container", "max": {"cpu": "10m"}}]})},
        at_length=True,
    ),
    "no registry has the image": Policy(
        "registry.invalid/sharedfate:1",
        environment={"SHAREDFATE_IMAGE": "registry.invalid/sharedfate:1"},
        at_length=True,
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if one.at_length else []) for name, one in POLICIES.items()]
)
def test_what_a_policy_refuses_is_found_by_the_preflight_in_the_clusters_words(
    name: str, theirs: Stranger, tmp_path: Path
) -> None:
    row = POLICIES[name]
    if row.enforced and theirs.admin.kind != "embedded":
        pytest.skip("whether its network plugin enforces NetworkPolicies is not known here")
    with contextlib.ExitStack() as there:
        there.enter_context(applied(theirs, tmp_path, row.objects))
        _, kubeconfig = there.enter_context(before(Gate(theirs.admin, **row.gate), tmp_path))
        ours = partial(command, KUBECONFIG=str(kubeconfig), **row.environment)  # type: ignore[arg-type]
        doctor = ours("doctor", "--try", "--cluster", "context:w")
        run = ours(
            *("run", "--cluster", "context:w", "--modes", row.modes, "--scenarios", row.scenarios),
            *("--out", str(tmp_path / "out")),
        )
        named = [one["metadata"]["name"] for one in row.objects if one["kind"] == "Namespace"]
        assert all(theirs.admin.find("Namespace", name) for name in named), "not ours to remove"
    assert row.said in doctor.stdout, doctor.stdout + doctor.stderr
    assert run.returncode == 4, run.stdout[-3000:] + run.stderr[-2000:]
    assert row.said in run.stdout
    assert "1 error" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    theirs.admin.wait("nothing is left", lambda: left(theirs.admin) == [], seconds=30)


@contextlib.contextmanager
def applied(theirs: Stranger, folder: Path, objects: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """The objects of the cluster's own administrators, meanwhile. An API server reads its admission policies once a
    second.
    """
    if not objects:
        yield
        return
    path = folder / "theirs.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    kubectl(theirs, "apply", "-f", str(path))
    time.sleep(0 if theirs.admin.kind == "embedded" else 3)
    try:
        yield
    finally:
        kubectl(theirs, "delete", "-f", str(path))


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
