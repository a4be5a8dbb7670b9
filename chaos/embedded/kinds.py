"""The kinds that a cluster serves: the built-in ones, and those that CustomResourceDefinitions add and remove.

Held by the store, which every part has at hand: the API server resolves a path's kind here, discovery lists it, and the
controllers of all kinds (namespaces, garbage) subscribe to new ones. Only the controller of the definitions writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

from chaos.embedded.resources import RESOURCES, Resource


class Kinds:
    """Served kinds, by group, version and plural."""

    def __init__(self) -> None:
        self._custom: dict[str, tuple[Resource, ...]] = {}  # definition's name -> a row for each served version
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._listeners: set[asyncio.Queue[Resource]] = set()
        self.changes = 0  # how often the kinds have changed: what is made from them is made anew

    def define(self, name: str, rows: Sequence[Resource]) -> None:
        """Serve a definition's versions, replacing earlier ones; the first row is the storage version."""
        known = self._custom.get(name, ())
        self._custom[name] = tuple(rows)
        self._index()
        if not known and rows:
            for listener in self._listeners:
                listener.put_nowait(rows[0])

    def forget(self, name: str) -> None:
        """Stop serving a definition's kind."""
        if self._custom.pop(name, None) is not None:
            self._index()

    def _index(self) -> None:
        self._by_path = {(one.group, one.version, one.plural): one for one in self.custom()}
        self.changes += 1

    def custom(self) -> Iterator[Resource]:
        """All custom kinds, one row per served version."""
        for rows in self._custom.values():
            yield from (one for one in rows if one.custom is not None and one.custom.served)

    def find_custom(self, group: str, version: str, plural: str) -> Resource | None:
        """The custom kind that a path names; None when there is none."""
        return self._by_path.get((group, version, plural))

    def stored(self) -> list[Resource]:
        """One row per stored kind: the built-in ones and one per definition."""
        return [*RESOURCES, *(rows[0] for rows in self._custom.values() if rows)]

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The custom kind that a reference names; None when there is none."""
        return next((one for one in self.custom() if (one.api_version, one.kind) == (api_version, kind)), None)

    async def arrivals(self) -> AsyncIterator[Resource]:
        """Custom kinds that are served, then those that come later."""
        queue: asyncio.Queue[Resource] = asyncio.Queue()
        for rows in self._custom.values():
            if rows:
                queue.put_nowait(rows[0])
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
