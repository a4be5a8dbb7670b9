"""One watch call: changes after a version as lines of JSON, with bookmarks, 410 when too old, initial events.

Called by the server, which owns the HTTP response; this module turns store events into lines.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import orjson

from chaos.embedded.api import options, tables
from chaos.embedded.api.calls import Call, outward
from chaos.embedded.api.convert import as_served
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.rest import Rest, wants_metadata, wants_table
from chaos.embedded.api.selectors import Predicate
from chaos.embedded.resources import Object
from chaos.embedded.store import Expired, WatchEvent

BOOKMARK_SECONDS: Final = 60.0
LONGEST: Final = 1800.0


def seen_as(event: WatchEvent, predicate: Predicate | None) -> str | None:
    """The event's type for a watcher with that selector, into or out of which an object may move; None when it sees
    nothing.
    """
    if predicate is None:
        return event.type
    after = predicate(event.object)
    before = event.before is not None and predicate(event.before)
    if event.type == "DELETED":
        return "DELETED" if before or after else None
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else None


def _last_seen(event: WatchEvent) -> Object:
    """What goes, as it was before, at the version of its going."""
    if event.before is None:
        return event.object
    meta = {**event.before["metadata"], "resourceVersion": event.object["metadata"]["resourceVersion"]}
    return {**event.before, "metadata": meta}


class Lines:
    """Writes the events of one watch."""

    def __init__(self, rest: Rest, call: Call) -> None:
        self._rest, self._call = rest, call
        self._table, self._metadata = wants_table(call.accept), wants_metadata(call.accept)
        self._header = True

    def event(self, kind: str, obj: Object) -> bytes:
        return orjson.dumps({"type": kind, "object": self._shown(obj)}) + b"\n"

    def _shown(self, obj: Object) -> Any:
        call = self._call
        obj = outward(call, obj) if call.resource.custom is not None else obj
        if self._table:
            header, self._header = self._header, False
            return tables.table(
                call.stored,
                [obj],
                self._rest.clock.now(),
                tables.included(call.query),
                {"resourceVersion": obj["metadata"]["resourceVersion"]},
                header=header,
                form=tables.version(call.accept),
            )
        if self._metadata:
            return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
        return as_served(call.resource, obj)

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        resource = self._call.resource
        body: Mapping[str, Any] = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
        if self._table:
            body = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{tables.version(self._call.accept)}",
                "metadata": meta,
                "columnDefinitions": None,
                "rows": [],
            }
        return orjson.dumps({"type": "BOOKMARK", "object": body}) + b"\n"


def error_line(error: StatusError) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": error.status()}) + b"\n"


def _since(query: Mapping[str, str]) -> int | None:
    """The version to watch from, possibly in the future; StatusError 500 for what is no number, as in Kubernetes."""
    return options.version_asked(query, 1 << 63, listing=False)


async def watch_lines(rest: Rest, call: Call) -> AsyncGenerator[bytes, None]:
    """Lines until the call's timeout; raises StatusError before the first line for a bad request."""
    query = call.query
    predicate, lines = rest.predicate(call), Lines(rest, call)
    options.check_list(query, watching=True)
    since = _since(query)
    seconds = min(float(options.number(query, "timeoutSeconds") or LONGEST), LONGEST)
    bookmarks = options.is_true(query, "allowWatchBookmarks")
    initial = options.is_true(query, "sendInitialEvents")
    yield b""  # the request is good: the answer may begin
    fresh = initial or not since
    try:
        watch = rest.store.watch(call.stored, call.namespace or None, None if fresh else since)
    except Expired as error:
        yield error_line(StatusError(410, str(error)))
        return
    with watch:
        version = rest.store.version
        if fresh:
            held = [
                obj
                for obj in rest.store.list(call.stored, call.namespace or None)
                if predicate is None or predicate(obj)
            ]
            yield b"".join(lines.event("ADDED", obj) for obj in held)
            if initial:
                yield lines.bookmark(version, initial_end=True)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                events = await watch.batch(min(left, BOOKMARK_SECONDS))
            except TimeoutError:
                if bookmarks and left > BOOKMARK_SECONDS:
                    yield lines.bookmark(rest.store.version)
                continue
            out = []
            for event in events:
                if event is not None and (kind := seen_as(event, predicate)) is not None:
                    out.append(lines.event(kind, _last_seen(event) if kind == "DELETED" else event.object))
            if out:
                yield b"".join(out)
            if None in events:
                return
        if bookmarks:
            yield lines.bookmark(rest.store.version)
