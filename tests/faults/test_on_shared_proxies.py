"""Faults of a proxy that tenants share, in a mesh of their own: another test's may stand in the same cluster."""

from __future__ import annotations

import pytest

from chaos.faults.injection import injected
from chaos.faults.misanswer import Misanswer
from chaos.faults.selection import Selector, select
from tests.faults.small_world import RUN, small_world

pytestmark = pytest.mark.privileged


@pytest.mark.slow
def test_a_shared_proxy_that_is_slow_for_one_tenant_is_slow_for_no_other() -> None:
    with small_world("faults-slow-for-one", "node", tenants=("a", "b")) as shared:
        target = select(shared.cluster, frozenset({"container"}), Selector(layer="l7", serving="tenant-a/server"))[0]
        # Beyond the loaders' patience of 0.4 s.
        with injected(shared.cluster, Misanswer(errors=0.0, delay_ms=800, only="tenant-a"), target, run=RUN):
            shared.ill("kept")
            shared.ill("fresh")
            for flow in ("kept", "fresh"):
                assert shared.shares(flow, tenant="b").ok > 0.9
        shared.well("kept")
