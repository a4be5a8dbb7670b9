"""An event loop whose time jumps to the next timer instead of waiting: hours of controllers' work in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any


class WarpLoop(asyncio.SelectorEventLoop):
    """Never sleeps. Also a Clock, whose time of day goes with the loop's."""

    def __init__(self, at: datetime = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)) -> None:
        self._warped = 0.0
        self._started = at
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._warped

    def now(self) -> datetime:
        return self._started + timedelta(seconds=self._warped)

    def jump(self, seconds: float) -> None:
        self._warped += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: WarpLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout is not None and timeout > 0:
            self._loop.jump(timeout)
        return found


def run_warped(main: Coroutine[Any, Any, Any], loop: WarpLoop) -> Any:
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
