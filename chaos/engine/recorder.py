"""Records what Kubernetes reports while trials run: Events, containers' states, CPU and memory.

Lives as long as the deployment, and writes into whichever history is open: `with recorder.into(writer)`. Watches run in
threads that a blocked read may keep alive for up to a minute after `stop`; they write nothing any more by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import urllib3

from chaos.engine.outside import deletion_of, disruption_of
from chaos.engine.usage import Facts, Key, UsageReader, choose_reader, digits_of
from chaos.errors import ApiError, SharedfateError
from chaos.history.model import EventKind
from chaos.history.store import HistoryWriter
from chaos.kube.client import Cluster
from chaos.kube.objects import ContainerSeen, containers_seen

Object = Mapping[str, Any]


def detect_changes(old: Mapping[str, ContainerSeen], new: Mapping[str, ContainerSeen]) -> list[ContainerSeen]:
    """Return the current state of the containers that changed."""
    return [seen for name, seen in new.items() if old.get(name) != seen]


def event_facts(event: Object) -> dict[str, Any]:
    """Return what a history keeps of a Kubernetes Event."""
    about = event.get("involvedObject") or event.get("regarding") or {}
    series = event.get("series") or {}
    return {
        "namespace": event["metadata"].get("namespace", ""),
        "type": event.get("type", ""),
        "reason": event.get("reason", ""),
        "message": event.get("message") or event.get("note") or "",
        "object": f"{about.get('kind', '')}/{about.get('name', '')}",
        "uid": about.get("uid", ""),
        "field": about.get("fieldPath", ""),
        "count": series.get("count") or event.get("count") or 1,
        "time": event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime") or "",
    }


class Recorder:
    """Follows Pods and Events of some namespaces and polls their usage.

    Args:
        run: label of the pods that read usage, where the cluster needs them.
        every: seconds between two questions for usage; where nothing can be read, it is asked once.
    """

    def __init__(self, cluster: Cluster, namespaces: Sequence[str], *, run: str, every: float = 1.0) -> None:
        self.cluster, self.namespaces, self.run, self.every = cluster, tuple(namespaces), run, every
        self._usage: UsageReader | None = None
        self._choosing = threading.Lock()
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._writer: HistoryWriter | None = None
        self._pods: dict[str, dict[str, ContainerSeen]] = {}
        self._disrupted: set[str] = set()  # UIDs of pods whose disruption was told
        self._deleted: set[str] = set()  # UIDs of pods whose deletion was told
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> Recorder:
        for namespace in self.namespaces:
            self._spawn(f"pods-{namespace}", partial(self._follow_pods, namespace))
            self._spawn(f"events-{namespace}", partial(self._follow_events, namespace))
        self._spawn("usage", self._poll_usage)
        return self

    def stop(self) -> None:
        """Stop writing. Safe to repeat."""
        self._stop.set()
        with self._lock:
            self._writer = None

    def __enter__(self) -> Recorder:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @contextmanager
    def into(self, writer: HistoryWriter) -> Iterator[None]:
        """Write into this history until the block is left; begin with every container's present state."""
        with self._lock:
            self._writer = writer
            for pod in self._pods.values():
                for seen in pod.values():
                    writer.event(EventKind.CONTAINER, asdict(seen))
        try:
            yield
        finally:
            with self._lock:
                self._writer = None

    def _spawn(self, name: str, run: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except (SharedfateError, urllib3.exceptions.HTTPError, OSError) as error:  # a cluster that has ended, too
                if not self._stop.is_set():
                    self.failures.append(f"{name}: {error}")
                    self._tell(EventKind.NOTE, {"recorder": name, "failed": str(error)})

        thread = threading.Thread(target=guarded, name=f"recorder-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tell(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        with self._lock:
            if self._writer is not None:
                self._writer.event(kind, data)

    def _follow_pods(self, namespace: str) -> None:
        for change in self.cluster.follow("Pod", namespace, stop=self._stop):
            self._process_pod(change.type, change.object)

    def _process_pod(self, change: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        with self._lock:
            if uid not in self._deleted and (at := deletion_of(pod)) and self._writer is not None:
                self._deleted.add(uid)
                self._writer.event(EventKind.NOTE, {"deletion": uid, "pod": pod["metadata"]["name"], "asked": at})
            if change == "DELETED":
                self._pods.pop(uid, None)
                if self._writer is not None:
                    self._writer.event(
                        EventKind.CONTAINER,
                        {
                            "namespace": pod["metadata"]["namespace"],
                            "uid": uid,
                            "pod": pod["metadata"]["name"],
                            "state": "gone",
                        },
                    )
                return
            if uid not in self._disrupted and (why := disruption_of(pod)) and self._writer is not None:
                self._disrupted.add(uid)
                self._writer.event(EventKind.NOTE, {"disrupted": why, "uid": uid})
            now = containers_seen(pod)
            changes = detect_changes(self._pods.get(uid, {}), now)
            self._pods[uid] = now
            if self._writer is not None:
                for seen in changes:
                    self._writer.event(EventKind.CONTAINER, asdict(seen))

    def _follow_events(self, namespace: str) -> None:
        listed = {
            one["metadata"]["uid"]: one["metadata"]["resourceVersion"] for one in self.cluster.list("Event", namespace)
        }
        for change in self.cluster.follow("Event", namespace, stop=self._stop):
            meta = change.object["metadata"]
            if listed.get(meta["uid"]) == meta["resourceVersion"]:
                continue  # from before the recorder
            if change.type != "DELETED":
                self._tell(EventKind.KUBERNETES, event_facts(change.object))

    def _poll_usage(self) -> None:
        while not self._stop.is_set():
            try:
                found = self.read_usage()
            except ApiError as error:
                if error.code in (403, 404, 503):
                    self.failures.append(f"usage: {error}")
                    self._tell(EventKind.NOTE, {"recorder": "usage", "failed": str(error)})
                    return
                raise
            for facts in found:
                self._tell(EventKind.USAGE, facts)
            self._stop.wait(self.every)

    def read_usage(self) -> list[Facts]:
        """Return what each pod uses now (`chaos.engine.usage`); raises ApiError when nothing can be read."""
        with self._choosing:
            if self._usage is None:
                self._usage = choose_reader(
                    self.cluster, self.namespaces, run=self.run, containers=self._running_containers
                )
            return self._usage.read()

    def _running_containers(self) -> dict[str, Key]:
        with self._lock:
            seen = [one for pod in self._pods.values() for one in pod.values() if one.container_id]
        return {digits_of(one.container_id): (one.namespace, one.pod, one.container) for one in seen}
