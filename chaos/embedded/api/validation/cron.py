"""Schedules and time zones of CronJobs, refused in the words of Kubernetes' own parser (github.com/robfig/cron)."""

from __future__ import annotations

import re
import zoneinfo
from typing import Final

_WORDS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
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


class _Bad(ValueError):
    """What the parser says."""


def schedule_fault(schedule: str) -> list[str]:
    """What is wrong with a schedule; nothing when it is right."""
    try:
        _parse(schedule)
    except _Bad as error:
        return [str(error)]
    return []


def _parse(schedule: str) -> None:
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        zone, _, schedule = schedule.partition(" ")
        name = zone.partition("=")[2]
        if zone_fault(name):
            raise _Bad(f"provided bad location {name}: unknown time zone {name}")
        schedule = schedule.strip()
    if schedule.startswith("@"):
        if schedule.startswith("@every "):
            if not re.fullmatch(r"([0-9.]+(ns|us|µs|ms|s|m|h))+", schedule.removeprefix("@every ")):
                duration = schedule.removeprefix("@every ")
                raise _Bad(f'failed to parse duration {schedule}: time: invalid duration "{duration}"')
        elif schedule not in _WORDS:
            raise _Bad(f"unrecognized descriptor: {schedule}")
        return
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise _Bad(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for text, bounds in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            _range(part, *bounds)


def _range(text: str, low: int, high: int, names: dict[str, int]) -> None:
    whole, *steps = text.split("/")
    ends = whole.split("-")
    if ends[0] in ("*", "?"):
        start, end = low, high
    else:
        start = _number(ends[0], names)
        if len(ends) > 2:
            raise _Bad(f"too many hyphens: {text}")
        end = _number(ends[1], names) if len(ends) == 2 else start
    step = 1
    if len(steps) > 1:
        raise _Bad(f"too many slashes: {text}")
    if steps:
        step = _number(steps[0], {})
        if len(ends) == 1 and ends[0] not in ("*", "?"):
            end = high
    if start < low:
        raise _Bad(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise _Bad(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise _Bad(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise _Bad(f"step of range should be a positive number: {text}")


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII):
        raise _Bad(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise _Bad(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)


def zone_fault(zone: str) -> list[str]:
    """What is wrong with a time zone's name."""
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
