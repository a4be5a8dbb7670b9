"""Cron lines, and the Jobs that a CronJob starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chaos.embedded.clock import stamp
from chaos.embedded.cron import next_after, parse_schedule
from chaos.embedded.resources import CRON_JOB, JOB
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:01:30", "2026-01-01T00:15:00"),
        ("0 9 * * mon", "2026-01-01T00:00:00", "2026-01-05T09:00:00"),
        ("30 23 31 * *", "2026-02-01T00:00:00", "2026-03-31T23:30:00"),
        ("@hourly", "2026-01-01T10:00:00", "2026-01-01T11:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 13 * fri", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),
        ("0 0 1-31 * fri", "2026-01-03T00:00:00", "2026-01-04T00:00:00"),  # every day is no star
        ("0 0 */2 * fri", "2026-01-03T00:00:00", "2026-01-05T00:00:00"),  # nor is one with a step
        ("0 0 * * fri", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),
        ("5/20 * * * *", "2026-01-01T00:06:00", "2026-01-01T00:25:00"),
        ("@every 1h30m", "2026-01-01T10:00:00", "2026-01-01T11:30:00"),
        ("30 2 29 3 *", "2026-03-28T00:00:00+01:00[Europe/Berlin]", "2027-03-29T02:30:00+02:00"),  # skipped in 2026
        ("30 2 * * *", "2026-10-25T02:30:00+02:00[Europe/Berlin]", "2026-10-25T02:30:00+01:00"),  # comes twice
    ],
)
def test_cron_lines_mean_what_cron_means(line: str, after: str, expected: str) -> None:
    instant, _, zone = after.partition("[")
    begin, then = datetime.fromisoformat(instant), datetime.fromisoformat(expected)
    if not zone:
        begin, then = begin.replace(tzinfo=UTC), then.replace(tzinfo=UTC)
    assert next_after(parse_schedule(line), begin, ZoneInfo(zone[:-1] or "UTC")) == then


def test_a_schedule_that_never_comes_has_no_next_time() -> None:
    assert next_after(parse_schedule("0 0 30 2 *"), datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    "line", ["* * * *", "60 * * * *", "* * * * foo", "*/0 * * * *", "@never", "@every x", "* * * * 7", "1-2-3 * * * *"]
)
def test_a_wrong_cron_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_schedule(line)


def test_a_cron_job_starts_the_minute_that_it_missed() -> None:
    async def check(w: World) -> None:
        cron = {
            "metadata": {"name": "c", "namespace": NS},
            "spec": {
                "schedule": "* * * * *",
                "jobTemplate": {"spec": {"template": workload("Job", "x")["spec"]["template"]}},
            },
            "status": {"lastScheduleTime": stamp(datetime.now(UTC) - timedelta(seconds=61))},
        }
        w.store.create(CRON_JOB, cron)
        await w.until(lambda: w.store.list(JOB, NS) and w.pods())
        assert w.store.list(JOB, NS)[0]["metadata"]["name"].startswith("c-")

    run(check)
