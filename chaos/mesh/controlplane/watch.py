"""Follows kinds of objects in threads, hands every change to the event loop, and reports when each list is complete."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import urllib3

from chaos.errors import ApiError
from chaos.kube.client import Cluster, Object

Fold = Callable[[str, str, Object], None]  # kind, ADDED | MODIFIED | DELETED, object
_PAUSE = 0.3


class Watches:
    """One daemon thread per kind. `fold` and `whole` are called on the loop; `whole(kind)` after each complete list."""

    def __init__(self, cluster: Cluster, kinds: Sequence[str], *, fold: Fold, whole: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._kinds = kinds
        self._fold = fold
        self._whole = whole
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        for kind in self._kinds:
            threading.Thread(target=self._follow, args=(kind,), name=f"watch-{kind}", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _follow(self, kind: str) -> None:
        known: dict[str, Object] = {}
        version: str | None = None
        while not self._stop.is_set():
            try:
                if version is None:
                    known, version = self._list(kind, known)
                for change in self._cluster.watch(kind, since=version, seconds=60):
                    version = change.object["metadata"]["resourceVersion"]
                    if change.type == "BOOKMARK":
                        continue
                    uid = change.object["metadata"]["uid"]
                    known[uid] = change.object
                    if change.type == "DELETED":
                        del known[uid]
                    self._tell(self._fold, kind, change.type, change.object)
            except ApiError as error:
                if error.code in (401, 403):
                    raise
                version = None
                self._stop.wait(_PAUSE)
            except (urllib3.exceptions.HTTPError, OSError):
                self._stop.wait(_PAUSE)

    def _list(self, kind: str, known: dict[str, Object]) -> tuple[dict[str, Object], str]:
        items, version = self._cluster.list_at(kind)
        fresh = {item["metadata"]["uid"]: item for item in items}
        for uid in known.keys() - fresh.keys():
            self._tell(self._fold, kind, "DELETED", known[uid])
        for item in fresh.values():
            self._tell(self._fold, kind, "MODIFIED", item)
        self._tell(self._whole, kind)
        return fresh, version

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *values)
