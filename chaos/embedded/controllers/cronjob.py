"""CronJob: create Jobs on a schedule (`chaos.embedded.cron`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chaos.embedded.clock import parse_time, stamp
from chaos.embedded.controllers.base import (
    Controller,
    Source,
    controller_of,
    is_terminating,
    its_controller,
    itself,
    owner_reference,
)
from chaos.embedded.controllers.job_rules import is_over
from chaos.embedded.cron import Schedule, next_after, parse_schedule
from chaos.embedded.objects import is_true
from chaos.embedded.resources import CRON_JOB, JOB, Object
from chaos.embedded.store import AlreadyExists, Key, copy


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

    def _start_due(self, cron: Object, jobs: Sequence[Object], schedule: Schedule, zone: ZoneInfo) -> float | None:
        """Start the most recent missed run unless it is too late; seconds until the next."""
        now = self.clock.now()
        earliest = parse_time(cron.get("status", {}).get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
        limit = cron["spec"].get("startingDeadlineSeconds")
        if limit is not None:
            earliest = max(earliest, now - timedelta(seconds=limit))
        due: datetime | None = None
        at = next_after(schedule, earliest, zone)
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
            at = next_after(schedule, at, zone)
        if due is not None:
            self._start(cron, jobs, due.astimezone(zone))
        upcoming = next_after(schedule, now, zone)
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
        """Update the list of active Jobs and the time of the last success."""
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
