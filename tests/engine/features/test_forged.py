"""A forged proxy of each mode and layer gets nothing, in a running mesh."""

from __future__ import annotations

import pytest

from chaos.engine.features.context import CheckContext
from chaos.engine.features.forged import check_forged
from chaos.model.modes import MODES
from chaos.verdict import Verdict

pytestmark = pytest.mark.privileged
QUICK = "ambient-node"
APART = [name for name, mode in MODES.items() if mode.hops and not mode.in_pod]


@pytest.mark.parametrize(
    "where",
    [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow]) for name in APART],
    indirect=True,
    scope="module",
)
def test_a_forged_proxy_of_each_kind_gets_no_traffic(where: CheckContext) -> None:
    found = check_forged(where)
    assert len(found) == len(where.mode.kinds)
    assert [one for one in found if one.verdict is not Verdict.PASS] == []
