"""The kinds that a cluster serves now: the built-in ones, and those that CustomResourceDefinitions bring and take away.

Held by the store, which everything has at hand: the API server looks a path's kind up here, discovery tells what is
here, and the controllers that care for all kinds (namespaces, garbage) are told when one comes. Written by the
controller of the definitions alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

from chaos.embedded.resources import RESOURCES, Resource


class Kinds:
    """Rows of kinds, by group, version and plural."""

    def __init__(self) -> None:
        self._custom: dict[str, tuple[Resource, ...]] = {}  # definition's name -> a row for each served version
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._listeners: set[asyncio.Queue[Resource]] = set()
        self.changes = 0  # how often the kinds have changed: what is made from them is made anew

    def define(self, name: str, rows: Sequence[Resource]) -> None:
        """Serve the rows of a definition, in place of those that it had; the first is that of the version in which
        objects are kept.
        """
        known = self._custom.get(name, ())
        self._custom[name] = tuple(rows)
        self._index()
        if not known and rows:
            for listener in self._listeners:
                listener.put_nowait(rows[0])

    def forget(self, name: str) -> None:
        """Serve a definition's kind no longer."""
        if self._custom.pop(name, None) is not None:
            self._index()

    def _index(self) -> None:
        self._by_path = {(one.group, one.version, one.plural): one for one in self.custom()}
        self.changes += 1

    def custom(self) -> Iterator[Resource]:
        """The rows of all definitions, a row for each served version."""
        for rows in self._custom.values():
            yield from (one for one in rows if one.custom is not None and one.custom.served)

    def find_custom(self, group: str, version: str, plural: str) -> Resource | None:
        """The row that a path names, if a definition brought it."""
        return self._by_path.get((group, version, plural))

    def stored(self) -> list[Resource]:
        """A row for each kind of objects that are stored: the built-in ones and one of each definition."""
        return [*RESOURCES, *(rows[0] for rows in self._custom.values() if rows)]

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row of a kind that a definition brought, as references name it."""
        return next((one for one in self.custom() if (one.api_version, one.kind) == (api_version, kind)), None)

    async def arrivals(self) -> AsyncIterator[Resource]:
        """The kinds that definitions have brought, and those that they will."""
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
