"""Why workloads are not ready: a table of what clusters say, and the sentence that is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.kube.readiness import AwaitedWorkload, Seen, causes, complaint, pulling, refusals, with_remedy

Object = dict[str, Any]
SERVER = AwaitedWorkload("Deployment", "tenant-a", "server")
OTHER = AwaitedWorkload("Deployment", "tenant-a", "server-two")
PROXY = AwaitedWorkload("DaemonSet", "sharedfate-system", "node-proxy")


def deployment(one: AwaitedWorkload = SERVER, **status: Any) -> Object:
    return {"kind": one.kind, "metadata": {"name": one.name}, "spec": {"replicas": 2}, "status": status}


def pod(name: str = "server-5f-abcde", owner: str = "server-5f", **status: Any) -> Object:
    meta = {
        "name": name,
        "namespace": "tenant-a",
        "uid": name,
        "ownerReferences": [{"name": owner, "controller": True}],
    }
    return {"metadata": meta, "status": {"phase": "Pending", **status}}


def event(reason: str, message: str, kind: str, name: str, *, at: str = "1", kept: str = "Warning") -> Object:
    involved = {"kind": kind, "namespace": "tenant-a", "name": name, "uid": name}
    return {
        "type": kept,
        "reason": reason,
        "message": message,
        "involvedObject": involved,
        "lastTimestamp": at,
        "metadata": {},
    }


FORBIDDEN = 'Error creating: pods "server-5f-x7k2p" is forbidden: violates PodSecurity "restricted:latest"'
QUOTA = 'Error creating: pods "server-5f-x7k2p" is forbidden: exceeded quota: small, requested: pods=1'
DENIED = 'Error creating: admission webhook "deny.example" denied the request: hostPID'
SCHEDULED: Object = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}


def container(**state: Any) -> Object:
    return {"containerStatuses": [{"name": "server", "state": state}]}


ROWS: dict[str, tuple[list[Object], list[Object], Object, str]] = {
    "Pod Security": (
        [],
        [event("FailedCreate", FORBIDDEN, "ReplicaSet", "server-5f")],
        deployment(),
        'FailedCreate: Error creating: pods is forbidden: violates PodSecurity "restricted:latest"',
    ),
    "a quota for the second pod": (
        [pod()],
        [event("FailedCreate", QUOTA, "ReplicaSet", "server-5f")],
        deployment(),
        "FailedCreate: Error creating: pods is forbidden: exceeded quota: small, requested: pods=1",
    ),
    "a webhook, by the condition alone": (
        [],
        [],
        deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": DENIED}]),
        DENIED,
    ),
    "a quota that let them through in the end": (
        [pod(conditions=[SCHEDULED]), pod("server-5f-fghij", conditions=[SCHEDULED])],
        [event("FailedCreate", QUOTA, "ReplicaSet", "server-5f")],
        deployment(),
        "PodScheduled is False: 0/3 nodes",
    ),
    "no node takes it": (
        [pod(conditions=[SCHEDULED])],
        [event("FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.", "Pod", "server-5f-abcde")],
        deployment(),
        "FailedScheduling: 0/3 nodes are available: 3 Insufficient cpu.",
    ),
    "a volume": (
        [pod(**container(waiting={"reason": "ContainerCreating"}))],
        [event("FailedMount", 'configmap "sharedfate-proxy" not found', "Pod", "server-5f-abcde")],
        deployment(),
        'FailedMount: configmap "sharedfate-proxy" not found',
    ),
    "an image that cannot be pulled": (
        [pod(**container(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"}))],
        [
            event("BackOff", "Back-off pulling image", "Pod", "server-5f-abcde", at="3"),
            event("Failed", "Failed to pull image: denied", "Pod", "server-5f-abcde", at="2"),
            event("Failed", "Error: ImagePullBackOff", "Pod", "server-5f-abcde", at="3"),
        ],
        deployment(),
        "Failed: Failed to pull image: denied",
    ),
    "a container that ends": (
        [pod(**container(terminated={"reason": "Error", "exitCode": 127}))],
        [],
        deployment(),
        "server Error exit code 127",
    ),
    "not placed, and nobody says why": ([pod()], [], deployment(), "its pod is Pending"),
    "nothing at all": ([], [], deployment(), "no pod of it was made, and no Event says why"),
    "another workload's trouble": (
        [pod("server-two-6-abcde", "server-two-6")],
        [event("FailedCreate", FORBIDDEN, "ReplicaSet", "server-two-6")],
        deployment(),
        "no pod of it was made, and no Event says why",
    ),
    "an earlier Event that is over": (
        [pod(conditions=[{"type": "Ready", "status": "True"}])],
        [event("FailedScheduling", "0/3 nodes", "Pod", "server-5f-abcde")],
        deployment(replicas=2, readyReplicas=1),
        "its pods are ready and it is not rolled out: replicas 2, readyReplicas 1",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_workload_that_is_not_ready_says_why(name: str) -> None:
    pods, events, obj, said = ROWS[name]
    (line,) = causes([SERVER], Seen({SERVER: obj}, pods, events))
    assert line.startswith(f"Deployment tenant-a/server: {said.removesuffix('.')}")


# A cause in the words of a real cluster, and what is said to do.
REMEDIES = {
    'pods "x" is forbidden: violates PodSecurity "baseline:latest": privileged': "pod-security.kubernetes.io/enforce",
    'pods "x" is forbidden: failed quota: q: must specify limits.memory for: server': "resourcequota,limitrange",
    'pods "x" is forbidden: maximum memory usage per Container is 64Mi, but limit is 256Mi': "limitrange",
    'admission webhook "validate.kyverno.svc-fail" denied the request: no-privileged': "except these namespaces",
    "FailedScheduling: 0/2 nodes are available: 2 Insufficient memory. preemption: none": "make room",
    "FailedScheduling: 0/2 nodes are available: 1 node(s) had untolerated taint {a: b}": "sharedfate doctor",
    'server ErrImageNeverPull Container image "x" is not present with pull policy of Never': "sharedfate image load",
    "server InvalidImageName": "SHAREDFATE_IMAGE",
    "server CrashLoopBackOff back-off 10s restarting failed container": "kubectl logs --previous",
    "proxy OOMKilled exit code 137": "limitrange",
    "FailedCreatePodSandBox: plugin type=calico failed (add): unauthorized": "network plugin",
    'FailedMount: MountVolume.SetUp failed for volume "x": secret "y" not found': "kubectl describe pod",
    "Unhealthy: Readiness probe failed: Get http://10.0.0.1:9990/healthz: i/o timeout": "firewall",
    "its pod is Pending": "kubectl describe pod",
}


@pytest.mark.parametrize("cause", REMEDIES)
def test_a_cause_says_what_to_do(cause: str) -> None:
    said = with_remedy(cause)
    assert said.startswith(cause)
    assert REMEDIES[cause] in said.removeprefix(cause)


def test_words_that_nobody_knows_are_left_as_they_are() -> None:
    assert with_remedy("the moon is full") == "the moon is full"


def test_one_cause_of_several_workloads_is_one_sentence() -> None:
    events = [
        event("FailedCreate", FORBIDDEN, "ReplicaSet", "server-5f"),
        event("FailedCreate", FORBIDDEN.replace("server-5f-x7k2p", "server-two-6-qqqqq"), "ReplicaSet", "server-two-6"),
    ]
    (line,) = causes([SERVER, OTHER], Seen({SERVER: deployment(), OTHER: deployment(OTHER)}, [], events))
    assert line.startswith("Deployment tenant-a/server, Deployment tenant-a/server-two: FailedCreate")


def test_what_was_deleted_is_said() -> None:
    assert causes([SERVER], Seen({}, [], [])) == [
        "Deployment tenant-a/server: it is not there: was it deleted meanwhile?"
    ]


# What a container waits with, and what its pod's Events say of its image; whether no wait brings it.
IMAGES: dict[str, tuple[str, str, bool]] = {
    "no such tag": ("ErrImagePull", 'failed to resolve reference "r/x:1": r/x:1: not found', True),
    "no such repository": ("ImagePullBackOff", "name unknown: repository name not known to registry", True),
    "no such registry": ("ImagePullBackOff", "dial tcp: lookup registry.invalid: no such host", True),
    "no credentials": ("ImagePullBackOff", "pull access denied, repository may require authorization: 401", True),
    "another platform": ("ErrImagePull", "no match for platform in manifest: not found", True),
    "never pulled": ("ErrImageNeverPull", "", True),
    "no name of an image": ("InvalidImageName", "", True),
    "a registry that is busy": ("ImagePullBackOff", "toomanyrequests: rate limit exceeded", False),
    "a registry that is away": ("ErrImagePull", "dial tcp 10.0.0.9:443: i/o timeout", False),
    "a registry that breaks off": ("ImagePullBackOff", "unexpected EOF", False),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_no_pull_brings_is_not_waited_for(name: str) -> None:
    reason, words, hopeless = IMAGES[name]
    waits = [pod(**container(waiting={"reason": reason, "message": f"Back-off pulling image: {words}"}))]
    told = [event("Failed", f"Failed to pull image: {words}", "Pod", "server-5f-abcde")]
    for pods, events in ((waits, told), (waits, [])):
        assert bool(refusals([SERVER], Seen({SERVER: deployment()}, pods, events))) is hopeless
    running = [pod(**container(waiting={"reason": "ContainerCreating"}))]
    assert refusals([SERVER], Seen({SERVER: deployment()}, running, told)) == []


@pytest.mark.parametrize(
    ("name", "hopeless"), [(name, "Pod Security" in name or "quota for" in name or "webhook" in name) for name in ROWS]
)
def test_only_a_refusal_of_admission_is_not_waited_for(name: str, hopeless: bool) -> None:
    pods, events, obj, _ = ROWS[name]
    assert bool(refusals([SERVER], Seen({SERVER: obj}, pods, events))) is hopeless


def test_an_image_is_being_pulled_until_it_was() -> None:
    begun = event("Pulling", "Pulling image", "Pod", "server-5f-abcde", at="1", kept="Normal")
    done = event("Pulled", "Pulled image", "Pod", "server-5f-abcde", at="2", kept="Normal")
    assert pulling([SERVER], Seen({}, [pod()], [begun])) == ["server-5f-abcde"]
    assert pulling([SERVER], Seen({}, [pod()], [done, begun])) == []
    assert pulling([OTHER], Seen({}, [pod()], [begun])) == []
    failed = event("Failed", "Failed to pull image: timeout", "Pod", "server-5f-abcde", at="2")
    again = event("Pulling", "Pulling image", "Pod", "server-5f-abcde", at="3", kept="Normal")
    assert pulling([SERVER], Seen({}, [pod()], [begun, failed, again])) == []


def test_a_ready_pod_has_no_complaint_unless_it_ends() -> None:
    ready = pod(conditions=[{"type": "Ready", "status": "True"}])
    assert complaint(ready) == ""
    ready["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert complaint(ready) == "its pod is being deleted"
