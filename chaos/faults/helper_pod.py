"""Short-lived privileged pods on a target's node, in which `chaos.inpod.process_helper` runs.

They live in our own system namespace, carry the run's label, see the node's processes (hostPID), and end by themselves
at their deadline, so that what they hold is undone even when nobody is left to say so.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import urllib3

from chaos.errors import (
    AlreadyExists,
    ApiError,
    ExperimentFailure,
    Misuse,
    NoEffect,
    NotReady,
    RecoveryFailed,
    TargetVanished,
)
from chaos.faults.model import Evidence, Receipt, Target
from chaos.kube.client import Cluster, object_path
from chaos.kube.objects import container_statuses, is_deleting
from chaos.model.faulting import FaultPhase
from chaos.names import GROUP, IMAGE, KEEP_IN_PLACE, LABEL_ROLE, LABEL_RUN, SYSTEM_NAMESPACE

CONTAINER: Final = "helper"  # of each such pod
LABEL_HELPED: Final = f"{GROUP}/receipt"  # on a helper pod: the receipt that it works for


def pod_name(receipt: Receipt, action: str) -> str:
    return f"helper-{action}-{receipt.id}"


def manifest(
    name: str,
    command: Sequence[str],
    *,
    node: str,
    run: str,
    seconds: float,
    privileged: bool = True,
    labels: Mapping[str, str] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a pod of ours on a node, in the system namespace: it sees the node's processes (`privileged`) and
    ends by itself.

    Args:
        seconds: after which the kubelet ends it.
        labels: beside the run's and the role's.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": {LABEL_RUN: run, LABEL_ROLE: "helper", **(labels or {})},
            "annotations": dict(KEEP_IN_PLACE),
        },
        "spec": {
            "nodeName": node,
            "hostPID": privileged,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "activeDeadlineSeconds": int(seconds),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": CONTAINER,
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command),
                    # privileged in name only as another user: no capability is effective then
                    "securityContext": {"privileged": True, "runAsUser": 0} if privileged else {},
                    "resources": dict(resources or {}),
                }
            ],
        },
    }


def plan_pod(
    receipt: Receipt,
    action: str,
    arguments: Sequence[str],
    *,
    seconds: float,
    module: str = "chaos.inpod.process_helper",
    node: str = "",
    privileged: bool = True,
    resources: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The helper pod's manifest. Named after the receipt: a second one for the same action cannot exist."""
    return manifest(
        pod_name(receipt, action),
        ["python", "-m", module, action, *arguments],
        node=node or receipt.target.node,
        run=receipt.run,
        seconds=seconds + 30,
        privileged=privileged,
        labels={LABEL_HELPED: receipt.id},
        resources=resources,
    )


def run(
    cluster: Cluster,
    receipt: Receipt,
    action: str,
    arguments: Sequence[str],
    *,
    awaited: str,
    seconds: float,
    module: str = "chaos.inpod.process_helper",
    node: str = "",
    privileged: bool = True,
    resources: dict[str, Any] | None = None,
) -> Evidence:
    """Start a helper and wait until it reports the awaited phase; it goes on holding its effect.

    Raises TargetVanished, NoEffect, or Misuse for a target on which the fault cannot act, as the helper found.
    """
    with contextlib.suppress(AlreadyExists):
        cluster.create(
            plan_pod(
                receipt,
                action,
                arguments,
                seconds=seconds,
                module=module,
                node=node,
                privileged=privileged,
                resources=resources,
            ),
            unique=True,
        )
    lines = []
    for line in _lines(cluster, pod_name(receipt, action), seconds + 20):
        lines.append(line)
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if said.get("phase") == awaited:
            return Evidence(int(said.get("effect", said["at"])), said)
        if said.get("phase") == "refused":
            raise Misuse(f"{receipt.fault} cannot act on {receipt.target}: {said['why']}")
        if said.get("phase") == FaultPhase.VANISHED:
            raise TargetVanished(
                f"{receipt.fault}: {receipt.target} has no process on node {receipt.target.node} any longer"
            )
    raise NoEffect(
        f"{receipt.fault} on {receipt.target}: the helper ended without saying {str(awaited)!r}: "
        f"{' | '.join(lines[-5:])}"
    )


def said(cluster: Cluster, receipt: Receipt, action: str, phase: str) -> dict[str, Any]:
    """Return the last line that a helper printed for a phase; empty when it printed none, or is gone."""
    try:
        text = cluster.logs(SYSTEM_NAMESPACE, pod_name(receipt, action))
    except ApiError:
        return {}
    found: dict[str, Any] = {}
    for line in text.splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if one.get("phase") == phase:
            found = one
    return found


