"""The clock that a runner uses, injectable."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a runner needs of time."""

    def now(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        """Wait `seconds`, or less when `until` is set meanwhile; return whether it was set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        return (until or threading.Event()).wait(max(0.0, seconds))
