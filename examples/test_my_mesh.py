"""A test of your own: `pytest examples --chaos-modes=node`. The model says who must be hurt; the judge says who was."""

from __future__ import annotations

import pytest

from chaos.engine.designs import break_proxy
from chaos.faults.pause import Pause


@pytest.mark.chaos_modes("sidecar", "node")
def test_a_proxy_that_hangs_hurts_just_those_behind_it(trial, tenants, verdict):
    break_proxy(trial, Pause(), trial.deployment.proxy_to_break())
    result = verdict()
    assert any(tenants[0].client in flow for flow in result.observed["hurt"])
