"""What somebody else does to a trial is told apart from what the trial does: a table, and one trial that is drained."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.engine.check import check_run
from chaos.engine.outside import Situation, deletion_of, detect_deleted, detect_outside, disruption_of
from chaos.engine.progress import Silent
from chaos.engine.run import Run
from chaos.engine.scenario import Scenario
from chaos.engine.settings import Inconclusive, Settings
from chaos.engine.trial import Trial, TrialInconclusive

Object = dict[str, Any]
KEY = ("Deployment", "tenant-a", "server")
SINCE = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def node() -> Object:
    status = {"nodeInfo": {"bootID": "one"}, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": "n1"}, "spec": {}, "status": status}


def deployment() -> Object:
    containers = [
        {"name": "server", "image": "app:1", "resources": {"limits": {"cpu": "300m"}}},
        {"name": "proxy", "image": "proxy:1", "resources": {"limits": {"cpu": "450m"}}},
    ]
    spec = {"replicas": 2, "template": {"spec": {"containers": containers}}}
    return {"kind": "Deployment", "metadata": {"name": "server", "namespace": "tenant-a"}, "spec": spec}


def managed(manager: str, at: str, subresource: str = "") -> Object:
    return {"manager": manager, "time": at, "operation": "Update", "subresource": subresource}


def changed(obj: Object, path: str, value: Any) -> Object:
    made = copy.deepcopy(obj)
    *steps, last = path.split(".")
    inside: Any = made
    for step in steps:
        inside = inside[int(step)] if step.isdigit() else inside.setdefault(step, {})
    if isinstance(inside, list):
        inside.append(value)
    else:
        inside[last] = value
    return made


CONTAINER = "spec.template.spec.containers.0"
KUBECTL = [managed("sharedfate", "2026-01-01T00:00:09Z"), managed("kubectl-cordon", "2026-01-01T00:00:05Z")]
NODES: dict[str, tuple[Object | None, list[str]]] = {
    "nothing": (node(), []),
    "deleted": (None, ["node n1 was deleted"]),
    "rebooted": (changed(node(), "status.nodeInfo.bootID", "two"), ["node n1 was rebooted"]),
    "drained, by whom": (
        changed(changed(node(), "spec.unschedulable", True), "metadata.managedFields", KUBECTL),
        ["node n1 was cordoned (drained?), by kubectl-cordon at 2026-01-01T00:00:05Z"],
    ),
    "drained earlier by another": (
        changed(
            changed(node(), "spec.unschedulable", True),
            "metadata.managedFields",
            [managed("karpenter", "2025-12-31T23:59:59Z")],
        ),
        ["node n1 was cordoned (drained?)"],
    ),
    "lost": (
        changed(node(), "status.conditions", [{"type": "Ready", "status": "Unknown"}]),
        ["node n1 is not Ready any longer"],
    ),
    "tainted": (
        changed(node(), "spec.taints", [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]),
        ["node n1 was tainted (karpenter.sh/disrupted)"],
    ),
    "a taint that only asks": (changed(node(), "spec.taints", [{"key": "x", "effect": "PreferNoSchedule"}]), []),
}
WORKLOADS: dict[str, tuple[Object | None, list[str]]] = {
    "nothing": (deployment(), []),
    "deleted": (None, ["Deployment tenant-a/server was deleted"]),
    "scaled, by whom": (
        changed(
            changed(deployment(), "spec.replicas", 1),
            "metadata.managedFields",
            [managed("kubectl", "2026-01-01T00:00:03Z", "scale"), managed("kubelet", "2026-01-01T00:00:09Z", "status")],
        ),
        ["Deployment tenant-a/server: replicas 2 -> 1, by kubectl at 2026-01-01T00:00:03Z"],
    ),
    "scaled by an autoscaler": (
        changed(
            changed(deployment(), "spec.replicas", 4),
            "metadata.managedFields",
            [
                managed("kube-controller-manager", "2026-01-01T00:00:04Z", "scale"),
                managed("kube-controller-manager", "2026-01-01T00:00:08Z", "status"),
            ],
        ),
        [
            "Deployment tenant-a/server: replicas 2 -> 4, by kube-controller-manager (a HorizontalPodAutoscaler) at "
            "2026-01-01T00:00:04Z"
        ],
    ),
    "another image": (
        changed(deployment(), f"{CONTAINER}.image", "app:2"),
        ["Deployment tenant-a/server: image of server app:1 -> app:2"],
    ),
    "other limits": (
        changed(deployment(), f"{CONTAINER}.resources", {}),
        ["Deployment tenant-a/server: resources of server {'limits': {'cpu': '300m'}} -> {}"],
    ),
    "suspended": (changed(deployment(), "spec.suspend", True), ["Deployment tenant-a/server: suspend unset -> True"]),
    "a proxy's image and budget are ours": (
        changed(changed(deployment(), "spec.template.spec.containers.1.image", "proxy:2"), "metadata.generation", 2),
        [],
    ),
    "rolled out by somebody": (
        changed(
            changed(
                deployment(), "spec.template.metadata", {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}
            ),
            "metadata.managedFields",
            [managed("kubectl-rollout", "2026-01-01T00:00:07Z")],
        ),
        ["Deployment tenant-a/server: rolled out anew, by kubectl-rollout at 2026-01-01T00:00:07Z"],
    ),
    "an environment variable is set by somebody": (
        changed(
            changed(deployment(), f"{CONTAINER}.env", [{"name": "A", "value": "1"}]),
            "metadata.managedFields",
            [managed("argocd-controller", "2026-01-01T00:00:07Z")],
        ),
        ["Deployment tenant-a/server: rolled out anew, by argocd-controller at 2026-01-01T00:00:07Z"],
    ),
    "suspended by a queue": (
        changed(
            changed(deployment(), "spec.suspend", True),
            "metadata.managedFields",
            [managed("kueue", "2026-01-01T00:00:02Z")],
        ),
        ["Deployment tenant-a/server: suspend unset -> True, by kueue at 2026-01-01T00:00:02Z"],
    ),
    "paused": (changed(deployment(), "spec.paused", True), ["Deployment tenant-a/server: paused unset -> True"]),
    "a container is put in": (
        changed(deployment(), "spec.template.spec.containers.2", {"name": "agent", "image": "a:1"}),
        ["Deployment tenant-a/server: container agent was put in"],
    ),
    "restarted by a fault": (
        changed(deployment(), "spec.template.metadata", {"annotations": {"restartedAt": "now"}}),
        [],
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_what_is_done_to_a_node_is_said(name: str) -> None:
    now, said = NODES[name]
    before, after = Situation({"n1": node()}), Situation({} if now is None else {"n1": now})
    assert detect_outside(before, after, since=SINCE) == said
    assert detect_outside(before, after, since=SINCE, nodes=False) == []  # a fault of ours may have done it


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_is_done_to_a_workload_is_said(name: str) -> None:
    now, said = WORKLOADS[name]
    before, after = Situation({}, {KEY: deployment()}), Situation({}, {} if now is None else {KEY: now})
    assert detect_outside(before, after, since=SINCE, proxies=["proxy"]) == said


def pod() -> Object:
    containers = [{"name": "server", "image": "app:1", "resources": {"limits": {"cpu": "300m"}}}, {"name": "proxy"}]
    meta = {"name": "server-1", "namespace": "tenant-a", "uid": "u"}
    return {"kind": "Pod", "metadata": meta, "spec": {"containers": containers}}


PODS: dict[str, tuple[Object, list[str]]] = {
    "nothing": (pod(), []),
    "resized in place, by whom": (
        changed(
            changed(pod(), "spec.containers.0.resources", {"limits": {"cpu": "1"}}),
            "metadata.managedFields",
            [managed("vpa-updater", "2026-01-01T00:00:04Z", "resize")],
        ),
        [
            "pod tenant-a/server-1: resources of server {'limits': {'cpu': '300m'}} -> {'limits': {'cpu': '1'}}, by "
            "vpa-updater at 2026-01-01T00:00:04Z"
        ],
    ),
    "another image": (
        changed(pod(), "spec.containers.0.image", "app:2"),
        ["pod tenant-a/server-1: image of server app:1 -> app:2"],
    ),
    "a proxy's budget": (changed(pod(), "spec.containers.1.resources", {"limits": {"cpu": "1"}}), []),
    "replaced": (changed(changed(pod(), "metadata.uid", "v"), "spec.containers.0.image", "app:2"), []),
}


@pytest.mark.parametrize("name", PODS)
def test_what_is_done_to_a_running_pod_is_said(name: str) -> None:
    now, said = PODS[name]
    before, after = Situation({}, {}, {"u": pod()}), Situation({}, {}, {now["metadata"]["uid"]: now})
    assert detect_outside(before, after, since=SINCE, proxies=["proxy"]) == said


def owned(uid: str, *, by: str = "rs", kind: str = "ReplicaSet", deleting: bool = False) -> Object:
    owners = [{"kind": kind, "name": by, "uid": by, "controller": True}] if by else []
    meta = {"name": f"server-{uid}", "namespace": "tenant-a", "uid": uid, "ownerReferences": owners}
    return {"kind": "Pod", "metadata": {**meta, **({"deletionTimestamp": "2026-01-01T00:00:33Z"} if deleting else {})}}


def pods(*those: Object, generation: int | None = 3) -> Situation:
    owners = {} if generation is None else {"rs": generation}
    return Situation({}, {}, {pod["metadata"]["uid"]: pod for pod in those}, owners)


BY_HAND = (
    "and not by its ReplicaSet, which was asked for as many pods as before (kubectl delete? Kubernetes keeps no name)"
)
# What there was, what there is, what the recorder was told, whom the trial took away itself; what is said.
DELETIONS: dict[str, tuple[Situation, Situation, dict[str, str], set[str], list[str]]] = {
    "nothing": (pods(owned("u")), pods(owned("u")), {}, set(), []),
    "by hand, when": (
        pods(owned("u"), owned("v")),
        pods(owned("v"), owned("w")),
        {"u": "2026-01-01T00:00:03Z"},
        set(),
        [f"pod tenant-a/server-u was deleted at 2026-01-01T00:00:03Z, {BY_HAND}"],
    ),
    "by hand, by force": (pods(owned("u")), pods(), {}, set(), [f"pod tenant-a/server-u was deleted, {BY_HAND}"]),
    "by hand, ending still": (
        pods(owned("u")),
        pods(owned("u", deleting=True)),
        {},
        set(),
        [f"pod tenant-a/server-u was deleted, {BY_HAND}"],
    ),
    "a DaemonSet's": (
        pods(owned("u", kind="DaemonSet")),
        pods(),
        {},
        set(),
        [f"pod tenant-a/server-u was deleted, {BY_HAND.replace('ReplicaSet', 'DaemonSet')}"],
    ),
    "a scale-down, or a roll-out": (pods(owned("u")), pods(generation=4), {"u": "T"}, set(), []),
    "with its workload": (pods(owned("u")), pods(generation=None), {"u": "T"}, set(), []),
    "by the trial, or evicted": (pods(owned("u")), pods(), {"u": "T"}, {"u"}, []),
    "it went already when the trial began": (pods(owned("u", deleting=True)), pods(), {}, set(), []),
    "nobody's: a helper": (pods(owned("u", by="")), pods(), {}, set(), []),
    "a Job's, which has its own ends": (pods(owned("u", by="job", kind="Job")), pods(), {}, set(), []),
}


@pytest.mark.parametrize("name", DELETIONS)
def test_a_pod_that_was_deleted_by_hand_is_said(name: str) -> None:
    before, after, told, excused, said = DELETIONS[name]
    assert detect_deleted(before, after, told=told, excused=excused) == said


def test_when_a_pod_was_deleted_is_when_its_grace_began() -> None:
    pod = owned("u", deleting=True)
    assert deletion_of(pod) == "2026-01-01T00:00:33Z"
    pod["metadata"]["deletionGracePeriodSeconds"] = 30
    assert deletion_of(pod) == "2026-01-01T00:00:03Z"
    assert deletion_of(owned("u")) == ""


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("EvictionByEvictionAPI", "was evicted"),
        ("PreemptionByScheduler", "made room"),
        ("TerminationByKubelet", "was ended by its kubelet"),
        ("SomethingNew", "is to go (SomethingNew)"),
    ],
)
def test_a_pod_that_has_to_go_says_why(reason: str, words: str) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": "T"}
    pod = {
        "metadata": {"name": "p", "namespace": "a"},
        "spec": {"nodeName": "n1"},
        "status": {"conditions": [condition]},
    }
    assert disruption_of(pod).startswith(f"pod a/p on n1 {words}")
    assert disruption_of(pod).endswith("at T")
    condition["status"] = "False"
    assert disruption_of(pod) == ""


def drained(trial: Trial) -> None:
    """As `kubectl drain` does it: the first node is cordoned, and what lies on it evicted."""
    node = trial.placement.nodes_of(trial.deployment.tenants[0].client)[0]
    trial.cluster.patch("Node", node, {"spec": {"unschedulable": True}})
    for pod in trial.cluster.list("Pod", "tenant-a"):
        meta = pod["metadata"]
        trial.cluster.request(
            "POST",
            f"/api/v1/namespaces/tenant-a/pods/{meta['name']}/eviction",
            {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": meta["name"], "namespace": "tenant-a"},
            },
        )


def deleted(trial: Trial, grace: int | None = None) -> None:
    pod = next(one for one in trial.placement.pods if one.workload_key == "tenant-b/server")
    trial.cluster.delete("Pod", pod.name, "tenant-b", grace=grace)


def scaled_down(trial: Trial) -> None:
    trial.cluster.patch("Deployment", "server", {"spec": {"replicas": 1}}, "tenant-b")


def rolled_out(trial: Trial) -> None:
    annotations = {"kubectl.kubernetes.io/restartedAt": "now"}
    by_hand(trial, "server", {"spec": {"template": {"metadata": {"annotations": annotations}}}})


def another_image(trial: Trial) -> None:
    containers = [{"name": "server", "image": "sharedfate:other"}]
    by_hand(trial, "server", {"spec": {"template": {"spec": {"containers": containers}}}})


def by_hand(trial: Trial, name: str, part: Object) -> None:
    """What another field manager applies."""
    kind = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "tenant-b"}}
    path = f"/apis/apps/v1/namespaces/tenant-b/deployments/{name}"
    query = {"fieldManager": "kubectl-rollout", "force": "true"}
    trial.cluster.request("PATCH", path, kind | part, query=query, content_type="application/apply-patch+yaml")


# What somebody does to a trial without a fault, and what is said of it.
DONE: dict[str, tuple[Callable[[Trial], None], tuple[str, ...]]] = {
    "drained": (drained, ("node node-1 was cordoned", "was evicted")),
    "a pod is deleted": (deleted, ("pod tenant-b/server-", "was deleted at 2", "not by its ReplicaSet")),
    "a pod is deleted by force": (partial(deleted, grace=0), ("pod tenant-b/server-", "was deleted")),
    "scaled down": (scaled_down, ("Deployment tenant-b/server: replicas 2 -> 1",)),
    "rolled out": (rolled_out, ("Deployment tenant-b/server: rolled out anew, by kubectl-rollout at ",)),
    "another image": (another_image, ("image of server ", "-> sharedfate:other, by kubectl-rollout at ")),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    out = tmp_path_factory.mktemp("run") / "out"
    settings = Settings(out=out, modes=("none",), seed=5, inconclusive=Inconclusive.FAIL)
    with Run(settings, progress=Silent()) as run:
        yield run


@pytest.mark.privileged
@pytest.mark.judged
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "rolled out" else [pytest.mark.slow]) for name in DONE]
)
def test_a_trial_that_somebody_changes_is_inconclusive_and_says_what(run: Run, name: str, tmp_path: Path) -> None:
    do, words = DONE[name]

    def scenario(trial: Trial) -> None:
        trial.baseline()
        do(trial)
        trial.hold(8)

    label = tmp_path.name  # another one for each try
    with pytest.raises(TrialInconclusive, match="somebody else changed what was tried: "):
        run.attempt("none", Scenario(label, scenario, claim="", redeploys_after=True))
    for node in run.cluster.list("Node"):
        run.cluster.patch("Node", node["metadata"]["name"], {"spec": {"unschedulable": None}})
    folder = run.settings.out
    result = json.loads((folder / f"trials/none/{label}/result.json").read_text())
    assert result["verdict"] == "inconclusive"
    for part in words:
        assert part in result["reason"]
    assert all(before == now for name, before, now in check_run(folder) if name != "report.json")  # the run goes on
