"""Events as client-go's recorders write them: one object per (involved object, reason, message), counted when it
repeats.

There are two forms. The core recorder's (kubelet, controllers) has `count`, `firstTimestamp` and `lastTimestamp`; the
newer one (scheduler) has `eventTime`, `action` and, once repeated, `series`. Used by controllers and kubelets.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from chaos.embedded.clock import Clock, SystemClock, micro_stamp, stamp
from chaos.embedded.resources import EVENT, NAMESPACE, Object
from chaos.embedded.store import NotFound, Store

REMEMBERED: Final = (
    4096  # as client-go's correlator keeps: the oldest are forgotten, and a repetition starts a new Event
)
API_VERSIONS: Final = {
    "Pod": "v1",
    "Node": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}


class EventRecorder:
    """Records Events of one component.

    Args:
        component: `kubelet`, `job-controller`, ….
        host: the node, for a kubelet.
        instance: selects the newer form; the `reportingInstance`.
    """

    def __init__(
        self,
        store: Store,
        component: str,
        host: str | None = None,
        *,
        instance: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._component = component
        self._host = host
        self._instance = instance
        self._clock = clock or SystemClock()
        self._seen: OrderedDict[tuple[str, ...], tuple[str, str]] = OrderedDict()

    def event(
        self, obj: Object, type: str, reason: str, message: str, field_path: str = "", *, action: str = ""
    ) -> None:
        """Record a `Normal` or `Warning` Event of an object, unless its namespace is terminating or gone."""
        meta = obj["metadata"]
        namespace = meta.get("namespace") or "default"
        about = self._store.find(NAMESPACE, "", namespace)
        if about is not None and "deletionTimestamp" in about["metadata"]:
            return
        key = (namespace, meta["name"], meta.get("uid", ""), type, reason, message, field_path)
        known = self._seen.get(key)
        if known is not None:
            self._seen.move_to_end(key)
            try:
                self._store.mutate(EVENT, *known, self._again)
                return
            except NotFound:  # expired, or deleted by somebody: a new one
                pass
        event = self._new(obj, namespace, type, reason, message, field_path, action)
        self._store.create(EVENT, event)
        self._seen[key] = (namespace, event["metadata"]["name"])
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _again(self, event: dict[str, Any]) -> None:
        now = self._clock.now()
        if self._instance is not None:
            count = event.get("series", {}).get("count", 1) + 1
            event["series"] = {"count": count, "lastObservedTime": micro_stamp(now)}
        else:
            event["count"] += 1
            event["lastTimestamp"] = stamp(now)

    def _new(
        self, obj: Object, namespace: str, type: str, reason: str, message: str, field_path: str, action: str
    ) -> dict[str, Any]:
        meta = obj["metadata"]
        now = self._clock.now()
        involved = {
            "apiVersion": obj.get("apiVersion") or API_VERSIONS[obj["kind"]],
            "kind": obj["kind"],
            "name": meta["name"],
            "resourceVersion": meta.get("resourceVersion"),
            "uid": meta.get("uid"),
        }
        if "namespace" in meta:
            involved["namespace"] = meta["namespace"]
        if field_path:
            involved["fieldPath"] = field_path
        # seconds and the store's version: apart even when the clock stands still; 16 hex digits as client-go's
        name = f"{meta['name']}.{int(now.timestamp()) * 10**9 + self._store.version % 10**9:016x}"
        event: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {k: v for k, v in involved.items() if v is not None},
            "reason": reason,
            "message": message,
            "type": type,
            "reportingComponent": self._component,
            "reportingInstance": self._instance or self._host or "",
        }
        if self._instance is not None:
            return event | {
                "action": action or reason,
                "eventTime": micro_stamp(now),
                "firstTimestamp": None,
                "lastTimestamp": None,
                "source": {},
            }
        source = {"component": self._component} | ({"host": self._host} if self._host else {})
        return event | {
            "count": 1,
            "eventTime": None,
            "firstTimestamp": stamp(now),
            "lastTimestamp": stamp(now),
            "source": source,
        }
