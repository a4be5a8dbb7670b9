"""Node life cycle: a node without heartbeats turns Unknown and is tainted, and its pods are evicted when their
tolerations end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from chaos.embedded.clock import Clock, parse_time, stamp
from chaos.embedded.controllers.base import (
    Controller,
    Keys,
    Source,
    is_finished,
    is_ready,
    is_terminating,
    itself,
    key_of,
)
from chaos.embedded.objects import condition
from chaos.embedded.resources import LEASE, NODE, POD, Object
from chaos.embedded.store import Key, Store, WatchEvent

GRACE: Final = 50.0  # seconds without a heartbeat (kube-controller-manager --node-monitor-grace-period, since 1.32)
LEASES: Final = "kube-node-lease"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
ORPHAN_GRACE: Final = 40.0  # seconds that pods outlive their Node object (podgc's quarantine)
_CONDITIONS: Final = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")


def unknown_conditions(node: Object, now: datetime) -> list[dict[str, Any]]:
    """The conditions of a node without heartbeats."""
    held = {entry["type"]: entry for entry in node.get("status", {}).get("conditions", [])}
    found = [dict(entry) for entry in held.values() if entry["type"] not in _CONDITIONS]
    for kind in _CONDITIONS:
        before = held.get(kind)
        if before is not None and before["status"] == "Unknown":
            found.append(dict(before))
            continue
        reason, message = (
            ("NodeStatusUnknown", "Kubelet stopped posting node status.")
            if before is not None
            else ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
        )
        beat = before.get("lastHeartbeatTime") if before is not None else node["metadata"]["creationTimestamp"]
        found.append(
            {
                "type": kind,
                "status": "Unknown",
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": beat,
                "lastTransitionTime": stamp(now),
            }
        )
    return found


def plan_taints(node: Object) -> tuple[str | None, str | None]:
    """(taint key that the node's readiness requires, the one that it excludes); (None, None) for a ready node."""
    ready = condition(node, "Ready")
    if ready is None or ready["status"] == "Unknown":
        return UNREACHABLE, NOT_READY
    return (None, None) if ready["status"] == "True" else (NOT_READY, UNREACHABLE)


def toleration_left(pod: Object, taints: Sequence[Mapping[str, Any]], now: datetime) -> float | None:
    """Seconds until NoExecute taints evict the pod: 0 now, None never. The shortest toleration counts, from the first
    taint.
    """
    if not taints:
        return None
    shortest: float | None = None
    for taint in taints:
        fitting = [
            one
            for one in pod["spec"].get("tolerations", [])
            if one.get("effect", "NoExecute") in ("", "NoExecute")
            and one.get("key", taint["key"]) in ("", taint["key"])
            and (one.get("operator", "Equal") == "Exists" or one.get("value", "") == taint.get("value", ""))
        ]
        if not fitting:
            return 0.0
        limits = [one["tolerationSeconds"] for one in fitting if one.get("tolerationSeconds") is not None]
        if limits:
            shortest = min(limits) if shortest is None else min(shortest, *limits)
    if shortest is None:
        return None
    since = (
        min(parse_time(taint["timeAdded"]) for taint in taints if "timeAdded" in taint)
        if any("timeAdded" in t for t in taints)
        else now
    )
    return max(0.0, shortest - (now - since).total_seconds())


class NodeLifecycle(Controller):
    """Watches heartbeats: leases, and changes of nodes' status."""

    name = "node-controller"

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._beat: dict[str, datetime] = {}

    def sources(self) -> Sequence[Source]:
        return [(NODE, self._node), (LEASE, self._lease)]

    def _node(self, event: WatchEvent) -> Keys:
        name = event.object["metadata"]["name"]
        if event.type == "DELETED":
            self._beat.pop(name, None)
            return []
        if event.before is None or _heartbeat(event.before) != _heartbeat(event.object):
            self._beat[name] = self.clock.now()
        return [("", name)]

    def _lease(self, event: WatchEvent) -> Keys:
        meta = event.object["metadata"]
        if meta["namespace"] == LEASES and event.type != "DELETED":
            self._beat[meta["name"]] = self.clock.now()
        return []

    def reconcile(self, key: Key) -> float | None:
        node = self.store.find(NODE, *key)
        if node is None:
            return None
        now = self.clock.now()
        node = self._cordoned(node, now)
        silent = (now - self._beat.setdefault(key[1], now)).total_seconds()
        if (
            silent >= GRACE
            and (node_ready := condition(node, "Ready")) is not None
            and node_ready["status"] != "Unknown"
        ) or (silent >= GRACE and condition(node, "Ready") is None):
            node = self.store.mutate(
                NODE,
                *key,
                lambda new: new.setdefault("status", {}).__setitem__("conditions", unknown_conditions(new, now)),
            )
        wanted, _ = plan_taints(node)
        before = {taint["key"] for taint in node["spec"].get("taints", [])}
        if wanted is not None and wanted not in before:
            self.recorder.event(node, "Normal", "NodeNotReady", f"Node {key[1]} status is now: NodeNotReady")
        node = self._taint(node, wanted, "NoSchedule", now)
        if wanted is not None:
            self._mark_pods(key[1])
        self._taint(node, wanted, "NoExecute", now)
        return max(0.05, GRACE - silent) if silent < GRACE else 5.0

    def _taint(self, node: Object, wanted: str | None, effect: str, now: datetime) -> Object:
        """Set one effect at a time, NoSchedule first: two writes, as by upstream's two workers."""

        def change(new: dict[str, Any]) -> None:
            taints = [
                taint
                for taint in new["spec"].get("taints", [])
                if taint["effect"] != effect or taint["key"] not in (UNREACHABLE, NOT_READY) or taint["key"] == wanted
            ]
            if wanted is not None and not any(t["key"] == wanted and t["effect"] == effect for t in taints):
                taints.append({"key": wanted, "effect": effect, "timeAdded": stamp(now)})
            if taints:
                new["spec"]["taints"] = taints
            else:
                new["spec"].pop("taints", None)

        return self.store.mutate(NODE, *key_of(node), change)

    def _cordoned(self, node: Object, now: datetime) -> Object:
        """Set the taint of `spec.unschedulable`."""
        cordoned = bool(node["spec"].get("unschedulable"))
        if cordoned == any(taint["key"] == UNSCHEDULABLE for taint in node["spec"].get("taints", [])):
            return node

        def change(new: dict[str, Any]) -> None:
            taints = [taint for taint in new["spec"].get("taints", []) if taint["key"] != UNSCHEDULABLE]
            if cordoned:
                taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule", "timeAdded": stamp(now)})
            new["spec"]["taints"] = taints
            if not taints:
                del new["spec"]["taints"]

        return self.store.mutate(NODE, *key_of(node), change)

    def _mark_pods(self, name: str) -> None:
        """Mark the pods of a silent node unready, which its kubelet cannot do."""
        at = stamp(self.clock.now())
        for pod in self.store.list(POD):
            if pod["spec"].get("nodeName") == name and is_ready(pod):
                self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
                self.store.mutate(POD, *key_of(pod), lambda new: _unready(new, at))


def _unready(pod: dict[str, Any], at: str) -> None:
    for entry in pod["status"]["conditions"]:
        if entry["type"] == "Ready":
            entry.update(status="False", lastTransitionTime=at)


def _heartbeat(node: Object) -> Any:
    ready = condition(node, "Ready")
    return ready.get("lastHeartbeatTime") if ready is not None else None


class TaintEviction(Controller):
    """Deletes pods from nodes with NoExecute taints when their tolerations end."""

    name = "taint-eviction-controller"

    def sources(self) -> Sequence[Source]:
        return [(POD, self._bound), (NODE, self._tainted)]

    def _bound(self, event: WatchEvent) -> Keys:
        newly = event.before is None or event.before["spec"] != event.object["spec"]
        return itself(event) if newly and event.type != "DELETED" and event.object["spec"].get("nodeName") else []

    def _tainted(self, event: WatchEvent) -> Keys:
        before = event.before["spec"].get("taints", []) if event.before is not None else []
        if event.type == "DELETED" or event.object["spec"].get("taints", []) == before:
            return []
        return [
            key_of(pod)
            for pod in self.store.list(POD)
            if pod["spec"].get("nodeName") == event.object["metadata"]["name"]
        ]

    def reconcile(self, key: Key) -> float | None:
        pod = self.store.find(POD, *key)
        if pod is None or is_terminating(pod) or is_finished(pod) or not pod["spec"].get("nodeName"):
            return None
        node = self.store.find(NODE, "", pod["spec"]["nodeName"])
        taints = [taint for taint in (node["spec"].get("taints", []) if node else []) if taint["effect"] == "NoExecute"]
        left = toleration_left(pod, taints, self.clock.now())
        if left is None or left > 0:
            return left
        self.recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key[0]}/{key[1]}")
        at = stamp(self.clock.now())
        marked = self.store.mutate(
            POD,
            *key,
            lambda new: (
                new.setdefault("status", {})
                .setdefault("conditions", [])
                .append(
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "DeletionByTaintManager",
                        "lastProbeTime": None,
                        "lastTransitionTime": at,
                        "message": "Taint manager: deleting due to NoExecute taint",
                    }
                )
            ),
        )
        self.delete(POD, marked)
        return None


class PodCollector(Controller):
    """Deletes pods that no kubelet will ever end: bound to a node whose object is gone."""

    name = "pod-garbage-collector"

    def sources(self) -> Sequence[Source]:
        return [(POD, self._bound), (NODE, self._lost)]

    def _bound(self, event: WatchEvent) -> Keys:
        node = event.object["spec"].get("nodeName")
        return itself(event) if node and event.type == "ADDED" and self.store.find(NODE, "", node) is None else []

    def _lost(self, event: WatchEvent) -> Keys:
        if event.type != "DELETED":
            return []
        return [
            key_of(pod)
            for pod in self.store.list(POD)
            if pod["spec"].get("nodeName") == event.object["metadata"]["name"]
        ]

    def enqueue(self, keys: Keys, event: WatchEvent) -> None:
        for key in keys:
            self.queue.add_after(key, ORPHAN_GRACE)

    def reconcile(self, key: Key) -> float | None:
        pod = self.store.find(POD, *key)
        if (
            pod is not None
            and pod["spec"].get("nodeName")
            and self.store.find(NODE, "", pod["spec"]["nodeName"]) is None
        ):
            self.delete(POD, pod, grace=0)
        return None
