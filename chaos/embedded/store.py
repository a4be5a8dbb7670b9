"""The cluster's state: versioned objects and their watches, in memory, on one event loop.

Everything inside the embedded cluster (API server, controllers, kubelets) reads and writes here. The store handles
versions, conflicts, finalizers and watches; defaults, validation and permissions are the API server's. Stored objects
are never changed in place: `mutate` passes its function a deep copy. All calls are synchronous and atomic, because
everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from chaos.embedded.kinds import Kinds
from chaos.embedded.resources import NAMESPACE, POD, Object, Resource

Key = tuple[str, str]  # (namespace or "", name)
Change = Literal["ADDED", "MODIFIED", "DELETED"]
BACKLOG: Final = 50_000  # changes that a watch may be behind before it is closed
BACKLOG_BYTES: Final = 16 << 20  # likewise, of JSON
BATCH_BYTES: Final = 1 << 20  # of changes that a reader is given at once
HISTORY_BYTES: Final = 24 << 20  # of JSON, that the watch events of all kinds together hold
QUOTA: Final = 96 << 20  # of JSON, that all objects together hold: what users write beyond it is refused
HISTORY: Final = 4096  # watch events kept per resource; a watch from before them is told 410 Expired


class NotFound(LookupError):
    """There is no object of that name."""


class AlreadyExists(ValueError):
    """There is already an object of that name."""


class Conflict(ValueError):
    """The object has changed since the version that the caller read, or has another UID."""


class Expired(ValueError):
    """The requested version is older than the kept history."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change of one object, and the version of the change."""

    type: Change
    object: Object
    version: int
    before: Object | None = None  # the object before the change: a selector may match one and not the other
    size: int = 0  # of the object, in bytes of JSON


