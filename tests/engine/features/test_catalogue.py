"""Every check holds in every mode."""

from __future__ import annotations

import pytest

from chaos.engine.features.catalogue import check_features
from chaos.engine.features.context import CheckContext
from chaos.model.modes import MODES
from chaos.verdict import Verdict

pytestmark = pytest.mark.privileged

QUICK = "sidecar"


@pytest.mark.parametrize(
    "where",
    [pytest.param(mode, marks=[] if mode == QUICK else [pytest.mark.slow]) for mode in MODES],
    indirect=True,
    scope="module",
)
def test_every_feature_of_the_mode_is_shown(where: CheckContext) -> None:
    checks = list(check_features(where))
    assert [str(check) for check in checks if check.verdict is not Verdict.PASS] == []
    assert len(checks) >= 7
