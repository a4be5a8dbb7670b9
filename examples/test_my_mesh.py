"""A test of your own: `pytest examples --chaos-modes=node`. The model says who must be hurt; the judge says who was."""

from __future__ import annotations

import pytest

from chaos.faults.pause import Pause
from chaos.model.faulting import FaultShape


@pytest.mark.chaos_modes("sidecar", "node")
def test_a_proxy_that_hangs_hurts_just_those_behind_it(trial, tenants, verdict):
    proxy = trial.deployment.proxy_to_break()
    trial.expect_fate_of(proxy, fault_shape=FaultShape.HELD)
    trial.break_and_watch(Pause(), trial.container(proxy))
    result = verdict()
    assert any(tenants[0].client in flow for flow in result.observed["hurt"])
