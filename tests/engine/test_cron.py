"""A CronJob's runs: which there were, and how they are judged."""

from __future__ import annotations

import pytest

from chaos.engine.cron import SCHEDULED, CronSeen, read_runs
from chaos.mesh import manifests
from chaos.verdict import Verdict
from chaos.verdict.check import merged


def run(stamp: str | None) -> dict[str, object]:
    return {"metadata": {"annotations": {SCHEDULED: stamp} if stamp else {}}}


def test_runs_are_known_by_when_they_were_due() -> None:
    first, second = run("2026-01-01T00:00:00Z"), run("2026-01-01T00:01:00+00:00")
    assert read_runs([second, run(None), first]) == {1767225600.0: first, 1767225660.0: second}


@pytest.mark.parametrize(
    ("seen", "held", "verdict"),
    [
        (CronSeen(("Complete",), 0.4), False, Verdict.PASS),
        (CronSeen(("Complete",), None), False, Verdict.FAIL),
        (CronSeen((), None), False, Verdict.FAIL),  # it hung
        (CronSeen(("Failed",), 0.4), False, Verdict.FAIL),
        (CronSeen((), None), True, Verdict.PASS),
        (CronSeen(("Complete",), 0.4), True, Verdict.FAIL),
        (CronSeen((), 0.4), True, Verdict.FAIL),  # two at a time
    ],
)
def test_the_next_run_comes_where_the_last_one_ends(seen: CronSeen, held: bool, verdict: Verdict) -> None:
    assert merged(seen.judge(held=held)) is verdict


def test_a_cron_job_makes_the_tenants_job_every_minute_and_never_two() -> None:
    [made] = manifests.cron("cron", tenant="a", nodes=["n"], requests=80, interval=0.05, tries=8)
    [job] = manifests.job("cron", tenant="a", nodes=["n"], requests=80, interval=0.05, tries=8)
    assert (made["spec"]["schedule"], made["spec"]["concurrencyPolicy"]) == ("* * * * *", "Forbid")
    spec = made["spec"]["jobTemplate"]["spec"]
    assert spec["template"]["metadata"]["labels"].pop("app") == "cron"
    job["spec"]["template"]["metadata"]["labels"].pop("app")
    assert spec == job["spec"]
