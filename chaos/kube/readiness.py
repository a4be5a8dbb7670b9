"""Explains why workloads are not ready, in the cluster's own words: conditions of workloads and pods, and their Events.

Pure functions judge what was read; `await_ready` waits. Two things are no wait as others are: an image that is being
pulled takes as long as it takes, and what is refused (a pod by admission, an image by its registry) is refused however
long one waits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.errors import NotReady
from chaos.kube.client import Cluster
from chaos.kube.objects import container_statuses, controller, is_deleting, is_ready_pod, true_conditions

Object = Mapping[str, Any]
PULL_SECONDS: Final = 900.0  # for an image of a gigabyte over a slow line
HOPELESS_AFTER: Final = 8.0  # seconds for which a refusal has to stand: quota and webhooks may come to their senses
_LOOK_EVERY: Final = 2.0
_GROUPS: Final = 4  # different causes that are shown
# Events that say why a pod is not made, not placed or not started, the nearest to the cause first.
_TELLING: Final = (
    "FailedCreate",
    "FailedScheduling",
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "Failed",
    "ErrImageNeverPull",
    "InspectFailed",
    "BackOff",
    "Unhealthy",
)
# What to do about a cause, by its words; the first that is found.
_REMEDIES: Final = (
    (
        r"violates PodSecurity",
        "let these namespaces be labelled pod-security.kubernetes.io/enforce: privileged, or leave out the modes and "
        "faults that need it (docs/real-clusters.md)",
    ),
    (
        r"exceeded quota|usage per (Container|Pod)|must specify (limits|requests)",
        "give these namespaces room: kubectl describe resourcequota,limitrange",
    ),
    (r"admission webhook|denied (the )?request", "except these namespaces from what refuses"),
    (
        r"untolerated taint|didn't match Pod's node affinity",
        "free the nodes that the tenants lie on: sharedfate doctor names them",
    ),
    (r"Insufficient|Too many pods", "make room on these nodes: kubectl describe node"),
    (
        r"ErrImageNeverPull|ErrImagePull|ImagePullBackOff|InvalidImageName|Failed to pull|pulling image",
        "give the nodes the image: sharedfate image load or push, and SHAREDFATE_IMAGE",
    ),
    (r"exec format error", "the image is of another architecture than the node"),
    (r"OOMKilled", "a LimitRange may have cut its memory: kubectl describe limitrange"),
    (r"BackOff|exit code", "kubectl logs --previous"),
    (r"FailedCreatePodSandBox|[Nn]etwork.*not ready", "look at the node's network plugin and runtime"),
    (r"FailedMount|FailedAttachVolume", "kubectl describe pod"),
    (r"probe failed", "does the node reach its pods' ports? A NetworkPolicy or firewall may shut them"),
    (r"its pod is (Pending|Running|without)|(PodScheduled|Initialized|Ready) is False", "kubectl describe pod"),
)
_REFUSED: Final = re.compile(r"is forbidden|denied the request|admission webhook|exceeded quota|is invalid")
_UNPULLED: Final = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
_STATE_ALONE: Final = re.compile(r"Error: \w+")  # a kubelet's second Event of each failed pull
# What a node says of an image that no further pull brings, unlike a registry that is busy or away for a moment.
_NO_IMAGE: Final = re.compile(
    r"ErrImageNeverPull|InvalidImageName|not found|no such host|manifest unknown|name unknown|no match for platform|"
    r"unauthori[sz]ed|authorization failed|insufficient_scope|access denied|server gave HTTP response to HTTPS client|"
    r"has no registry",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, order=True)
class AwaitedWorkload:
    """A workload to wait for."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def owns(self, name: str) -> bool:
        """Whether that name is the workload itself, or a ReplicaSet of the Deployment."""
        if self.kind != "Deployment":
            return name == self.name
        return name == self.name or re.fullmatch(rf"{re.escape(self.name)}-[a-z0-9]+", name) is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of some namespaces: `objects` are the workloads that were found."""

    objects: Mapping[AwaitedWorkload, Object]
    pods: Sequence[Object]
    events: Sequence[Object]


def read(cluster: Cluster, waiting: Iterable[AwaitedWorkload]) -> Seen:
    """Read the workloads, and all pods and Events of their namespaces."""
    waiting = list(waiting)
    namespaces = sorted({one.namespace for one in waiting})
    found = {one: cluster.find(one.kind, one.name, one.namespace) for one in waiting}
    return Seen(
        {one: obj for one, obj in found.items() if obj is not None},
        [pod for name in namespaces for pod in cluster.list("Pod", name)],
        [event for name in namespaces for event in cluster.list("Event", name)],
    )


def causes(waiting: Iterable[AwaitedWorkload], seen: Seen) -> list[str]:
    """Return a sentence for each distinct cause, with the workloads that it holds up."""
    by_cause: dict[str, list[AwaitedWorkload]] = {}
    for one in waiting:
        by_cause.setdefault(_cause(one, seen), []).append(one)
    lines = [f"{', '.join(map(str, kept))}: {with_remedy(cause)}" for cause, kept in by_cause.items()]
    more = len(lines) - _GROUPS
    return [*lines[:_GROUPS], *([f"and {more} more causes"] if more > 0 else [])]


def with_remedy(cause: str) -> str:
    """A cause in the cluster's words, and what to do about it where that is known."""
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, cause):
            return f"{cause}: {remedy}" if not cause.endswith(".") else f"{cause[:-1]}: {remedy}"
    return cause


