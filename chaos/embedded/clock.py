"""The embedded cluster's one clock, injectable for tests, and Kubernetes' time formats."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

LONGEST: Final = 100 * 365 * 86_400  # seconds: what people ask for, however much, stays within what a date can say


class Clock(Protocol):
    """Tells the time of day, with a time zone."""

    def now(self) -> datetime: ...


class SystemClock:
    """The system's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """Format a UTC time as metav1.Time: whole seconds. (strftime writes the year 1 as `1`.)"""
    return at.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def micro_stamp(at: datetime) -> str:
    """Format a UTC time as metav1.MicroTime."""
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Parse a Kubernetes time, with or without a fraction."""
    return datetime.fromisoformat(text)
