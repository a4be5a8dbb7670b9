"""Schedules of CronJobs and their times, as Kubernetes' own parser reads them (github.com/robfig/cron v3).

Not a Python library: the API server answers in that parser's words, which are compared with recordings, and its rules
are its own (`?`, `@every`; a step clears a field's star; a time that daylight saving skips is left out, one that it
repeats comes twice).
"""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

_DESCRIPTORS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = {
    name: index + 1
    for index, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
}
_DAYS: Final = {name: index for index, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: Final[tuple[tuple[int, int, dict[str, int]], ...]] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_ZONE: Final = re.compile(r"[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_YEARS: Final = 5  # within which a schedule must come true


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a Job is due: at the minutes that match all fields, or at the interval `every`.

    Attributes:
        either_day: days and weekdays are both restricted, and either may match.
    """

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()  # 0: Sunday
    either_day: bool = False
    every: timedelta | None = None

    def _fits(self, at: datetime) -> bool:
        day, weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        return day or weekday if self.either_day else day and weekday


def parse_schedule(text: str) -> Schedule:
    """Parse a cron line or a descriptor; raises ValueError in the words of Kubernetes' parser."""
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, _, text = text.partition(" ")
        name = zone.partition("=")[2]
        if zone_fault(name):
            raise ValueError(f"provided bad location {name}: unknown time zone {name}")
        text = text.strip()
    if text.startswith("@every "):
        return Schedule(every=_duration(text))
    if text.startswith("@") and text not in _DESCRIPTORS:
        raise ValueError(f"unrecognized descriptor: {text}")
    fields = _DESCRIPTORS.get(text, text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    found, stars = [], []
    for field, bounds in zip(fields, _FIELDS, strict=True):
        ranges = [_range(part, *bounds) for part in field.split(",")]
        found.append(frozenset(one for values, _ in ranges for one in values))
        stars.append(any(star for _, star in ranges))
    minutes, hours, days, months, weekdays = found
    return Schedule(minutes, hours, days, months, weekdays, either_day=not (stars[2] or stars[4]))


def next_after(schedule: Schedule, after: datetime, zone: tzinfo = UTC) -> datetime | None:
    """The first scheduled time after `after` (aware) in that zone, in UTC; None when none comes within five years."""
    if schedule.every is not None:
        return after.astimezone(UTC).replace(microsecond=0) + schedule.every
    at = (after.astimezone(UTC) + timedelta(minutes=1)).replace(second=0, microsecond=0)
    last = at + timedelta(days=366 * _YEARS)
    while at < last:
        local = at.astimezone(zone)
        if local.month not in schedule.months or not schedule._fits(local):
            day = (local.replace(tzinfo=None) + timedelta(days=1)).replace(hour=0, minute=0)
            at = day.replace(tzinfo=zone).astimezone(UTC)
        elif local.hour not in schedule.hours:
            at += timedelta(minutes=60 - local.minute)
        elif local.minute not in schedule.minutes:
            at += timedelta(minutes=1)
        else:
            return at
    return None


def schedule_fault(schedule: str) -> list[str]:
    """Why a schedule is invalid; empty when it is valid."""
    try:
        parse_schedule(schedule)
    except ValueError as error:
        return [str(error)]
    return []


def _duration(text: str) -> timedelta:
    given = text.removeprefix("@every ")
    if not re.fullmatch(rf"({_DURATION.pattern})+", given) or any(
        n.count(".") > 1 for n, _ in _DURATION.findall(given)
    ):
        raise ValueError(f'failed to parse duration {text}: time: invalid duration "{given}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(given))
    return timedelta(seconds=max(1, int(seconds)))


def _range(text: str, low: int, high: int, names: dict[str, int]) -> tuple[range, bool]:
    """(the values of one part of a field, whether it is a star)."""
    whole, *steps = text.split("/")
    ends = whole.split("-")
    if ends[0] in ("*", "?"):
        start, end = low, high
    else:
        start = _number(ends[0], names)
        if len(ends) > 2:
            raise ValueError(f"too many hyphens: {text}")
        end = _number(ends[1], names) if len(ends) == 2 else start
    step = 1
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    if steps:
        step = _number(steps[0], {})
        if len(ends) == 1 and ends[0] not in ("*", "?"):
            end = high
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
    return range(start, end + 1, step), ends[0] in ("*", "?") and step == 1


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise ValueError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)


def zone_fault(zone: str) -> list[str]:
    """Why a time zone's name is invalid; empty when it is valid."""
    if not zone:
        return ["timeZone must be nil or non-empty string"]
    if any(part in (".", "..") or not _ZONE.fullmatch(part) for part in zone.split("/")):
        return [f"unknown time zone {zone}"]
    faults = []
    if zone.lower() == "local":
        faults.append("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
        return faults if zone == "Local" else [*faults, f"unknown time zone {zone}"]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        faults.append(f"unknown time zone {zone}")
    return faults