def refusals(waiting: Iterable[AwaitedWorkload], seen: Seen) -> list[str]:
    """Return the causes that waiting does not resolve: pods that admission refuses, images that no node gets."""
    waiting = list(waiting)
    refused = [
        one for one in waiting if _REFUSED.search(_not_made(one, seen)) or _NO_IMAGE.search(_not_pulled(one, seen))
    ]
    return causes(refused, seen)


def pulling(waiting: Iterable[AwaitedWorkload], seen: Seen) -> list[str]:
    """Return the pods whose node is pulling an image for the first time, according to their Events."""
    waiting = list(waiting)
    last: dict[str, str] = {}
    for event in sorted(seen.events, key=_when):
        if event.get("reason") in ("Pulling", "Pulled", "Failed", "BackOff"):
            uid = event["involvedObject"].get("uid", "")
            if last.get(uid) not in ("Failed", "BackOff"):  # what failed once is tried again while one waits
                last[uid] = event["reason"]
    return [
        pod["metadata"]["name"]
        for pod in seen.pods
        if last.get(pod["metadata"]["uid"]) == "Pulling"
        and (pod.get("status") or {}).get("phase") == "Pending"
        and any(_is_of(one, pod) for one in waiting)
    ]


def await_ready(
    cluster: Cluster, waiting: Sequence[AwaitedWorkload], ready: Callable[[Object], bool], *, seconds: float
) -> None:
    """Wait until all workloads are ready.

    Time in which an image of theirs is pulled does not count, up to a quarter of an hour. Raises NotReady, with the
    cause of each, when the time is over, and as soon as a refusal has stood for some seconds.
    """
    left = list(waiting)
    now = begin = looked = time.monotonic()
    end, pulled, refused_since = now + seconds, 0.0, 0.0
    while True:
        while left:
            found = cluster.find(left[-1].kind, left[-1].name, left[-1].namespace)
            if found is None or not ready(found):
                break
            left.pop()
        if not left:
            return
        now = time.monotonic()
        if now - looked < _LOOK_EVERY and now < end:
            time.sleep(0.05)
            continue
        seen, since, looked = read(cluster, left), looked, now
        if pulled < PULL_SECONDS and pulling(left, seen):
            pulled += now - since
            end += now - since
            continue
        if lines := refusals(left, seen):
            refused_since = refused_since or now
            if now - refused_since >= HOPELESS_AFTER:
                raise NotReady(f"not made after {now - begin:.0f} s: {'; '.join(lines)}")
        else:
            refused_since = 0.0
        if now >= end:
            raise NotReady(f"not ready after {now - begin - pulled:.0f} s: {'; '.join(causes(left, seen))}")


def _cause(one: AwaitedWorkload, seen: Seen) -> str:
    if one not in seen.objects:
        return "it is not there: was it deleted meanwhile?"
    pods = [pod for pod in seen.pods if _is_of(one, pod)]
    if why := _not_made(one, seen):
        return why
    texts = [text for pod in pods if (text := complaint(pod))]
    uids = {pod["metadata"]["uid"] for pod in pods if complaint(pod)}
    told = _last([event for event in seen.events if event["involvedObject"].get("uid") in uids], _TELLING)
    if told:
        return told
    if texts:
        return texts[0]
    if not pods:
        return "no pod of it was made, and no Event says why: is the controller manager running?"
    return f"its pods are ready and it is not rolled out: {_state(seen.objects[one])}"


