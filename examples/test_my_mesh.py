"""A test of your own: `pytest examples --chaos-modes=node`. The model says who must be hurt; the judge says who was."""

from __future__ import annotations

import pytest

from sharedfate import Pause, break_proxy


@pytest.mark.chaos_modes("sidecar", "node")
def test_a_proxy_that_hangs_hurts_just_those_behind_it(chaos_trial, chaos_tenants, chaos_verdict):
    break_proxy(chaos_trial, Pause(), chaos_trial.deployment.proxy_to_break())
    result = chaos_verdict()
    assert any(chaos_tenants[0].client in flow for flow in result.observed["hurt"])
