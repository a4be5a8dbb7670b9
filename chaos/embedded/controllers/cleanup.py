"""Expiry: finished Jobs with a TTL, and Events an hour after they were last seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaos.embedded.clock import parse_time
from chaos.embedded.controllers.base import Controller, Keys, Source, is_terminating, itself
from chaos.embedded.objects import true_condition, turned_at
from chaos.embedded.resources import EVENT, JOB, Object
from chaos.embedded.store import Key, NotFound, WatchEvent

EVENT_TTL: Final = 3600.0  # kube-apiserver --event-ttl


class JobTtl(Controller):
    name = "ttl-after-finished-controller"

    def sources(self) -> Sequence[Source]:
        return [(JOB, itself)]

    def reconcile(self, key: Key) -> float | None:
        job = self.store.find(JOB, *key)
        if job is None or is_terminating(job) or job["spec"].get("ttlSecondsAfterFinished") is None:
            return None
        for kind in ("Complete", "Failed"):
            held = true_condition(job, kind)
            at = turned_at(held) if held is not None else None
            if at is not None:  # Kubernetes' own refuses, too, to guess when a Job ended
                left = job["spec"]["ttlSecondsAfterFinished"] - (self.clock.now() - at).total_seconds()
                if left > 0:
                    return float(left)
                self.delete(JOB, job, propagation="Foreground")
        return None


def last_seen(event: Object) -> str:
    """When an Event was last recorded, in either of its forms."""
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )


class EventExpiry(Controller):
    """Deletes old Events, which would otherwise fill memory."""

    name = "event-expiry"

    def sources(self) -> Sequence[Source]:
        return [(EVENT, self._added)]

    def _added(self, event: WatchEvent) -> Keys:
        return itself(event) if event.type == "ADDED" else []

    def enqueue(self, keys: Keys, event: WatchEvent) -> None:
        for key in keys:
            self.queue.add_after(key, EVENT_TTL)

    def reconcile(self, key: Key) -> float | None:
        event = self.store.find(EVENT, *key)
        if event is None:
            return None
        left = EVENT_TTL - (self.clock.now() - parse_time(last_seen(event))).total_seconds()
        if left > 0:
            return left
        try:
            self.store.remove(EVENT, *key)
        except NotFound:
            return None
        return None