def _not_made(one: AwaitedWorkload, seen: Seen) -> str:
    """Return why the controller cannot create its pods."""
    events = [e for e in seen.events if e["involvedObject"].get("kind") != "Pod" and _involves(one, e)]
    if told := _last(events, ("FailedCreate",)):
        made = [pod for pod in seen.pods if _is_of(one, pod)]
        wanted = _wanted(seen.objects.get(one, {}))
        return told if len(made) < wanted else ""
    return str(true_conditions(seen.objects.get(one, {})).get("ReplicaFailure", {}).get("message", ""))


def _not_pulled(one: AwaitedWorkload, seen: Seen) -> str:
    """Return what the nodes say of an image of its pods that they could not get."""
    pods = {pod["metadata"]["uid"]: pod for pod in seen.pods if _is_of(one, pod)}
    waiting = [
        found
        for pod in pods.values()
        for container in container_statuses(pod)
        if (found := (container.get("state") or {}).get("waiting") or {}).get("reason") in _UNPULLED
    ]
    if not waiting:
        return ""
    told = [
        str(event.get("message", ""))
        for event in seen.events
        if event.get("reason") == "Failed" and event["involvedObject"].get("uid") in pods
    ]
    return " ".join([*(f"{found['reason']} {found.get('message', '')}" for found in waiting), *told])


def _wanted(obj: Object) -> int:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if obj.get("kind") == "DaemonSet":
        return int(status.get("desiredNumberScheduled") or 1)
    return int(spec.get("replicas", spec.get("parallelism", 1)) or 1)


def complaint(pod: Object) -> str:
    """Return why the pod is not ready, in the cluster's own words; empty when it is."""
    status = pod.get("status") or {}
    conditions = status.get("conditions") or []
    if is_ready_pod(pod):
        return ""
    if is_deleting(pod):
        return "its pod is being deleted"
    for container in container_statuses(pod):
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            for kind in ("waiting", "terminated"):
                found = state.get(kind) or {}
                if found.get("reason") not in (None, "Completed", "PodInitializing", "ContainerCreating"):
                    code = f"exit code {found['exitCode']}" if found.get("exitCode") else ""
                    words = [container["name"], found["reason"], code, str(found.get("message", "")).strip()]
                    return " ".join(word for word in words if word)
    return next(
        (
            f"{c['type']} is False: {c.get('message') or c.get('reason') or 'no reason is given'}"
            for c in conditions
            if c["type"] not in true_conditions(pod)
        ),
        f"its pod is {status.get('phase') or 'without a status: is the node heard of?'}",
    )


def _last(events: Iterable[Object], reasons: Sequence[str]) -> str:
    """Return the most informative Event: the latest of the first reason that occurs, which says more than a state."""
    found: dict[str, Object] = {}
    for event in sorted(events, key=_when):
        if event.get("reason") in found and _STATE_ALONE.fullmatch(str(event.get("message", ""))):
            continue
        if event.get("type") == "Warning" or event.get("reason") == "FailedCreate":
            found[event.get("reason", "")] = event
    for reason in reasons:
        if reason in found:
            return f"{reason}: {_same(str(found[reason].get('message', '')))}"
    return ""


def _same(message: str) -> str:
    """Return the message without the pod's generated name, so that one cause of six pods is one sentence."""
    words = " ".join(message.split())
    return re.sub(r'(pods? )"?[a-z0-9.-]+-[a-z0-9]{5}"?(?= is forbidden)', r"\1", words).replace("  ", " ")


def _involves(one: AwaitedWorkload, event: Object) -> bool:
    involved = event["involvedObject"]
    return involved.get("namespace") == one.namespace and one.owns(str(involved.get("name", "")))


def _is_of(one: AwaitedWorkload, pod: Object) -> bool:
    meta = pod["metadata"]
    if meta.get("namespace") != one.namespace:
        return False
    if one.kind == "Pod":
        return bool(meta["name"] == one.name)
    owner = controller(pod)
    return owner is not None and one.owns(owner["name"])


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _state(obj: Object) -> str:
    status = obj.get("status") or {}
    names = ("replicas", "updatedReplicas", "readyReplicas", "desiredNumberScheduled", "numberReady")
    return ", ".join(f"{name} {status[name]}" for name in names if name in status) or "it has no status"
