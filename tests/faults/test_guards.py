"""Abort conditions."""

from __future__ import annotations

from chaos.faults.guards import Guard


def test_a_guard_that_cannot_see_does_not_guard() -> None:
    def broken() -> float:
        raise OSError("no data")

    assert Guard("errors", broken, 1.0).tripped() == "errors cannot be measured: OSError: no data"
    assert Guard("errors", lambda: 0.5, 1.0).tripped() == ""
    assert "above its limit 1" in Guard("errors", lambda: 2.0, 1.0).tripped()
    assert "below its limit 1" in Guard("rate", lambda: 0.5, 1.0, below=True).tripped()