def now() -> str:
    """The current time as metav1.Time: RFC 3339 in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def copy(obj: Object) -> dict[str, Any]:
    """A deep copy of a JSON object."""
    result: dict[str, Any] = orjson.loads(orjson.dumps(obj))
    return result


class Watch:
    """A subscription with one reader: an asynchronous iterator of WatchEvents; `close` it, or use `with`."""

    def __init__(self, table: _Table, namespace: str | None, backlog: list[WatchEvent]) -> None:
        self._table = table
        self._namespace = namespace
        self._events: deque[WatchEvent | None] = deque()
        self._behind = 0  # bytes that its reader has yet to take
        self._reader: asyncio.Future[None] | None = None  # that waits for a change
        self._patience = math.inf  # until when, by the loop's clock
        self._alarm: asyncio.TimerHandle | None = None  # kept from wait to wait: most end by a change, long before it
        for event in backlog:
            self.offer(event)

    def offer(self, event: WatchEvent) -> None:
        if self._namespace is None or event.object["metadata"].get("namespace", "") == self._namespace:
            if len(self._events) >= BACKLOG or self._behind > BACKLOG_BYTES:  # its reader sleeps: it must list again
                self.close()
            else:
                self._behind += event.size
                self._put(event)

    def close(self) -> None:
        self._table.watches.discard(self)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._put(None)

    def _put(self, event: WatchEvent | None) -> None:
        self._events.append(event)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def batch(self, timeout: float) -> list[WatchEvent | None]:
        """Wait for changes: at least one, at most about BATCH_BYTES of them; None in it marks the end. Raises
        TimeoutError after `timeout` seconds.
        """
        events = [await self.next(timeout)]
        size = events[0].size if events[0] is not None else 0
        while self._events and size < BATCH_BYTES:
            event = self._take()
            events.append(event)
            size += event.size if event is not None else 0
        return events

    def _take(self) -> WatchEvent | None:
        event = self._events.popleft()
        if event is not None:
            self._behind -= event.size
        return event

    async def next(self, timeout: float | None = None) -> WatchEvent | None:
        """Wait for the next change; None when closed. Raises TimeoutError after `timeout` seconds."""
        if not self._events:
            await self._change(timeout)
        return self._take()

    async def _change(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._patience = math.inf if timeout is None else loop.time() + timeout
        if self._alarm is not None and self._alarm.when() > self._patience:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None and timeout is not None:
            self._alarm = loop.call_at(self._patience, self._ring)
        self._reader = loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _ring(self) -> None:
        self._alarm = None
        if self._reader is None or self._reader.done() or self._patience == math.inf:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._patience:
            self._alarm = loop.call_at(self._patience, self._ring)
        else:
            self._reader.set_exception(TimeoutError())

    async def __aiter__(self) -> AsyncIterator[WatchEvent]:
        while (event := await self.next()) is not None:
            yield event


class _Table:
    __slots__ = ("history", "objects", "oldest", "sizes", "watches")

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.history: deque[WatchEvent] = deque()
        self.sizes: dict[Key, int] = {}  # of the objects, in bytes of JSON
        self.oldest = 0  # versions at or below this can no longer be watched from
        self.watches: set[Watch] = set()


class Store:
    """Versioned objects of all served kinds."""

    def __init__(self) -> None:
        self.version = 1
        self.kinds = Kinds()  # of the objects; the controller of definitions adds to them
        self.size = 0  # bytes of JSON of all objects
        self._history_size = 0
        self._tables: dict[tuple[str, str], _Table] = {}

    def _table(self, resource: Resource) -> _Table:
        return self._tables.setdefault((resource.group, resource.plural), _Table())

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Get an object; raises NotFound. `namespace` is "" for cluster-scoped kinds."""
        try:
            return self._table(resource).objects[namespace, name]
        except KeyError:
            raise NotFound(f'{resource.plural} "{name}" not found') from None

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Get an object; None when there is none."""
        return self._table(resource).objects.get((namespace, name))

    def list(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """List a kind's objects, of one namespace or (None) of all, ordered by key."""
        objects = self._table(resource).objects
        return [objects[key] for key in sorted(objects) if namespace is None or key[0] == namespace]

    def list_at(self, resource: Resource, namespace: str | None, version: int) -> Sequence[Object]:
        """List a kind's objects as they were at a version; raises Expired when the changes since are no longer kept."""
        table = self._table(resource)
        if version < table.oldest:
            raise Expired(f"too old resource version: {version} ({table.oldest})")
        objects = dict(table.objects)
        for event in reversed(table.history):
            if event.version <= version:
                break
            meta = event.object["metadata"]
            key = (meta.get("namespace", ""), meta["name"])
            if event.before is None:
                objects.pop(key, None)
            else:
                objects[key] = event.before
        return [objects[key] for key in sorted(objects) if namespace is None or key[0] == namespace]

    def create(self, resource: Resource, obj: Object) -> Object:
        """Store a new object with a fresh UID, version and creation time; raises AlreadyExists."""
        new = copy(obj)
        meta = new.setdefault("metadata", {})
        if not meta.get("name"):
            meta["name"] = meta["generateName"] + random_suffix()
        key = (meta.get("namespace", ""), meta["name"])
        table = self._table(resource)
        if key in table.objects:
            raise AlreadyExists(f'{resource.plural} "{key[1]}" already exists')
        new.setdefault("apiVersion", resource.api_version)
        new.setdefault("kind", resource.kind)
        meta["uid"] = meta.get("uid") or str(uuid.uuid4())  # a Job's is given by admission, its selector holds it
        meta["creationTimestamp"] = now()
        return self._commit(table, "ADDED", key, new, None)

    def update(self, resource: Resource, obj: Object) -> Object:
        """Replace an object; raises NotFound, and Conflict when `metadata.resourceVersion` or `uid` is set and stale.

        An unchanged object is not stored and makes no event. An object that is being deleted and has lost its last
        finalizer is removed.
        """
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        table = self._table(resource)
        before = table.objects.get(key)
        if before is None:
            raise NotFound(f'{resource.plural} "{key[1]}" not found')
        held = before["metadata"]
        if (meta.get("resourceVersion") or held["resourceVersion"]) != held["resourceVersion"]:
            raise Conflict(
                f'Operation cannot be fulfilled on {resource.plural} "{key[1]}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
        if (meta.get("uid") or held["uid"]) != held["uid"]:
            raise Conflict(
                f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {held['uid']}"
            )
        new = copy(obj)
        for name in ("uid", "creationTimestamp", "resourceVersion"):
            new["metadata"][name] = held[name]
        if new == before:
            return before
        if self._gone(resource, new):
            return self._commit(table, "DELETED", key, new, before)
        return self._commit(table, "MODIFIED", key, new, before)

    def mutate(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[dict[str, Any]], object],
        *,
        uid: str | None = None,
    ) -> Object:
        """Apply `change` to a copy of the object, and store it. Raises NotFound, and Conflict for another UID."""
        current = self.get(resource, namespace, name)
        if uid is not None and current["metadata"]["uid"] != uid:
            raise Conflict(
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['metadata']['uid']}"
            )
        new = copy(current)
        change(new)
        return self.update(resource, new)

    def remove(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> Object:
        """Remove the object at once, whatever its finalizers; raises NotFound or Conflict. Ends a pod's deletion."""
        current = self.get(resource, namespace, name)
        if uid is not None and current["metadata"]["uid"] != uid:
            raise Conflict(
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['metadata']['uid']}"
            )
        return self._commit(self._table(resource), "DELETED", (namespace, name), copy(current), current)

    def watch(self, resource: Resource, namespace: str | None = None, since: int | None = None) -> Watch:
        """Watch changes after version `since` (None: from now on). Raises Expired when they are no longer kept."""
        table = self._table(resource)
        if since is not None and since < table.oldest:
            raise Expired(f"too old resource version: {since} ({table.oldest})")
        backlog = [] if since is None else [event for event in table.history if event.version > since]
        watch = Watch(table, namespace, backlog)
        table.watches.add(watch)
        return watch

    @staticmethod
    def _gone(resource: Resource, obj: Mapping[str, Any]) -> bool:
        """Whether nothing holds a deleted object any longer. A pod on a node waits for its kubelet (grace period 0)."""
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta or meta.get("finalizers"):
            return False
        if resource is NAMESPACE:
            return not obj.get("spec", {}).get("finalizers")
        return bool(resource is not POD or meta.get("deletionGracePeriodSeconds", 0) == 0)

    def _commit(self, table: _Table, change: Change, key: Key, obj: dict[str, Any], before: Object | None) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        size = len(orjson.dumps(obj))
        self.size -= table.sizes.pop(key, 0)
        if change == "DELETED":
            del table.objects[key]
        else:
            table.objects[key] = obj
            table.sizes[key] = size
            self.size += size
        event = WatchEvent(change, obj, self.version, before, size)
        table.history.append(event)
        self._history_size += size
        while len(table.history) > HISTORY or (self._history_size > HISTORY_BYTES and table.history):
            gone = table.history.popleft()
            table.oldest = gone.version
            self._history_size -= gone.size
        for watch in tuple(table.watches):
            watch.offer(event)
        return obj


_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' rand.String: no vowels, no look-alikes


def random_suffix(length: int = 5) -> str:
    """A suffix for generateName, in Kubernetes' alphabet (k8s.io/apimachinery/pkg/util/rand)."""
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in uuid.uuid4().bytes[:length])
