"""The agent's work: `plan_pods` chooses the pods to serve, `NodeAgent.step` brings each one step further.

A pod's way: its sandbox is found -> linked for Envoy and noted in its annotation (so that the control plane sends the
listeners) -> Envoy is seen to listen in its namespace -> its traffic is captured -> its readiness gate says so. The
order is the safety: captured before anything listens would refuse traffic, ready before captured would let plain text
pass. A namespace that leaves the mesh has its pods released; a pod that goes takes its rules with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from chaos.errors import ApiError, EnvironmentUnfit
from chaos.kube.objects import probed_ports, rfc3339
from chaos.kube.placement import is_captured, stands_apart
from chaos.mesh import capture
from chaos.mesh.agent.sandboxes import Sandbox, find_sandboxes, link, listening_ports, prune
from chaos.mesh.modes import known_modes, mode_named
from chaos.names import (
    ANNOTATION_SANDBOX,
    CONDITION_CAPTURED,
    LABEL_MESH,
    LABEL_MODE,
    PORT_HBONE,
    PORT_INBOUND,
    PORT_OUTBOUND,
    REASON_RELEASED,
)

log = logging.getLogger(__name__)
Object = Mapping[str, Any]
SOON: Final = 0.03  # how often a pod under way is looked at
CALM: Final = 1.0  # how often everything is looked at
_EAGER_SECONDS: Final = 10.0  # how long a pod whose sandbox is not found yet is looked for often


class Api(Protocol):
    """The part of the API client that the agent uses; chaos.kube.client.Cluster is one."""

    def patch(
        self,
        kind: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        how: Literal["merge", "strategic", "json"] = "merge",
        subresource: str | None = None,
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class PodTask:
    """A pod that this agent serves."""

    uid: str
    namespace: str
    name: str
    mode: str
    annotated: str  # the sandbox that its annotation names
    captured: bool  # what its condition says
    probed: frozenset[int]  # the ports that the kubelet connects to

    @property
    def inbound(self) -> capture.Inbound:
        return capture.Inbound.TUNNEL if mode_named(self.mode).separate_layers else capture.Inbound.REDIRECT

    @property
    def ports(self) -> set[int]:
        return {PORT_OUTBOUND, PORT_HBONE if self.inbound is capture.Inbound.TUNNEL else PORT_INBOUND}


def plan_pods(pods: Iterable[Object], meshed: Collection[str], node: str) -> tuple[list[PodTask], list[PodTask]]:
    """Return (to serve, to release): the node's application pods in the mesh, and those whose namespace has left
    it.

    A pod that cannot be read is skipped: it must not keep the others from being served.
    """
    serve, release = [], []
    for pod in pods:
        try:
            wanted = _wanted(pod, node)
            if wanted is None:
                continue
            if wanted.namespace in meshed:
                serve.append(wanted)
            elif wanted.captured or wanted.annotated:
                release.append(wanted)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            log.warning("a pod is skipped, for it cannot be read: %r", error)
    return serve, release


def _wanted(pod: Object, node: str) -> PodTask | None:
    """Return the pod, when it is on this node and its mode captures from outside; raises for one that cannot be
    read.
    """
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    mode = known_modes().get((meta.get("labels") or {}).get(LABEL_MODE, ""))
    if (
        spec.get("nodeName") != node
        or spec.get("hostNetwork")
        or status.get("phase") in ("Succeeded", "Failed")
        or mode is None
        or mode.in_pod
        or not mode.hops
        or stands_apart(pod, mode)
    ):
        return None
    captured = is_captured(pod)
    names = (meta["uid"], meta["namespace"], meta["name"])
    annotated = (meta.get("annotations") or {}).get(ANNOTATION_SANDBOX, "")
    if not all(isinstance(one, str) for one in (*names, annotated)):
        raise TypeError(f"{names} and {annotated!r} should be texts")
    return PodTask(*names, mode.name, annotated, captured, probed_ports(spec))


@dataclass(slots=True)
class NodeAgent:
    """One node's agent. `step` is called after each change and, while something is under way, every `SOON` seconds."""

    api: Api
    node: str
    node_ips: list[str]
    folder: Path
    proc: Path = Path("/proc")
    clock: Callable[[], float] = time.monotonic
    pods: dict[str, Object] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)
    done: dict[str, str] = field(default_factory=dict)  # UID -> sandbox whose rules were seen in place
    problems: dict[str, str] = field(default_factory=dict)  # UID -> why it is not further
    _since: dict[str, float] = field(default_factory=dict)
    _known: dict[str, Sandbox] = field(default_factory=dict)

    def take(self, kind: str, change: str, obj: Object) -> None:
        """Fold one watch event of Pod or Namespace."""
        meta = obj["metadata"]
        gone = change == "DELETED"
        if kind == "Namespace":
            if not gone and (meta.get("labels") or {}).get(LABEL_MESH) == "enabled":
                self.namespaces.add(meta["name"])
            else:
                self.namespaces.discard(meta["name"])
        elif gone:
            self.pods.pop(meta["uid"], None)
        else:
            self.pods[meta["uid"]] = obj

    def step(self) -> float:
        """Bring every pod as far as possible now; return the seconds until the next look."""
        serve, release = plan_pods(self.pods.values(), self.namespaces, self.node)
        alive = {pod.uid for pod in (*serve, *release)}
        for table in (self.done, self.problems, self._since, self._known):
            for uid in table.keys() - alive:
                del table[uid]
        if any(not self._fresh(pod.uid) for pod in (*serve, *release)):
            self._known = {uid: s for uid, s in find_sandboxes(self.proc).items() if uid in alive}
        keep, wait = set(), CALM
        for pod in serve:
            sandbox = self._known.get(pod.uid)
            if sandbox is None:
                since = self._since.setdefault(pod.uid, self.clock())
                self.problems[pod.uid] = "no process of the pod is seen yet"
                wait = min(wait, SOON if self.clock() - since < _EAGER_SECONDS else CALM)
                continue
            keep.add(sandbox.name)
            try:
                if not self._serve(pod, sandbox):
                    wait = SOON
            except (ApiError, EnvironmentUnfit, OSError) as error:
                self._trouble(pod, str(error))
                wait = min(wait, 0.2)
        for pod in release:
            try:
                self._release(pod)
            except (ApiError, EnvironmentUnfit, OSError) as error:
                self._trouble(pod, str(error))
                wait = min(wait, 0.2)
        prune(self.folder, keep)
        return wait

    def _trouble(self, pod: PodTask, text: str) -> None:
        if self.problems.get(pod.uid) != text:
            log.warning("%s/%s: %s", pod.namespace, pod.name, text)
        self.problems[pod.uid] = text

    def _fresh(self, uid: str) -> bool:
        """Whether the known sandbox still exists: a dead process's PID may have been reused."""
        sandbox = self._known.get(uid)
        if sandbox is None:
            return False
        try:
            return (self.proc / str(sandbox.pid) / "ns" / "net").stat().st_ino == sandbox.inode
        except OSError:
            return False

    def _serve(self, pod: PodTask, sandbox: Sandbox) -> bool:
        """Serve one pod as far as possible; return whether it is finished."""
        link(self.folder, sandbox, self.proc)
        if pod.annotated != sandbox.name:
            self.api.patch(
                "Pod", pod.name, {"metadata": {"annotations": {ANNOTATION_SANDBOX: sandbox.name}}}, pod.namespace
            )
            self._note(pod.uid, annotation=sandbox.name)
        if self.done.get(pod.uid) != sandbox.name:
            missing = pod.ports - listening_ports(sandbox.pid, self.proc)
            waiting = f"Envoy does not listen yet on {', '.join(map(str, sorted(missing)))}"
            if missing and not pod.captured:
                self.problems[pod.uid] = waiting
                return False
            net = self.proc / str(sandbox.pid) / "net"
            plan = capture.plan_capture(
                inbound=pod.inbound,
                ipv6=capture.has_ipv6(net),
                node=capture.node_addresses(self.node_ips, net),
                probed=pod.probed,
            )
            netns = str(self.proc / str(sandbox.pid) / "ns" / "net")
            if not capture.is_applied(plan, netns=netns):
                if missing:
                    self.problems[pod.uid] = waiting
                    return False
                capture.apply_rules(plan, netns=netns)
                log.info("%s/%s is captured", pod.namespace, pod.name)
            self.done[pod.uid] = sandbox.name
        if not pod.captured:
            self._condition(pod, True)
        self.problems.pop(pod.uid, None)
        return True

    def _release(self, pod: PodTask) -> None:
        if sandbox := self._known.get(pod.uid):
            net = self.proc / str(sandbox.pid) / "net"
            capture.apply_rules(
                capture.plan_release(ipv6=capture.has_ipv6(net)), netns=str(self.proc / str(sandbox.pid) / "ns" / "net")
            )
        self.done.pop(pod.uid, None)
        if pod.captured:
            self._condition(pod, False)
        if pod.annotated:
            self.api.patch("Pod", pod.name, {"metadata": {"annotations": {ANNOTATION_SANDBOX: None}}}, pod.namespace)
            self._note(pod.uid, annotation=None)
        log.info("%s/%s is released", pod.namespace, pod.name)

    def _condition(self, pod: PodTask, captured: bool) -> None:
        """Say that the pod is captured, or released: either way nothing is left that its readiness waits for."""
        condition = {
            "type": CONDITION_CAPTURED,
            "status": "True",
            "reason": "Captured" if captured else REASON_RELEASED,
            "lastTransitionTime": rfc3339(),
        }
        self.api.patch(
            "Pod",
            pod.name,
            {"status": {"conditions": [condition]}},
            pod.namespace,  # merged by type
            how="strategic",
            subresource="status",
        )
        self._note(pod.uid, condition=condition)

    def _note(self, uid: str, *, annotation: str | None = "", condition: Mapping[str, str] | None = None) -> None:
        """Remember what was just written, so that a step before its watch event does not write it again."""
        pod = self.pods.get(uid)
        if pod is None:
            return
        meta, status = dict(pod["metadata"]), dict(pod.get("status") or {})
        if annotation != "":
            meta["annotations"] = {**(meta.get("annotations") or {}), ANNOTATION_SANDBOX: annotation or ""}
        if condition is not None:
            others = [c for c in status.get("conditions") or [] if c["type"] != condition["type"]]
            status["conditions"] = [*others, condition]
        self.pods[uid] = {**pod, "metadata": meta, "status": status}

    def status(self) -> dict[str, Any]:
        """For the status port."""
        return {"node": self.node, "captured": dict(self.done), "waiting": dict(self.problems)}
