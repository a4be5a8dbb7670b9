"""A Job beside the load: what it leaves, and when its work is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from chaos.engine.jobs import JobRun, JobSeen, detect_exits
from chaos.engine.topology import plan_tenants
from chaos.engine.trial import Trial
from chaos.mesh.install import Mesh
from chaos.model.modes import MODES
from chaos.model.placement import Placement
from chaos.verdict import Verdict


@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_goes_takes_nothing_with_it_that_its_namespace_had(mode: str) -> None:
    site = SimpleNamespace(
        mesh=Mesh(Mock(), mode, run="jobs"),
        cluster=Mock(),
        excused=set(),
        placement=Placement(MODES[mode], (), (), ()),
        deployment=SimpleNamespace(tenants=plan_tenants(["n1", "n2"])),
    )
    site.cluster.list.return_value = []
    with JobRun(cast(Trial, site), "x"):
        pass
    deleted = [call.args for call in site.cluster.delete.call_args_list]
    assert deleted == [("Job", "job-x", "tenant-a")]
    assert [call.args[0]["kind"] for call in site.cluster.apply.call_args_list] == ["Job"]


def ended(*codes: int) -> dict[str, object]:
    states = [{"terminated": {"exitCode": code}} for code in codes]
    status = {"name": "job", "state": states[-1], **({"lastState": states[0]} if len(states) > 1 else {})}
    return {"status": {"containerStatuses": [status]}}


@pytest.mark.parametrize(
    ("pods", "answered", "verdict"),
    [
        ([ended(0)], 80, Verdict.PASS),
        ([ended(1)], 80, Verdict.FAIL),
        ([ended(0), ended(0)], 160, Verdict.FAIL),  # twice, in two pods
        ([ended(0, 0)], 80, Verdict.FAIL),  # twice, in one
        ([ended(1), ended(0)], 80, Verdict.PASS),  # tried again, and nothing of the first try counted
        ([ended(0)], 160, Verdict.FAIL),
        ([ended(0)], 40, Verdict.FAIL),
        ([], 0, Verdict.FAIL),
    ],
)
def test_a_jobs_work_is_done_when_it_was_done_once(
    pods: list[dict[str, object]], answered: int, verdict: Verdict
) -> None:
    seen = JobSeen(True, False, len(pods), 0, 1.0, 0.1, "ok", 0, {}, exits=detect_exits(pods), answered=answered)
    assert seen.once(80).verdict is verdict
