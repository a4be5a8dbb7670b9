"""A fault without a target."""

from __future__ import annotations

import pytest

from chaos.errors import NoTargets
from chaos.faults.injection import injected
from chaos.faults.kill import Kill


def test_a_fault_without_a_target_is_an_error_and_touches_nothing() -> None:
    with pytest.raises(NoTargets), injected(None, Kill(), run="r"):  # type: ignore[arg-type]
        pytest.fail("the block must not run")
