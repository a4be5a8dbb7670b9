"""CronJob: makes Jobs on a schedule. The schedule's arithmetic is pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chaos.embedded.clock import parse_time, stamp
from chaos.embedded.controllers.base import (
    Controller,
    Source,
    controller_of,
    is_terminating,
    is_true,
    its_controller,
    itself,
    owner_reference,
)
from chaos.embedded.controllers.job_rules import is_over
from chaos.embedded.resources import CRON_JOB, JOB, Object
from chaos.embedded.store import AlreadyExists, Key, copy

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = {
    name: n
    for n, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_DAYS: Final = {name: n for n, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_RANGES: Final[tuple[tuple[int, int, dict[str, int]], ...]] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 7, _DAYS),
)
_LOOK_AHEAD: Final = 4 * 366  # days within which a schedule must come true


def parse_schedule(text: str) -> tuple[frozenset[int], ...]:
    """Minutes, hours, days, months and weekdays of a cron line; raises ValueError."""
    parts = _MACROS.get(text.strip(), text).split()
    if len(parts) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(parts)}: {parts}")
    return tuple(_parse_field(part, *bounds) for part, bounds in zip(parts, _RANGES, strict=True))


def _parse_field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for item in text.lower().split(","):
        span, _, step = item.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            start, _, end = span.partition("-")
            first = names[start] if start in names else int(start)
            last = (names[end] if end in names else int(end)) if end else (high if step else first)
        if not low <= first <= last <= high or (step and int(step) < 1):
            raise ValueError(f"{item!r} is not within {low}-{high}")
        found.update(range(first, last + 1, int(step or 1)))
    if high == 7 and 7 in found:
        found.add(0)
    return frozenset(found)


def next_after(schedule: tuple[frozenset[int], ...], after: datetime) -> datetime | None:
    """The first minute after `after` (in its own zone) that the schedule means."""
    minutes, hours, days, months, weekdays = schedule
    any_day, any_weekday = len(days) == 31, len(weekdays & set(range(7))) == 7
    at = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    day = at
    for _ in range(_LOOK_AHEAD):
        weekday = (day.weekday() + 1) % 7
        # as cron: when both days are given, either will do
        fits = (
            (day.day in days or weekday in weekdays)
            if not any_day and not any_weekday
            else (day.day in days and weekday in weekdays)
        )
        if day.month in months and fits:
            for hour in sorted(h for h in hours if h >= day.hour):
                first = day.minute if hour == day.hour else 0
                for minute in sorted(m for m in minutes if m >= first):
                    return day.replace(hour=hour, minute=minute)
        day = (day + timedelta(days=1)).replace(hour=0, minute=0)
    return None


class CronJobController(Controller):
    name = "cronjob-controller"

    def sources(self) -> Sequence[Source]:
        return [(CRON_JOB, itself), (JOB, its_controller("CronJob"))]

    def reconcile(self, key: Key) -> float | None:
        cron = self.store.find(CRON_JOB, *key)
        if cron is None or is_terminating(cron):
            return None
        jobs = [
            job
            for job in self.store.list(JOB, key[0])
            if (controller_of(job) or {}).get("uid") == cron["metadata"]["uid"]
        ]
        cron = self._account(cron, jobs)
        self._tidy(cron, jobs)
        if cron["spec"].get("suspend"):
            return None
        try:
            schedule = parse_schedule(cron["spec"]["schedule"])
            zone = ZoneInfo(cron["spec"].get("timeZone") or "UTC")
        except (ValueError, ZoneInfoNotFoundError) as error:
            self.recorder.event(
                cron, "Warning", "UnparseableSchedule", f"unparseable schedule {cron['spec']['schedule']!r}: {error}"
            )
            return None
        return self._start_due(cron, jobs, schedule, zone)

    def _start_due(
        self, cron: Object, jobs: Sequence[Object], schedule: tuple[frozenset[int], ...], zone: ZoneInfo
    ) -> float | None:
        """Start the most recent missed time, if it is not too late; seconds to the next."""
        now = self.clock.now().astimezone(zone)
        earliest = parse_time(
            cron.get("status", {}).get("lastScheduleTime") or cron["metadata"]["creationTimestamp"]
        ).astimezone(zone)
        limit = cron["spec"].get("startingDeadlineSeconds")
        if limit is not None:
            earliest = max(earliest, now - timedelta(seconds=limit))
        due: datetime | None = None
        at = next_after(schedule, earliest)
        missed = 0
        while at is not None and at <= now:
            due, missed = at, missed + 1
            if missed > 100:  # long asleep: the last minute is near enough, as upstream warns
                self.recorder.event(
                    cron,
                    "Warning",
                    "TooManyMissedTimes",
                    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
                )
                break
            at = next_after(schedule, at)
        if due is not None:
            self._start(cron, jobs, due)
        upcoming = next_after(schedule, now)
        return None if upcoming is None else (upcoming - now).total_seconds() + 0.1

    def _start(self, cron: Object, jobs: Sequence[Object], due: datetime) -> None:
        active = [job for job in jobs if not is_over(job)]
        policy = cron["spec"].get("concurrencyPolicy", "Allow")
        if active and policy == "Forbid":
            self.recorder.event(
                cron,
                "Normal",
                "JobAlreadyActive",
                "Not starting job because prior execution is running and concurrency policy is Forbid",
            )
            return
        if policy == "Replace":
            for job in active:
                self.delete(JOB, job, propagation="Background")
                self.recorder.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {job['metadata']['name']}")
        template = copy(cron["spec"]["jobTemplate"])
        meta = template.get("metadata", {})
        name = f"{cron['metadata']['name']}-{int(due.timestamp()) // 60}"
        new: dict[str, Any] = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": template["spec"],
            "metadata": {
                "name": name,
                "namespace": cron["metadata"]["namespace"],
                "labels": meta.get("labels", {}),
                "annotations": {
                    **meta.get("annotations", {}),
                    "batch.kubernetes.io/cronjob-scheduled-timestamp": due.isoformat(),
                },
                "ownerReferences": [owner_reference(CRON_JOB, cron)],
            },
        }
        try:
            self.create(JOB, new)
        except AlreadyExists:
            return
        self.recorder.event(cron, "Normal", "SuccessfulCreate", f"Created job {name}")
        self.store.mutate(
            CRON_JOB,
            cron["metadata"]["namespace"],
            cron["metadata"]["name"],
            lambda held: held.setdefault("status", {}).__setitem__(
                "lastScheduleTime", stamp(due.astimezone(parse_time("1970-01-01T00:00:00Z").tzinfo))
            ),
        )

    def _account(self, cron: Object, jobs: Sequence[Object]) -> Object:
        """The list of active Jobs, and when one last succeeded."""
        status = copy(cron.get("status", {}))
        before = {ref["uid"] for ref in status.get("active", [])}
        active = [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": job["metadata"]["name"],
                "namespace": job["metadata"]["namespace"],
                "uid": job["metadata"]["uid"],
                "resourceVersion": job["metadata"]["resourceVersion"],
            }
            for job in jobs
            if not is_over(job)
        ]
        for job in jobs:
            if job["metadata"]["uid"] in before and is_over(job):
                outcome = "Complete" if is_true(job, "Complete") else "Failed"
                self.recorder.event(
                    cron,
                    "Normal",
                    "SawCompletedJob",
                    f"Saw completed job: {job['metadata']['name']}, condition: {outcome}",
                )
            done = job.get("status", {}).get("completionTime")
            if done and done > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = done
        if before != {ref["uid"] for ref in active}:
            status["active"] = active
            if not active:
                del status["active"]
        return self.set_status(CRON_JOB, cron, status)

    def _tidy(self, cron: Object, jobs: Sequence[Object]) -> None:
        for kind, field, limit in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            ended = sorted(
                (job for job in jobs if is_true(job, kind)), key=lambda job: job["metadata"]["creationTimestamp"]
            )
            for job in ended[: max(0, len(ended) - cron["spec"].get(field, limit))]:
                self.delete(JOB, job, propagation="Background")
                self.recorder.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {job['metadata']['name']}")