def dismiss(cluster: Cluster, receipt: Receipt, action: str) -> None:
    """Tell a helper to undo its effect and exit; no effect when it is gone."""
    cluster.delete("Pod", pod_name(receipt, action), SYSTEM_NAMESPACE)


def end(cluster: Cluster, receipt: Receipt, action: str, *, seconds: float = 20.0) -> None:
    """Dismiss a helper and wait until its pod is gone: from then on it does nothing. Raises RecoveryFailed."""
    name = pod_name(receipt, action)
    dismiss(cluster, receipt, action)
    try:
        cluster.wait(
            f"helper pod {name} gone", lambda: cluster.find("Pod", name, SYSTEM_NAMESPACE) is None, seconds=seconds
        )
    except NotReady as error:
        raise RecoveryFailed(
            f"{receipt.target}: its helper may still act: {error}: is node {receipt.target.node} up?"
        ) from error


def sweep(cluster: Cluster, receipt: Receipt) -> None:
    """Dismiss any helpers of the receipt that are left."""
    for pod in cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"{LABEL_HELPED}={receipt.id}"):
        if not is_deleting(pod):
            cluster.delete("Pod", pod["metadata"]["name"], SYSTEM_NAMESPACE)


def hold_seconds(receipt: Receipt, seconds: float = 0.0) -> float:
    """Return how long a helper holds by itself: the fault's own time, or (0) until the receipt's deadline."""
    return seconds or max(1.0, (receipt.deadline - time.time_ns()) / 1e9)


def hold(cluster: Cluster, receipt: Receipt, action: str, seconds: float) -> Evidence:
    """Run a helper that holds a container until the fault's own time is over, or (0) the receipt's deadline."""
    longest = hold_seconds(receipt, seconds)
    arguments = [*container_arguments(receipt.target), "--for", str(longest)]
    return run(cluster, receipt, action, arguments, awaited=FaultPhase.INJECTED, seconds=longest)


def container_arguments(target: Target) -> list[str]:
    """Return the helper's arguments that name a container."""
    return ["--uid", target.uid, "--container", target.container_id.rpartition("//")[2]]


def _lines(cluster: Cluster, name: str, seconds: float) -> Iterator[str]:
    """Yield the helper's output as it arrives, from its start to its end.

    A node that is out of inotify instances cannot follow a log: the answer ends at once, after one line that says so,
    while the helper goes on. From there the whole log is asked for again and again.
    """
    status: dict[str, Any] = {}

    def state() -> dict[str, Any]:
        nonlocal status
        found = container_statuses(cluster.get("Pod", name, SYSTEM_NAMESPACE)) or [{}]
        status = found[0].get("state", {})
        return status

    def open_log() -> urllib3.BaseHTTPResponse | None:
        waiting = state().get("waiting", {})
        if str(waiting.get("reason", "")).startswith(("Err", "Image", "Create", "RunContainer")):
            raise ExperimentFailure(
                f"helper pod {name} cannot start: {waiting.get('reason')}: {waiting.get('message')}"
            )
        if not {"running", "terminated"} & status.keys():
            return None
        return cluster.open(
            "GET", object_path("Pod", SYSTEM_NAMESPACE, name, "log"), query={"follow": "true"}, read_timeout=seconds
        )

    deadline = time.monotonic() + seconds
    response = cluster.wait(f"helper pod {name} running", open_log, seconds=30, every=0.02)
    told: list[str] = []
    try:
        buffer = b""
        for chunk in response.stream(amt=None):
            buffer += chunk
            *whole, buffer = buffer.split(b"\n")
            for line in whole:
                told.append(line.decode(errors="replace"))
                yield told[-1]
        if buffer:
            told.append(buffer.decode(errors="replace"))
            yield told[-1]
    finally:
        response.close()
    while time.monotonic() < deadline:
        ended = "terminated" in state()
        for line in untold(told, cluster.logs(SYSTEM_NAMESPACE, name), ended=ended):
            told.append(line)
            yield line
        if ended:
            return
        time.sleep(0.1)


def untold(told: Sequence[str], log: str, *, ended: bool) -> list[str]:
    """Return the whole lines of a log beyond those that were told, in order. The last one may still be written, unless
    its container has ended. Pure.
    """
    lines = log.split("\n")
    last = lines.pop()
    if ended and last:
        lines.append(last)
    known = 0
    for line in told:  # a complaint of the follower is no line of the log
        known += known < len(lines) and lines[known] == line
    return lines[known:]
