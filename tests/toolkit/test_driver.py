"""What an experiment chooses and cannot be chosen is said, before anything is broken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import NoTargets
from chaos.faults.stop_node import StopNode
from chaos.toolkit.driver import FaultDriver


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_node_is_not_chosen_by_tenants_that_have_no_pod(which: str) -> None:
    placement = SimpleNamespace(nodes_of=lambda workload: [])
    tenants = [SimpleNamespace(client=f"tenant-{name}/client") for name in "ab"]
    deployment = SimpleNamespace(tenants=tenants, placement=lambda: placement)
    driver = FaultDriver(cast(Any, SimpleNamespace(deployment=deployment, cluster=None)))
    with pytest.raises(NoTargets, match=r"tenant-./client, which chooses it, has no pod now: name the node itself"):
        driver.break_node(StopNode(), which, deadline=1.0)
