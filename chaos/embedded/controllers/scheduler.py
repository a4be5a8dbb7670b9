"""The scheduler: bind each pending pod to the node that `placement` scores highest; ties are broken at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from chaos.embedded import claims
from chaos.embedded.clock import Clock, stamp
from chaos.embedded.controllers.base import Controller, Source, controller_of, is_finished, is_terminating, key_of
from chaos.embedded.controllers.labels import matches, selects
from chaos.embedded.controllers.placement import NodeInfo, failure_message, filter_node, score_nodes
from chaos.embedded.controllers.volume_binding import PodVolumes
from chaos.embedded.objects import condition
from chaos.embedded.quantity import pod_requests
from chaos.embedded.resources import (
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    REPLICA_SET,
    SERVICE,
    STATEFUL_SET,
    STORAGE_CLASS,
    Object,
)
from chaos.embedded.store import Key, Store, WatchEvent

NAME: Final = "default-scheduler"
LOOK_AGAIN: Final = (
    300.0  # seconds after which an unschedulable pod is tried again whatever happened (upstream: 5 minutes)
)


def choose(
    pod: Object,
    infos: Sequence[NodeInfo],
    siblings: Callable[[Object], bool],
    chance: random.Random,
    volumes: Callable[[NodeInfo], str | None] = lambda info: None,
) -> str | dict[str, str]:
    """The chosen node's name, or each node's reason for refusal."""
    reasons: dict[str, str] = {}
    feasible = []
    for info in infos:
        reason = filter_node(pod, info, infos, volumes)
        if reason is None:
            feasible.append(info)
        else:
            reasons[info.name] = reason
    if not feasible:
        return reasons
    if len(feasible) == 1:
        return feasible[0].name
    scores = score_nodes(pod, feasible, infos, siblings)
    best = max(scores.values())
    return chance.choice([name for name, score in scores.items() if score >= best - 1e-9])


class Scheduler(Controller):
    name = NAME
    event_instance = NAME

    def __init__(self, store: Store, clock: Clock, chance: random.Random | None = None) -> None:
        super().__init__(store, clock)
        self._chance = chance or random.Random()
        self._waiting: set[Key] = set()  # unschedulable at the last try
        self._requests: dict[str, tuple[int, Mapping[str, Fraction]]] = {}  # by UID, with the pod's generation

    def sources(self) -> Sequence[Source]:
        return [
            (POD, self._pod),
            (NODE, self._node),
            (PERSISTENT_VOLUME_CLAIM, self._claim),
            (PERSISTENT_VOLUME, self._storage),
            (STORAGE_CLASS, self._storage),
        ]

    def _claim(self, event: WatchEvent) -> Sequence[Key]:
        namespace, name = key_of(event.object)
        waiting = [(key, self.store.find(POD, *key)) for key in self._waiting if key[0] == namespace]
        return [key for key, pod in waiting if pod is not None and any(name == one for one, _ in claims.claims_of(pod))]

    def _storage(self, _: WatchEvent) -> Sequence[Key]:
        waiting = [(key, self.store.find(POD, *key)) for key in self._waiting]
        return [key for key, pod in waiting if pod is not None and any(True for _ in claims.claims_of(pod))]

    def _pod(self, event: WatchEvent) -> Sequence[Key]:
        pod, key = event.object, key_of(event.object)
        if event.type == "DELETED":
            self._waiting.discard(key)
            self._requests.pop(pod["metadata"]["uid"], None)
        elif not pod["spec"].get("nodeName") and not is_terminating(pod):
            # its own status, written here, is no reason to try again
            changed = (
                event.before is None
                or event.before["spec"] != pod["spec"]
                or event.before["metadata"].get("labels") != pod["metadata"].get("labels")
            )
            return [key] if changed else []
        freed = bool(pod["spec"].get("nodeName")) and (
            event.type == "DELETED" or (is_finished(pod) and event.before is not None and not is_finished(event.before))
        )
        bound = (
            event.type != "DELETED"
            and bool(pod["spec"].get("nodeName"))
            and (event.before is None or not event.before["spec"].get("nodeName"))
        )
        return list(self._waiting) if freed or bound else []  # room was made, or a pod that others want to be near

    def _node(self, event: WatchEvent) -> Sequence[Key]:
        before = event.before
        same = (
            before is not None
            and before["spec"] == event.object["spec"]
            and before["metadata"].get("labels") == event.object["metadata"].get("labels")
            and before.get("status", {}).get("allocatable") == event.object.get("status", {}).get("allocatable")
        )
        return [] if same else list(self._waiting)

    def reconcile(self, key: Key) -> float | None:
        pod = self.store.find(POD, *key)
        self._waiting.discard(key)
        if pod is None or pod["spec"].get("nodeName") or is_terminating(pod) or is_finished(pod):
            return None
        if pod["spec"].get("schedulerName", NAME) != NAME or pod["spec"].get("schedulingGates"):
            return None
        volumes, infos = PodVolumes(self.store, pod), self._infos()
        if volumes.problem:
            return self._refuse(pod, failure_message({info.name: volumes.problem for info in infos}, volumes.problem))
        found = choose(pod, infos, self._siblings(pod), self._chance, volumes.against)
        if isinstance(found, str):
            if not volumes.reserve(self.store.get(NODE, "", found)):
                self._waiting.add(key)  # until its claims are bound
                return LOOK_AGAIN
            bind(self.store, pod, found, stamp(self.clock.now()))
            self.recorder.event(
                pod, "Normal", "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {found}", action="Binding"
            )
            return None
        return self._refuse(pod, failure_message(found))

    def _refuse(self, pod: Object, message: str) -> float:
        """Report why the pod is unschedulable, and retry when something changes."""
        key = key_of(pod)
        self._waiting.add(key)
        held = condition(pod, "PodScheduled")
        if held is None or held.get("message") != message:
            self.store.mutate(
                POD,
                *key,
                lambda new: _set_scheduled(
                    new,
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": message,
                        "lastProbeTime": None,
                        "lastTransitionTime": (held or {}).get("lastTransitionTime") or stamp(self.clock.now()),
                    },
                ),
            )
            self.recorder.event(pod, "Warning", "FailedScheduling", message, action="Scheduling")
        return LOOK_AGAIN

    def _infos(self) -> list[NodeInfo]:
        infos = {node["metadata"]["name"]: NodeInfo(node, requests=self._asked) for node in self.store.list(NODE)}
        for pod in self.store.list(POD):
            node = pod["spec"].get("nodeName")
            if node in infos and not is_finished(pod):
                infos[node].pods.append(pod)
        return list(infos.values())

    def _asked(self, pod: Object) -> Mapping[str, Fraction]:
        """pod_requests, cached until the pod's spec changes."""
        uid, generation = pod["metadata"]["uid"], pod["metadata"].get("generation", 0)
        held = self._requests.get(uid)
        if held is None or held[0] != generation:
            held = self._requests[uid] = (generation, pod_requests(pod))
        return held[1]

    def _siblings(self, pod: Object) -> Callable[[Object], bool]:
        """Select pods of the same Services, ReplicaSet or StatefulSet, which the default constraints spread."""
        namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
        selectors: list[Any] = [
            {"matchLabels": service["spec"]["selector"]}
            for service in self.store.list(SERVICE, namespace)
            if selects(service["spec"].get("selector"), labels)
        ]
        owner = controller_of(pod)
        for resource in (REPLICA_SET, STATEFUL_SET):
            if owner is not None and owner["kind"] == resource.kind:
                holder = self.store.find(resource, namespace, owner["name"])
                if holder is not None:
                    selectors.append(holder["spec"]["selector"])
        if not selectors:
            return lambda other: False
        return lambda other: (
            other["metadata"]["namespace"] == namespace
            and all(matches(selector, other["metadata"].get("labels")) for selector in selectors)
        )


def bind(store: Store, pod: Object, node: str, at: str) -> Object:
    """Assign the pod to the node (also for the `binding` subresource)."""

    def change(new: dict[str, Any]) -> None:
        new["spec"]["nodeName"] = node
        _set_scheduled(new, {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": at})

    return store.mutate(POD, *key_of(pod), change, uid=pod["metadata"]["uid"])


def _set_scheduled(pod: dict[str, Any], entry: dict[str, Any]) -> None:
    status = pod.setdefault("status", {})
    status["conditions"] = [held for held in status.get("conditions", []) if held["type"] != "PodScheduled"] + [entry]
