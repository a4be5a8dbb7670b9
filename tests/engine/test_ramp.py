"""What a ramp found, and the load that a trial makes of it."""

from __future__ import annotations

import pytest

from chaos.engine.ramp import Ramp, at_rate
from chaos.faults.overload import Overload
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Proxy

PROXY = Proxy("s", "p", "proxy", "u", "n1", frozenset({Layer.L4}), Scope.NODE, "n1", "node-proxy", 225)


@pytest.mark.parametrize(("used", "fills"), [(None, False), (0.6, False), (0.9, True), (1.01, True)])
def test_a_load_fills_a_proxy_that_used_up_its_limit(used: float | None, fills: bool) -> None:
    assert Ramp(500.0, "slow", False, used).fills is fills


def test_what_was_found_is_said_with_who_gave_out() -> None:
    assert Ramp(500.0, "slow", False, 0.97).said(PROXY) == (
        "the path gave out at 500 requests/s (the loader says: slow), and s/p[proxy] used 0.97 of its CPU limit"
    )
    assert "the loader itself came late" in Ramp(9000.0, "shed", True, None).said(PROXY)
    assert "was not read" in Ramp(9000.0, "shed", True, None).said(PROXY)


def test_a_trials_load_goes_on_from_below_the_rate_that_was_found_to_above_it() -> None:
    fault = at_rate(Overload(server="a/s", start_rate=10.0), Ramp(500.0, "slow", False, 1.0))
    assert fault.start_rate < 500.0
    assert fault.max_rate > 2 * 500.0  # what gives out at twice that rate is still found
