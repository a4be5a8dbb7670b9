"""The next actions for a pod: which containers to start or kill, or to end it. Pure.

Kubernetes' computePodActions (pkg/kubelet/kuberuntime): init containers one by one, native sidecars among them until
they have started, then the others together. Starting a container checks its back-off, not this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.embedded.kubelet.container_records import PodState, Record, is_sidecar, restarts
from chaos.embedded.kubelet.status import should_restart
from chaos.embedded.resources import Object


@dataclass(frozen=True, slots=True)
class Kill:
    """A container to kill, and its Event's message."""

    record: Record
    message: str


@dataclass(frozen=True, slots=True)
class Actions:
    """Actions in order."""

    sandbox: bool = False  # a (new) sandbox is needed first
    kill: tuple[Kill, ...] = ()
    start: tuple[str, ...] = ()
    end: bool = False  # the pod has run its course: end what still runs


def plan_actions(pod: Object, state: PodState) -> Actions:
    """Plan the next actions; `Actions()` when there is nothing to do."""
    spec = pod["spec"]
    if not state.sandbox_ready:
        ran_out = state.sandbox >= 0 and spec.get("restartPolicy") == "Never" and any(state.records.values())
        return Actions(end=True) if ran_out else Actions(sandbox=True)
    kills: list[Kill] = []
    starts: list[str] = []
    inits = spec.get("initContainers", [])
    mains_created = any(state.current(c["name"]) for c in spec["containers"])
    for container in inits:
        record = state.current(container["name"])
        if is_sidecar(container):
            again = _check(pod, container, record, state, kills)
            if again:
                starts.append(container["name"])
            probes = state.probes.get(record.id) if record is not None else None
            if not mains_created and (again or probes is None or not probes.started):
                return Actions(kill=tuple(kills), start=tuple(starts))
        elif not mains_created:
            if record is None:
                return Actions(kill=tuple(kills), start=(*starts, container["name"]))
            if record.state == "running":
                return Actions(kill=tuple(kills), start=tuple(starts))
            if record.exit_code != 0:
                if not restarts(pod, container, record.exit_code):
                    return Actions(end=True)
                return Actions(kill=tuple(kills), start=(*starts, container["name"]))
    over = True
    for container in spec["containers"]:
        record = state.current(container["name"])
        if _check(pod, container, record, state, kills):
            starts.append(container["name"])
            over = False
        elif record is not None and record.state == "running":
            over = over and any(kill.record is record for kill in kills)
    if over:
        return Actions(end=True)
    return Actions(kill=tuple(kills), start=tuple(starts))


def _check(
    pod: Object, container: Mapping[str, Any], record: Record | None, state: PodState, kills: list[Kill]
) -> bool:
    """Whether to start or restart the container; adds it to `kills` when a probe has failed it."""
    if record is None:
        return True
    if record.state == "exited":
        return should_restart(pod, container, record, terminal=state.terminal)
    probes = state.probes.get(record.id)
    if probes is None or not probes.failed:
        return False
    again = restarts(pod, container, 137)  # it is about to be killed
    tail = ", will be restarted" if again else ""
    kills.append(Kill(record, f"Container {record.name} failed {probes.failed} probe{tail}"))
    return again
