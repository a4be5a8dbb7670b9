"""The embedded cluster's one clock, so that controllers can be tested at any hour, and Kubernetes' spelling of
times.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day, always with a time zone."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """As metav1.Time: whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(at: datetime) -> str:
    """As metav1.MicroTime."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """A Kubernetes time, with or without fraction."""
    return datetime.fromisoformat(text)
